"""The lecture's retrieval figure: one query, the images that each of several encoders finds nearest, in columns."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nolabel.report._text import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 64
"""pictures up to this side are shown pixel by pixel"""


def columns_figure(
    query: np.ndarray,
    found: Mapping[str, Sequence[np.ndarray]],
    right: Mapping[str, Sequence[bool]] | None = None,
    *,
    name: str = "",
) -> "Figure":
    """The query on the left, then a column an encoder: its nearest images from top to bottom.

    Args:
        query: uint8 (H, W, 3).
        found: name of the encoder -> its nearest images, uint8 (H, W, 3) of any sizes, nearest first.
        right: name of the encoder -> whether each image is of the query's class; those get a frame.
        name: of the query's class.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = max(len(images) for images in found.values())
    with rc_context({"font.family": "DejaVu Sans", "font.size": 8}):
        figure = Figure((1.5 * (len(found) + 1), 1.4 * rows + 0.5), dpi=120, layout="constrained")
        grid = figure.subplots(rows, len(found) + 1, squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=(), yticks=())
            axes.spines[:].set_visible(False)
        _show(grid[0, 0], query)
        grid[0, 0].set_title("query", fontsize=9, fontweight="bold")
        grid[0, 0].set_xlabel(readable(name))
        for column, (encoder, images) in enumerate(found.items(), 1):
            grid[0, column].set_title(readable(encoder), fontsize=9)
            for row, image in enumerate(images):
                _show(grid[row, column], image)
                if right is not None and right[encoder][row]:
                    grid[row, column].spines[:].set(visible=True, color="#009e73", linewidth=3)
    return figure


def _show(axes: "Axes", picture: np.ndarray) -> None:
    axes.imshow(picture, interpolation="nearest" if max(picture.shape[:2]) <= SMALL else "antialiased")
