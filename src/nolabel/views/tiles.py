"""Square parts of images that lie in memory, many of each image at once."""

import torch
from torch import Tensor

SMALLEST_STD = 1e-5


def cut(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """The squares of `side` px of images (B, C, H, W) at `top`, `left`: (B, m, C, side, side).

    Args:
        top, left: int64 (B, m), first row and column; or (B, m, C), for each channel its own. They must lie inside.
    """
    b, channels = images.shape[:2]
    if top.ndim == 2:
        top, left = (at[..., None].expand(-1, -1, channels) for at in (top, left))
    steps = torch.arange(side, device=images.device)
    rows = (top.to(images.device)[..., None] + steps)[..., :, None]
    columns = (left.to(images.device)[..., None] + steps)[..., None, :]
    image = torch.arange(b, device=images.device).view(-1, 1, 1, 1, 1)
    channel = torch.arange(channels, device=images.device).view(1, 1, -1, 1, 1)
    return images[image, channel, rows, columns]


def standardise(parts: Tensor) -> Tensor:
    """Each channel of each part (..., C, h, w) with mean 0 and standard deviation 1 (0 where it is constant)."""
    centred = parts - parts.mean((-2, -1), keepdim=True)
    return centred / centred.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(SMALLEST_STD)
