"""How jigsaw cuts images: sides of cells and tiles, and how many orders are told apart (specification 3.9)."""

from typing import TYPE_CHECKING

from nolabel.encoders.base import SMALLEST
from nolabel.errors import UsageError

if TYPE_CHECKING:
    from nolabel.methods.jigsaw import JigsawOptions


def geometry_of(options: "JigsawOptions", size: int) -> tuple[int, int, int, int]:
    """Tiles a side, sides of cell and tile in pixels, and largest channel shift, for images of `size` px.

    Raises UsageError where cells are larger than the image leaves room for, or tiles than their cells, or where tiles
    are too small for any encoder.
    """
    grid = options.grid or (2 if size <= 32 else 3)
    moving = grid == 3 and size <= 128  # so that the window has room at 96 px too (specification 3.9)
    cell = options.cell or (size - moving) // grid
    tile = options.tile or 4 * round(0.76 * cell / 4) if options.gap else cell
    room = cell - tile - options.min_gap
    if grid * cell > size:
        raise UsageError(
            f"Jigsaw cells of {cell} px, {grid} a side, do not fit images of {size} px: choose a smaller --cell."
        )
    if tile > cell:
        raise UsageError(f"Jigsaw tiles of {tile} px do not fit cells of {cell} px: choose a smaller --tile.")
    if room < 0:
        raise UsageError(
            f"Jigsaw tiles of {tile} px in cells of {cell} px have no gaps of {options.min_gap} px: choose a smaller "
            "--tile or --min-gap."
        )
    if tile < SMALLEST:
        raise UsageError(
            f"Jigsaw tiles of {tile} px are too small for an encoder: train at {grid * 10} px or more."
        )
    shift = (
        options.channel_jitter if options.channel_jitter >= 0 else (0 if cell < 12 else 2 if cell > 60 else 1)
    )
    return grid, cell, tile, min(shift, room // 2)


def usual_orders(grid: int, size: int) -> int:
    """K for `grid` tiles a side and images of `size` px, where none is named."""
    if grid == 2 or size <= 32:
        return 24
    return 64 if size <= 64 else 100
