"""SimCLR's study of augmentations: one branch is distorted by one operation or an ordered pair, the other is not.

Chen, Kornblith, Norouzi, Hinton, ICML 2020, section 3.1 and figure 5: every image is cropped and resized once, both
branches see that crop, and only one of them is changed, so that an operation's effect stands alone. The accuracy is
lower than with both branches changed; it is the comparison that counts.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder
from nolabel.methods.base import DataInfo, Method
from nolabel.methods.simclr import SimCLR, nt_xent, projection_head, retrieval
from nolabel.views import colour, filters, geometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OPERATIONS = ("crop", "cutout", "colour", "sobel", "noise", "blur", "rotate")
"""in the order of figure 5"""
AREA = (0.08, 1.0)
"""shares of an image's area that a crop keeps; colour and blur too are drawn as in the paper's full policy"""


@dataclass(frozen=True)
class CompositionOptions:
    """The cell of figure 5."""

    first: Literal["crop", "cutout", "colour", "sobel", "noise", "blur", "rotate"] = "crop"
    """the operation that comes first"""
    second: Literal["crop", "cutout", "colour", "sobel", "noise", "blur", "rotate"] = "crop"
    """the operation after it; the same as the first: the first alone"""
    temperature: float = 0.2
    """divides the cosines"""


class Composition(Method):
    """f, g and NT-Xent on an image and its distorted twin."""

    Options = CompositionOptions
    recipe = SimCLR.recipe
    paper = SimCLR.paper

    def __init__(self, encoder: Encoder, options: CompositionOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        self.head = projection_head("mlp2_bn", encoder.dim, 512, 128)
        self.operations = tuple(dict.fromkeys((options.first, options.second)))

    @classmethod
    def least_images(cls, options: CompositionOptions) -> int:
        return 2

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        shared = geometry.draw_crop(n, generator, AREA) | geometry.draw_flip(n, generator)
        again = geometry.draw_crop(n, generator, AREA)
        own = {
            **{f"again_{key}": value for key, value in again.items()},
            **filters.draw_cutout(n, generator),
            **colour.draw_jitter(n, generator),
            **colour.draw_grey(n, generator),
            **filters.draw_noise(n, generator),
            **filters.draw_blur(n, generator),
            **geometry.draw_turn(n, generator, (1, 2, 3)),
        }
        return shared | own

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`views` (2 B, 3, s, s): each image and its distorted twin are adjacent."""
        boxes = geometry.boxes(drawn, images.heights, images.widths)
        plain = geometry.crop_resize(images, boxes, self.data.size, drawn["flip"])
        distorted = plain
        for operation in self.operations:
            distorted = apply(operation, distorted, drawn)
        return {"views": torch.stack([plain, distorted], 1).flatten(0, 1)}

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        z = self.head(self.encoder(views["views"])).unflatten(0, (-1, 2))
        return {"loss": nt_xent(z, self.options.temperature), **retrieval(z.detach())}

    def chance_loss(self, images: int) -> float:
        return math.log(2 * images - 1)

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """The loss, and how often a view finds its partner."""
        found = self(views)
        return {name: found[name].item() for name in ("loss", "acc_cross", "acc_all")}

    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """Each image beside its distorted twin."""
        from matplotlib.figure import Figure

        views = self.views(images, self.draw(images.size, generator, 0.0))["views"].permute(0, 2, 3, 1).cpu()
        figure = Figure(figsize=(1.6 * images.size, 3.6), layout="constrained")
        axes = figure.subplots(2, images.size, squeeze=False)
        for axis, picture in zip(axes.T.flat, views.numpy(), strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
        figure.suptitle(
            f"Above: the image; below: its twin after {' and '.join(self.operations)}", fontsize=12
        )
        return figure


def apply(operation: str, images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """One operation of the study on images (B, 3, S, S) in [0, 1]."""
    if operation == "crop":
        return _crop_again(
            images, {key.removeprefix("again_"): drawn[key] for key in drawn if key.startswith("again_")}
        )
    if operation == "colour":
        return colour.grey(colour.jitter(images, drawn), drawn)
    if operation == "sobel":
        return filters.sobel(images)
    if operation == "rotate":
        return geometry.turn(images, drawn["turn"])
    return {"cutout": filters.cutout, "noise": filters.noise, "blur": filters.blur}[operation](images, drawn)


def _crop_again(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """A random part of each image, enlarged to its size (read from eight bits, as all crops are)."""
    side = images.shape[-1]
    batch = ImageBatch.of((images * 255).round().byte())
    boxes = geometry.boxes(drawn, batch.heights, batch.widths)
    return geometry.crop_resize(batch, boxes, side, None)
