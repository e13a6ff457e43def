"""Rotation's picture: an image under its turns, and of a trained net the turn it names and where it looks."""

from typing import TYPE_CHECKING

from torch import Tensor

from nolabel.methods._picture_grid import titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGES = ("it looks here:\nearly stage", "middle stage", "late stage")


def draw(turned: Tensor, turns: tuple[int, ...], shares: Tensor | None, looked_at: Tensor | None) -> "Figure":
    """One row an image, one column a turn: `turned` (B, K, 3, S, S), `turns` in eighths of a full turn.

    Of a trained net `shares` (B, K, K), the probabilities of its answers, and `looked_at` (3, K, S, S) in [0, 1], the
    attention of an early, a middle and a late stage on the turns of the first image, in rows below; else both None.
    """
    from matplotlib.figure import Figure

    images, count = turned.shape[:2]
    rows = images + (0 if looked_at is None else len(looked_at))
    figure = Figure(figsize=(1.7 * count, 1.8 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, count, squeeze=False)
    pictures = turned.permute(0, 1, 3, 4, 2).flatten(0, 1).cpu().numpy()
    for axis, picture in zip(axes[:images].flat, pictures, strict=True):
        axis.imshow(picture, interpolation="nearest")
    for axis, turn in zip(axes[0], turns, strict=True):
        axis.set_title(f"turned {45 * turn}°", fontsize=12)
    if shares is not None and looked_at is not None:
        grey = turned[0].mean(1).cpu().numpy()
        for name, row, heats in zip(STAGES, axes[images:], looked_at.cpu().numpy(), strict=True):
            row[0].set_ylabel(name, fontsize=12)
            for axis, picture, heat in zip(row, grey, heats, strict=True):
                axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
                axis.imshow(heat, cmap="inferno", alpha=0.6, vmin=0, vmax=1)
        best, named = shares.cpu().max(2)
        for i, axis in enumerate(axes[:images].flat):
            share, answer = float(best.flatten()[i]), int(named.flatten()[i])
            right = answer == i % count
            text = f"{'✓' if right else '✗'} says {45 * turns[answer]}°,\n{share:.0%} sure"
            axis.set_xlabel(text, fontsize=12, color="darkgreen" if right else "darkred")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    titled(figure, "Rotation: which way up was the image?")
    return figure
