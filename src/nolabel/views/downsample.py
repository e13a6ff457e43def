"""An image at half its side in two ways: shrunk, with one of several filters, and cut into quarters.

Several, so that a network cannot learn to recognise the one filter (Noroozi et al. 2017, section 3).
"""

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nolabel.views.base import per_image


def _lanczos(reach: int) -> tuple[float, ...]:
    """sinc(x) sinc(x / reach) at the half-integers x within `reach`, normalised to sum 1."""

    def sinc(x: float) -> float:
        return math.sin(math.pi * x) / (math.pi * x)

    taps = [sinc(i + 0.5) * sinc((i + 0.5) / reach) for i in range(-reach, reach)]
    return tuple(tap / sum(taps) for tap in taps)


TAPS = {
    "area": (1 / 2, 1 / 2),
    "bilinear": (1 / 8, 3 / 8, 3 / 8, 1 / 8),
    "bicubic": (-3 / 32, 19 / 32, 19 / 32, -3 / 32),
    "lanczos": _lanczos(4),
}
"""Weights of the pixels around each new one, at distances of ..., 1.5, 0.5, 0.5, 1.5, ... of the old pixels.

`area` is also OpenCV's bilinear filter at this factor, so `bilinear` is the wider triangle that smooths while it
shrinks; `bicubic` (a = -0.75) and `lanczos` (8 taps) are OpenCV's and do not smooth.
"""
KINDS = tuple(TAPS)
"""the numbers in `filter` are positions in this tuple"""


def draw_filter(
    n: int, generator: torch.Generator, kinds: tuple[str, ...] = KINDS, each: bool = False
) -> dict[str, Tensor]:
    """A filter, uniform over `kinds`, for all n images, or for `each` its own: filter, int64 (n,)."""
    choice = torch.randint(len(kinds), (n if each else 1,), generator=generator)
    return {"filter": torch.tensor([KINDS.index(kind) for kind in kinds])[choice].expand(n).clone()}


def halve(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """Images (B, 3, 2h, 2w) shrunk to (B, 3, h, w) with their drawn filter, clipped to [0, 1].

    Borders repeat the outermost pixel.
    """
    kind = drawn["filter"].to(images.device)
    rows, columns = (_matrices(side).to(images)[kind][:, None] for side in images.shape[-2:])
    return (rows @ images @ columns.mT).clamp(0, 1)


@functools.cache
def _matrices(side: int) -> Tensor:
    """Every filter of `KINDS` along an axis of `side` pixels, as a matrix: (4, side // 2, side)."""
    result = torch.zeros(len(KINDS), side // 2, side)
    centre = 2 * torch.arange(side // 2)
    for kind, taps in enumerate(TAPS.values()):
        for offset, tap in enumerate(taps, 1 - len(taps) // 2):
            source = (centre + offset).clamp(0, side - 1)
            result[kind, torch.arange(side // 2), source] += tap
    return result


def quarters(images: Tensor) -> Tensor:
    """The four quarters of every image (B, 3, 2h, 2h), adjacent, rows first: (4B, 3, h, h)."""
    b, c, side, _ = images.shape
    cells = images.reshape(b, c, 2, side // 2, 2, side // 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(4 * b, c, side // 2, side // 2)


def draw_inner(
    n: int, generator: torch.Generator, share: tuple[float, float] = (0.9, 1.0)
) -> dict[str, Tensor]:
    """A square inside each of the four tiles of n images: inner, float32 (n, 4, 3): share of the side, row, column.

    The place is in [0, 1) of what is free.
    """
    low, high = share
    drawn = torch.rand(n, 4, 3, generator=generator)
    drawn[..., 0] = low + (high - low) * drawn[..., 0]
    return {"inner": drawn}


def inner(tiles: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """The drawn square of each tile (4B, 3, h, h), enlarged to the whole tile, clipped to [0, 1].

    Bicubic where the image's drawn filter is `bicubic` or `lanczos`, else bilinear.
    """
    share, row, column = drawn["inner"].to(tiles.device).flatten(0, 1).unbind(1)
    theta = torch.zeros(len(tiles), 2, 3, device=tiles.device)
    theta[:, 0, 0] = theta[:, 1, 1] = share
    theta[:, 0, 2], theta[:, 1, 2] = (2 * column - 1) * (1 - share), (2 * row - 1) * (1 - share)
    grid = F.affine_grid(theta, list(tiles.shape), align_corners=False)
    smooth, sharp = (
        F.grid_sample(tiles, grid, mode=mode, padding_mode="border", align_corners=False)
        for mode in ("bilinear", "bicubic")
    )
    cubic = (drawn["filter"] >= KINDS.index("bicubic")).repeat_interleave(4)
    return torch.where(per_image(cubic, tiles), sharp, smooth).clamp(0, 1)
