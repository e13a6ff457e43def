"""Masks that hide part of an image: the centre, random blocks, a region with a random outline.

The three families of the context encoder (Pathak et al. 2016, section 3.3), one mask an image. True is hidden.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.errors import UsageError

BLOCKS = 4
SMALLEST_CELL = 8
CELLS = 8


Kind = Literal["random_region", "random_block", "central"]


def draw(kind: Kind, n: int, size: int, generator: torch.Generator, same: bool = False) -> dict[str, Tensor]:
    """What the masks of n images of `size` px depend on; `same`: all images get the mask of the first."""
    if kind == "central":
        return {}
    drawn = draw_blocks(n, generator) if kind == "random_block" else draw_region(n, size, generator)
    return {name: value[:1].expand_as(value) if same else value for name, value in drawn.items()}


def hidden(kind: Kind, drawn: dict[str, Tensor], n: int, size: int, fraction: float, side: int) -> Tensor:
    """The masks of n images: bool (n, size, size), True where hidden. `side` is of `central`, `fraction` of the others.

    The random ones are drawn afresh for each image by `draw`, and lie on the device of `drawn`, the CPU.
    """
    if kind == "central":
        return centre(n, size, side)
    return (blocks if kind == "random_block" else region)(drawn, size, fraction)


def hole_side(size: int, fraction: float) -> int:
    """Side in pixels of a centred square of about `fraction` of the image's side: as far from all four edges.

    At least one pixel is hidden, and at least one on each side is not.
    """
    return size - 2 * min(max(1, round(size * (1 - fraction) / 2)), (size - 1) // 2)


def centre(n: int, size: int, side: int) -> Tensor:
    """The same central square of `side` px hidden in n images: bool (n, size, size); `size` - `side` is even."""
    start = (size - side) // 2
    hidden = torch.zeros(size, dtype=torch.bool)
    hidden[start : start + side] = True
    return (hidden[:, None] & hidden).expand(n, size, size)


def draw_blocks(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Where the squares of n images begin: block_place (row, column), float32 (n, 4, 2) in [0, 1)."""
    return {"block_place": torch.rand(n, BLOCKS, 2, generator=generator)}


def blocks(drawn: dict[str, Tensor], size: int, fraction: float) -> Tensor:
    """Four squares that may overlap, together at most `fraction` of the area: bool (n, size, size).

    Each has a pixel at least, however small the fraction.
    """
    side = max(1, int(size * math.sqrt(fraction / BLOCKS)))
    start = (drawn["block_place"] * (size - side + 1)).long()[..., None]
    along = torch.arange(size, device=start.device)
    inside = (along >= start) & (along < start + side)
    return (inside[:, :, 0, :, None] & inside[:, :, 1, None]).any(1)


def draw_region(n: int, size: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The noise whose smooth form outlines the hidden regions of n images of `size` px, and where it is cut.

    Keys: region_noise, float32 (n, g, g), one value for each cell of an eighth of the side (at least 8 px) and two
    beyond; region_place (row, column), float32 (n, 2) in [0, 1).
    """
    cells = -(-size // _cell(size)) + 2
    return {
        "region_noise": torch.rand(n, cells, cells, generator=generator),
        "region_place": torch.rand(n, 2, generator=generator),
    }


def region(drawn: dict[str, Tensor], size: int, fraction: float) -> Tensor:
    """Regions of exactly `fraction` of the area, rounded to a pixel, never none or all: bool (n, size, size).

    Uniform noise enlarged bicubically, of which the lowest values are hidden. The released code thresholds such noise
    at a fixed level and draws until the area suits; here every image has the threshold that its area asks for.
    """
    noise, cell = drawn["region_noise"], _cell(size)
    smooth = F.interpolate(noise[:, None], scale_factor=cell, mode="bicubic", align_corners=False)[:, 0]
    start = cell // 2 + (drawn["region_place"] * cell).long()
    along = start[..., None] + torch.arange(size, device=start.device)
    image = torch.arange(len(noise), device=start.device)[:, None, None]
    values = smooth[image, along[:, 0, :, None], along[:, 1, None]].flatten(1)
    count = min(max(1, round(fraction * size * size)), size * size - 1)
    lowest = values.topk(count, largest=False, sorted=False).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, lowest, True).view(-1, size, size)


def rim_weights(side: int, overlap: int, weight: float) -> Tensor:
    """`weight` on a rim `overlap` px wide and 1 inside: float32 (side, side).

    Raises:
        UsageError: the rim leaves nothing inside.
    """
    if 2 * overlap >= side:
        raise UsageError(
            f"An overlap of {overlap} px leaves nothing of a hole of {side} px: choose a smaller overlap."
        )
    weights = torch.full((side, side), weight)
    weights[overlap : side - overlap, overlap : side - overlap] = 1
    return weights


def _cell(size: int) -> int:
    """Side in pixels of a cell of the noise: the paper's code has 16.7 px at 128 px."""
    return max(SMALLEST_CELL, round(size / CELLS))
