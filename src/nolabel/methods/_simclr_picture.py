"""SimCLR's picture: the views of each image, and of a trained net which other view it takes for the nearest."""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import evaluating
from nolabel.methods._picture_grid import titled
from nolabel.views import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nolabel.methods.simclr import SimCLR


def panel(method: "SimCLR", images: ImageBatch, generator: torch.Generator, trained: bool) -> "Figure":
    """Each image and its views at the end of a run; of a trained net also the view that is nearest to each."""
    views = method.views(images, method.draw(images.size, generator, progress=0.999))["views"]
    nearest = None
    if trained:
        with evaluating(method):
            nearest = nearest_other(method.embed(views)[1], method.options.normalise)
    return draw(plain.whole(images, views.shape[-1]), views.unflatten(0, (images.size, -1)), nearest)


def nearest_other(z: Tensor, normalise: bool) -> Tensor:
    """The number, among the n V views, of the other view most similar to each one: int64 (n, V) of z (n, V, d)."""
    u = z.flatten(0, 1).float()
    u = F.normalize(u, dim=1) if normalise else u
    return (u @ u.T).fill_diagonal_(-torch.inf).argmax(1).unflatten(0, z.shape[:2])


def draw(whole: Tensor, views: Tensor, nearest: Tensor | None) -> "Figure":
    """Each image a row: `whole` (B, 3, s, s) and its `views` (B, V, 3, s, s).

    Below, where `nearest` (B, V) is given, the view of that number, marked right if it is of the same image.
    """
    from matplotlib.figure import Figure

    count, columns = views.shape[:2]
    lines = 1 if nearest is None else 2
    figure = Figure(figsize=(1.6 * (columns + 1), 1.75 * lines * count + 0.7), layout="constrained")
    axes = figure.subplots(lines * count, columns + 1, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, name in zip(axes[0], ("image", *(f"view {v + 1}" for v in range(columns))), strict=True):
        axis.set_title(name, fontsize=12)
    for row, images in zip(axes[::lines], torch.cat([whole[:, None], views], 1), strict=True):
        for axis, image in zip(row, images, strict=True):
            axis.imshow(image.clamp(0, 1).permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
    if nearest is not None:
        every = views.flatten(0, 1).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        for number, row in enumerate(axes[1::2]):
            row[0].set_axis_off()
            row[0].text(0.5, 0.5, "nearest to\neach view", fontsize=12, ha="center", va="center")
            for axis, found in zip(row[1:], nearest[number].tolist(), strict=True):
                right = found // columns == number
                axis.imshow(every[found], interpolation="nearest")
                told = "✓ same image" if right else "✗ another image"
                axis.set_xlabel(told, fontsize=12, color="darkgreen" if right else "darkred")
    titled(figure, "SimCLR: the views of one image must find each other")
    return figure
