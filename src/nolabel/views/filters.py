"""Filters of SimCLR's augmentation study: Gaussian blur, cutout, Sobel, noise.

The paper prints no parameters for the last three: the ranges are ours.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nolabel.views import _kernels
from nolabel.views.base import coin, per_image, uniform


def draw_blur(
    n: int, generator: torch.Generator, sigma: tuple[float, float] = (0.1, 2.0), p: float = 0.5
) -> dict[str, Tensor]:
    """Gaussian blur with probability `p` (SimCLR, appendix A): blur, bool (n,); sigma in pixels (n,)."""
    return {"blur": coin(n, p, generator), "sigma": uniform(n, *sigma, generator)}


def blur_radius(side: int) -> int:
    """Taps on each side of the centre: the kernel is 10 % of the image's side (SimCLR, appendix A)."""
    return side // 10 // 2


def gaussian(sigma: Tensor, radius: int) -> Tensor:
    """Normalised Gaussian taps at -radius ... radius: (B, 2 * radius + 1); sigma 0 is the identity."""
    x = torch.arange(-radius, radius + 1, device=sigma.device)
    taps = torch.exp(-0.5 * (x / sigma.clamp(min=1e-6)[:, None]) ** 2)
    return taps / taps.sum(1, keepdim=True)


def blur(images: Tensor, drawn: dict[str, Tensor], padding: Literal["reflect", "zero"] = "reflect") -> Tensor:
    """The images whose coin shows blur, blurred with their sigma; the others as they are.

    With "reflect" equal to torchvision's `gaussian_blur`; "zero" is the released SimCLR code, which darkens
    borders.
    """
    radius = blur_radius(min(images.shape[-2:]))
    taps = gaussian(drawn["sigma"], radius)
    if padding == "reflect" and _kernels.usable(images):
        return _kernels.change(images, {"blur": drawn["blur"], "taps": taps})
    taps = taps.to(images.device)
    padded = F.pad(images, (radius,) * 4, mode="constant" if padding == "zero" else padding)
    height, width = images.shape[-2:]
    rows = torch.zeros_like(padded[..., :height, :])
    for k in range(2 * radius + 1):
        rows += per_image(taps[:, k], images) * padded[..., k : k + height, :]
    result = torch.zeros_like(images)
    for k in range(2 * radius + 1):
        result += per_image(taps[:, k], images) * rows[..., k : k + width]
    return torch.where(per_image(drawn["blur"], images), result, images)


def draw_cutout(
    n: int, generator: torch.Generator, side: tuple[float, float] = (0.25, 0.5)
) -> dict[str, Tensor]:
    """One square an image: cutout, float32 (n, 3): share of the side, place (row, column) in [0, 1)."""
    sides = uniform(n, *side, generator)
    return {"cutout": torch.cat([sides[:, None], torch.rand(n, 2, generator=generator)], 1)}


def cutout(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """The drawn square of each image set to 0; the square lies inside the image."""
    height, width = images.shape[-2:]
    share, row, column = drawn["cutout"].to(images.device).view(-1, 3, 1, 1, 1).unbind(1)
    side = (share * min(height, width)).round()
    top, left = (row * (height - side + 1)).floor(), (column * (width - side + 1)).floor()
    y = torch.arange(height, device=images.device).view(-1, 1)
    x = torch.arange(width, device=images.device)
    inside = (y >= top) & (y < top + side) & (x >= left) & (x < left + side)
    return images.masked_fill(inside, 0.0)


def sobel(images: Tensor) -> Tensor:
    """Length of the two 3 x 3 derivatives of each channel, divided by its bound 4 sqrt(2): in [0, 1]."""
    padded = F.pad(images, (1,) * 4, mode="replicate")
    smooth_rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    smooth_columns = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    across = smooth_rows[..., 2:] - smooth_rows[..., :-2]
    down = smooth_columns[..., 2:, :] - smooth_columns[..., :-2, :]
    return (across.square() + down.square()).sqrt() / math.sqrt(32)


def draw_noise(
    n: int, generator: torch.Generator, sigma: tuple[float, float] = (0.0, 0.1)
) -> dict[str, Tensor]:
    """Noise of n images: noise_sigma, float32 (n,); noise_seed, int64 (n,) in [0, 2**31)."""
    return {
        "noise_sigma": uniform(n, *sigma, generator),
        "noise_seed": torch.randint(2**31, (n,), generator=generator),
    }


def noise(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """Independent N(0, sigma^2) added to every value, clipped to [0, 1]; it follows from the image's seed.

    Two hashed numbers of (seed, position) go through the Box-Muller transform, so the draw stays one number
    an image.
    """
    seed = drawn["noise_seed"].to(images.device)[:, None]
    position = torch.arange(images[0].numel(), device=images.device)
    first, second = ((_hash(_hash(seed + stream) + position) + 0.5) / 2**32 for stream in (0, 2**31))
    normal = (-2 * first.log()).sqrt() * (2 * math.pi * second).cos()
    return (images + per_image(drawn["noise_sigma"], images) * normal.view_as(images)).clamp(0, 1)


def _hash(x: Tensor) -> Tensor:
    """A bijection of 32-bit numbers (in int64) that leaves no visible order: two multiply-xorshift rounds."""
    for factor in (0x7FEB352D, 0x846CA68B):
        x = (x ^ (x >> 16)) * factor & 0xFFFFFFFF
    return x ^ (x >> 16)
