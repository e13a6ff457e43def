"""Counting's picture: an image and its quarters, and what a trained net counts in them."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nolabel.methods._picture_grid import titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")
PLACES = ((0.0, 0.53), (0.53, 0.53), (0.0, 0.0), (0.53, 0.0))
"""colour and lower left corner of each quarter, rows first"""
UNITS = 5
"""units drawn, those that count most"""
TITLES = ("the image, halved", "its four quarters", "counts: the same image", "counts: another image")
LEGEND = (
    "Grey bar: a whole image. Coloured bars: the four quarters, one on the other.\n"
    "Equal height: the counts add up, as they must for the same image and must not for another one.\n"
    "Below the bars: how far apart all counts are; 0% is equal, 100% that no unit counts in both."
)


def draw(
    whole: Tensor, tiles: Tensor, counts: tuple[Tensor, Tensor, Tensor] | None, grey_p: float
) -> "Figure":
    """One row an image: `whole` (B, 3, h, h), its quarters `tiles` (B, 4, 3, h, h), and bars of `counts`.

    `counts`: of the whole (B, k), of the quarters (B, 4, k), of the other image (B, k); None: no bars. `grey_p`: the
    share of the images that lose their colour, which is told.
    """
    from matplotlib.figure import Figure

    rows, columns = len(whole), 2 if counts is None else 4
    below = 0 if counts is None else 1
    figure = Figure(figsize=(2.5 * columns, 2.3 * rows + 1.2 + 3.6 * below), layout="constrained")
    grid = figure.add_gridspec(rows + below, columns, height_ratios=[1.0] * rows + [1.6] * below)
    axes = np.array([[figure.add_subplot(grid[row, at]) for at in range(columns)] for row in range(rows)])
    for axis, title in zip(axes[0], TITLES[:columns], strict=True):
        axis.set_title(title, fontsize=12)
    for row, four in enumerate(tiles.permute(0, 1, 3, 4, 2).cpu().numpy()):
        axes[row, 0].imshow(whole[row].permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
        for axis in axes[row, :2]:
            axis.set_axis_off()
        axes[row, 1].set_box_aspect(1)
        for tile, place, colour in zip(four, PLACES, COLOURS, strict=True):
            inset = axes[row, 1].inset_axes((*place, 0.47, 0.47))
            inset.imshow(tile, interpolation="nearest")
            inset.set(xticks=[], yticks=[])
            for edge in inset.spines.values():
                edge.set(color=colour, linewidth=2.5)
    told = (
        [f"{grey_p:.0%} of the images lose their colour in training,\nso that no count rests on it."]
        if grey_p
        else []
    )
    if counts is not None:
        of_each = tuple(values.cpu() for values in counts)
        _bars(axes[:, 2:], *of_each)
        _scatter(figure.add_subplot(grid[rows, :]), *of_each)
        told.append(LEGEND)
    figure.supxlabel("\n".join(told), fontsize=12)
    titled(figure, "Counting: do the quarters add up to the whole?")
    return figure


def _bars(axes: Any, whole: Tensor, tiles: Tensor, other: Tensor) -> None:
    """Per image two charts: a grey bar for each unit beside the stacked bars of the quarters."""
    units = tiles.sum(1).mean(0).topk(min(UNITS, tiles.shape[2])).indices
    heights = torch.stack([whole, tiles.sum(1), other])[..., units]
    top = 1.1 * heights.max().clamp_min(torch.finfo(heights.dtype).tiny).item()
    at = torch.arange(len(units)).numpy()
    charts = [(counts, apart(counts, tiles.sum(1))) for counts in (whole, other)]
    for row, four in enumerate(tiles[..., units].numpy()):
        for axis, (counts, far) in zip(axes[row], charts, strict=True):
            axis.set_xlabel(f"differ by {far[row]:.0%}", fontsize=11)
            axis.bar(at - 0.2, counts[row, units].numpy(), 0.36, color="dimgrey")
            floor = four[0] * 0
            for values, colour in zip(four, COLOURS, strict=True):
                axis.bar(at + 0.2, values, 0.36, bottom=floor, color=colour)
                floor = floor + values
            axis.set(xticks=[], ylim=(0, top))
    axes[0, 0].set_ylabel("count", fontsize=12)
    for axis in axes[-1]:
        axis.set_xlabel(f"{axis.get_xlabel()}\nthe {len(units)} units\nthat count most", fontsize=11)


def apart(one: Tensor, other: Tensor) -> Tensor:
    """How far counts (B, k) are from being equal, (B,): 0 where they are, 1 where no unit counts in both."""
    larger = torch.maximum(one, other).sum(1)
    return (one - other).abs().sum(1) / larger.clamp_min(torch.finfo(larger.dtype).tiny)


def _scatter(axis: Any, whole: Tensor, tiles: Tensor, other: Tensor) -> None:
    """Every unit of every image: the quarters' counts together against the count of the whole, and of another one."""
    together = tiles.sum(1)
    heights = torch.stack([whole, together, other])
    top = 1.05 * heights.max().clamp_min(torch.finfo(heights.dtype).tiny).item()
    axis.plot([0, top], [0, top], color="lightgrey", linewidth=1.5, zorder=0)
    for counts, marker, colour, name in (
        (other, "x", "tab:red", "another image: anywhere"),
        (whole, "o", "dimgrey", "the same image: near the line, where they add up"),
    ):
        axis.scatter(
            together.flatten().numpy(),
            counts.flatten().numpy(),
            s=24,
            marker=marker,
            color=colour,
            alpha=0.7,
            label=name,
        )
    axis.set(xlim=(0, top), ylim=(0, top), aspect="equal", xticks=[], yticks=[])
    axis.set_xlabel("the four quarters' counts together, every unit", fontsize=11)
    axis.set_ylabel("count of a whole image", fontsize=11)
    axis.legend(fontsize=10, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False)
