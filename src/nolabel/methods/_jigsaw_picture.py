"""Jigsaw's picture: puzzle, the trained net's answer, and solution of each image."""

from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from nolabel.methods._picture_grid import titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(puzzle: Tensor, solution: Tensor, answer: Tensor | None, right: Tensor | None) -> "Figure":
    """Each image a row; tiles (B, n, 3, p, p) in the order of their places.

    Args:
        answer: how the net puts them; None: it is not asked.
        right: bool (B,), whether that is the solution.
    """
    from matplotlib.figure import Figure

    columns = [("the puzzle", puzzle), ("solution", solution)]
    if answer is not None:
        columns.insert(1, ("the network's answer", answer))
    figure = Figure(figsize=(2.6 * len(columns), 2.7 * len(puzzle) + 0.6), layout="constrained")
    axes = figure.subplots(len(puzzle), len(columns), squeeze=False)
    for b, row in enumerate(axes):
        for axis, (title, shown) in zip(row, columns, strict=True):
            _show(axis, shown[b])
            axis.set(xticks=[], yticks=[])
            if not b:
                axis.set_title(title, fontsize=12)
        if right is not None:
            told, colour = ("✓ right", "darkgreen") if right[b] else ("✗ wrong", "darkred")
            row[1].set_xlabel(told, fontsize=12, color=colour)
    titled(figure, "Jigsaw: in which order were the tiles shuffled?")
    return figure


def _show(axis: Any, parts: Tensor) -> None:
    """Tiles (n, 3, p, p) side by side with a white seam."""
    grid, seam = round(len(parts) ** 0.5), max(1, parts.shape[-1] // 12)
    padded = F.pad(parts, (seam,) * 4, value=1.0).unflatten(0, (grid, grid))
    sheet = padded.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    axis.imshow(sheet.clamp(0, 1).cpu().numpy(), interpolation="nearest")
