"""The eight places around a patch, the pairs on a grid that lie so, and their picture."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nolabel.methods._picture_grid import titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PLACES = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
"""(rows down, columns right) of the second patch from the first, by label; people count them from 1"""


GEOMETRY = {32: (12, 5, 1), 64: (12, 5, 1), 96: (16, 8, 1), 128: (24, 12, 2)}
"""images up to so many px -> patch, gap and shift; above, in proportion to 128 px"""


def geometry_of(size: int, patch: int = 0, gap: int = -1, jitter: int = -1) -> tuple[int, int, int]:
    """Patch, gap and largest shift in pixels for images of `size` px, where not named (specification 2.8)."""
    fit = next((values for most, values in GEOMETRY.items() if size <= most), None)
    side, between, shift = fit or tuple(round(value * size / 128) for value in GEOMETRY[128])
    if patch:
        side, between, shift = patch, patch // 2, max(1, patch // 12)
    return side, between if gap < 0 else gap, shift if jitter < 0 else jitter


def pairs_of_grid(rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """All ordered pairs of neighbours on a grid: positions of the first and the second, and label, each (P,)."""
    found = [
        (y * columns + x, (y + dy) * columns + x + dx, label)
        for y in range(rows)
        for x in range(columns)
        for label, (dy, dx) in enumerate(PLACES)
        if 0 <= y + dy < rows and 0 <= x + dx < columns
    ]
    first, second, labels = torch.tensor(found).unbind(1)
    return first, second, labels


def share_named(named: Tensor, labels: Tensor, layout: str) -> Tensor:
    """Share of pairs whose place is named right, int64 (P,) both, every place counting alike: a scalar.

    On a grid straight neighbours are more than slanting ones, so that the commonest place alone would be named right
    more often than one in eight. `free` pairs are drawn evenly.
    """
    right = (named == labels).float()
    if layout == "free":
        return right.mean()
    weight = 1 / torch.bincount(labels, minlength=len(PLACES)).clamp_min(1)[labels]
    return (right * weight).sum() / weight.sum()


def draw(
    layout: str, n: int, grids: int, size: int, geometry: tuple[int, int, int], generator: torch.Generator
) -> dict[str, Tensor]:
    """Where patches are cut from n images enlarged to about `size` px; `geometry` is patch, gap and largest shift.

    `size` (0-d), as large as the patches need; `at`, int64 (n, m, 2), top and left of the m patches; for `free`, where
    an image has `grids` pairs at any place, also `labels`, int64 (n, grids).
    """
    side, gap, shift = geometry
    pitch = side + gap
    if layout == "free":
        labels = torch.randint(len(PLACES), (n, grids), generator=generator)
        away = torch.tensor(PLACES)[labels] * pitch
        room = size - side - 2 * shift - away.abs()
        first = (torch.rand(n, grids, 2, generator=generator) * (room + 1)).long() - away.clamp_max(0)
        corner, more = torch.stack([first, first + away], 2), {"labels": labels}
    else:
        cells = 3 if layout == "centre" else min(4, (size - 2 * shift + gap) // pitch)
        extent = cells * pitch - gap + 2 * shift
        size = max(size, extent)
        free = size - extent
        origin = torch.tensor(free // 2)
        if layout == "grid":
            origin = torch.randint(free + 1, (n, grids, 1, 2), generator=generator)
        corner = origin + torch.cartesian_prod(torch.arange(cells), torch.arange(cells)) * pitch
        corner, more = corner.expand(n, grids, -1, -1), {}
    moved = torch.randint(2 * shift + 1, corner.shape, generator=generator)
    return {"size": torch.tensor(size), "at": (corner + moved).flatten(1, 2)} | more


def pairs(layout: str, patches: int, grids: int) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of the first and the second patch of every pair in an image of `patches`, and the labels: each (P,).

    Of `free` pairs the labels are all 0: they are drawn.
    """
    each = patches // grids
    if layout == "free":
        first, second, labels = torch.tensor([[0], [1], [0]])
    else:
        first, second, labels = pairs_of_grid(math.isqrt(each), math.isqrt(each))
    if layout == "centre":
        around = first == 4
        first, second, labels = first[around], second[around], labels[around]
    start = each * torch.arange(grids)[:, None]
    return (start + first).flatten(), (start + second).flatten(), labels.repeat(grids)


def draw_places(whole: Tensor, grid: Tensor, side: int, places: Tensor, named: Tensor | None) -> "Figure":
    """Each image a column: the pair above; below, the image with the first patch and the eight places.

    Args:
        whole: (B, 3, S, S) in [0, 1].
        grid: int64 (9, 2), top and left of the nine cells, the first patch in the middle one.
        places: int64 (B,), where the second patch was taken, in [0, 8).
        named: int64 (B,), what the net says; None: it is not asked.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    figure = Figure(figsize=(3.0 * len(whole), 5.4), layout="constrained")
    axes = figure.subplots(2, len(whole), squeeze=False, height_ratios=(1, 2.2))
    corners = grid.tolist()
    for b, place in enumerate(places.tolist()):
        second = place + (place >= 4)
        first, other = (whole[b, :, y : y + side, x : x + side] for y, x in (corners[4], corners[second]))
        pair = torch.cat([first, torch.ones(3, side, max(1, side // 8)), other], 2)
        axes[0, b].imshow(pair.permute(1, 2, 0).numpy(), interpolation="nearest")
        axes[0, b].set_title("first, second patch", fontsize=12)
        axes[1, b].imshow(whole[b].permute(1, 2, 0).numpy(), interpolation="nearest")
        answer = None if named is None else int(named[b])
        for cell, (y, x) in enumerate(corners):
            label = None if cell == 4 else cell - (cell > 4)
            edge = (
                "white"
                if label is None
                else "lime"
                if label == place
                else "red"
                if label == answer
                else "gold"
            )
            at = (x - 0.5, y - 0.5)
            axes[1, b].add_patch(Rectangle(at, side, side, fill=False, edgecolor=edge, linewidth=2.5))
            if label is not None:
                middle = (x + side / 2, y + side / 2)
                number = axes[1, b].text(
                    *middle, str(label + 1), color=edge, fontsize=13, ha="center", va="center"
                )
                number.set_path_effects([withStroke(linewidth=2.5, foreground="black")])
        told = f"the second lies at {place + 1}"
        if answer is not None:
            told = (
                f"✓ named {answer + 1}"
                if answer == place
                else f"✗ named {answer + 1}, it lies at {place + 1}"
            )
        colour = "black" if answer is None else "darkgreen" if answer == place else "darkred"
        axes[1, b].set_xlabel(told, fontsize=12, color=colour)
        for axis in axes[:, b]:
            axis.set(xticks=[], yticks=[])
    wrong = "" if named is None else ", red: where the network says, if wrong"
    figure.supxlabel(f"White: the first patch, green: the second{wrong}", fontsize=12)
    titled(figure, "Context prediction: where does the second patch lie?")
    return figure
