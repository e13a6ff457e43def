"""CIE Lab (D65) and YUV of RGB images, batched and with gradients."""

import torch
from torch import Tensor

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_FROM_XYZ = (
    (3.24048134, -1.53715152, -0.49853633),
    (-0.96925495, 1.87599, 0.04155593),
    (0.05564664, -0.20404134, 1.05731107),
)
_WHITE = (0.95047, 1.0, 1.08883)
_TO_YUV = ((0.299, 0.587, 0.114), (-0.147108, -0.288804, 0.435912), (0.614777, -0.514799, -0.099978))


def rgb_to_lab(images: Tensor) -> Tensor:
    """sRGB (B, 3, H, W) in [0, 1] to Lab: L in [0, 100], a in [-86.2, 98.3], b in [-107.9, 94.5]."""
    linear = torch.where(images <= 0.04045, images / 12.92, ((images + 0.055) / 1.055).clamp_min(0) ** 2.4)
    xyz = _mixed(linear, _TO_XYZ) / images.new_tensor(_WHITE).view(3, 1, 1)
    f = torch.where(xyz > 0.008856, xyz.clamp_min(1e-6) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_to_rgb(images: Tensor) -> Tensor:
    """Lab (B, 3, H, W) to sRGB in [0, 1]; colours that sRGB does not have are cut."""
    lightness, a, b = images.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, (y - b / 200).clamp_min(0)], 1)
    xyz = torch.where(f > 0.2068966, f**3, (f - 16 / 116) / 7.787) * images.new_tensor(_WHITE).view(3, 1, 1)
    linear = _mixed(xyz, _FROM_XYZ).clamp_min(0)
    encoded = torch.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055
    )
    return encoded.clamp(0, 1)


def rgb_to_yuv(images: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in [0, 1] to Y in [0, 1], U within 0.436 and V within 0.615 of 0 (BT.601)."""
    return _mixed(images, _TO_YUV)


def yuv_to_rgb(images: Tensor) -> Tensor:
    """The inverse of `rgb_to_yuv`, cut to [0, 1]."""
    y, u, v = images.unbind(1)
    return torch.stack([y + 1.14025 * v, y - 0.39473 * u - 0.58081 * v, y + 2.03252 * u], 1).clamp(0, 1)


def _mixed(images: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", images.new_tensor(matrix), images)
