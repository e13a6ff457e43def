"""What the context encoder measures and shows: errors of hidden pixels, and a grid of pictures."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean colour (B, 3, 1, 1) of `values` (B, 3, s, s) under `weights` (B, 1, s, s)."""
    return (values * weights).sum((2, 3), keepdim=True) / weights.sum((2, 3), keepdim=True)


def measures(painted: Tensor, truth: Tensor, hidden: Tensor) -> dict[str, float]:
    """`l1`, `l2` and `psnr` (dB, peak 1) over the hidden pixels: of each image, then the mean.

    Section 4.1 of the context encoder gives l1 and l2 in per cent.

    Args:
        painted, truth: (B, 3, s, s) in [0, 1]
        hidden: bool (B, 1, s, s), not all False in any image
    """
    error, count = (painted - truth) * hidden, 3 * hidden.sum((1, 2, 3))
    l1, l2 = error.abs().sum((1, 2, 3)) / count, error.square().sum((1, 2, 3)) / count
    psnr = -10 * l2.clamp_min(1e-10).log10()
    return {"l1": l1.mean().item(), "l2": l2.mean().item(), "psnr": psnr.mean().item()}


def picture_grid(columns: dict[str, Tensor], title: str) -> "Figure":
    """A row for each image and a titled column for each entry (B, 3, s, s) in [0, 1]."""
    from matplotlib.figure import Figure

    rows = len(next(iter(columns.values())))
    figure = Figure(figsize=(max(4.0, 1.7 * len(columns)), 1.7 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (name, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(name, fontsize=12)
        for axis, picture in zip(axes[:, column], pictures.permute(0, 2, 3, 1).cpu().numpy(), strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
    figure.suptitle(title, fontsize=13)
    return figure
