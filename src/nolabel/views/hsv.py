"""Hue, saturation and value, and the contrast changes of Exemplar (Dosovitskiy et al., 2014)."""

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDING = 1e-6
"""saturation or value up to which a pixel is grey or black: a power below 1 would make a colour of it"""


def rgb_to_hsv(images: Tensor) -> Tensor:
    """RGB (B, 3, H, W) in [0, 1] to hue in [0, 1), saturation and value in [0, 1]; hue of grey is 0."""
    value, _ = images.max(1)
    spread = value - images.amin(1)
    safe = spread.clamp_min(1e-12)
    r, g, b = images.unbind(1)
    hue = torch.where(
        value == r, (g - b) / safe % 6, torch.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4)
    )
    hue = torch.where(spread > 0, hue / 6 % 1, torch.zeros_like(hue))
    return torch.stack([hue, spread / value.clamp_min(1e-12), value], 1)


def hsv_to_rgb(images: Tensor) -> Tensor:
    """The inverse of `rgb_to_hsv`."""
    hue, saturation, value = images.unbind(1)
    channels = []
    for shift in (5, 3, 1):
        k = (shift + 6 * hue) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, 1)


def scale_components(images: Tensor, components: Tensor, factors: Tensor) -> Tensor:
    """Each pixel's part along the colour components (3, 3; rows) times `factors` (B, 3), cut to [0, 1]."""
    along = torch.einsum("ij,bjhw->bihw", components, images) * factors[:, :, None, None]
    return torch.einsum("ij,bihw->bjhw", components, along).clamp(0, 1)


def change_hsv(images: Tensor, power: Tensor, factor: Tensor, offset: Tensor, hue: Tensor) -> Tensor:
    """Saturation and value to a power, times a factor, plus an offset, each (B, 2); hue (B,) added to the hue."""
    h, sv = rgb_to_hsv(images).split((1, 2), 1)
    sv = F.threshold(sv, ROUNDING, 0.0) ** power[:, :, None, None]
    sv = sv * factor[:, :, None, None] + offset[:, :, None, None]
    return hsv_to_rgb(torch.cat([(h + hue.view(-1, 1, 1, 1)) % 1, sv.clamp(0, 1)], 1))
