"""Counting: the things in an image are those in its four quarters together.

Noroozi, Pirsiavash, Favaro, "Representation learning by learning to count", ICCV 2017. A network φ gives k counts
of primitives that nobody named. With D∘x the image at half its size and T_j∘x its quarters, the counts must obey
φ(D∘x) = Σ_j φ(T_j∘x) (section 3, equation 2). Counting nothing obeys this too, so the quarters of x must not add up to
the counts of another image y: the loss is |φ(D∘x) - Σ_j φ(T_j∘x)|² + max(0, M - |φ(D∘y) - Σ_j φ(T_j∘x)|²) (equation 3).

The paper's values, as `PAPER_IMAGENET` (section 4): images of 256 px cut to 224, tiles of 112; grey with p = 0.67;
one of four filters D drawn a step; M = 10; AlexNet with fully connected layers of 4096, 4096 and 1000 units; SGD at
1e-4, times 0.9 every 10,000 steps. Batch and length are not known, those here are ours.

The scaled defaults (ours) are for minutes on a processor: an average pool and a hidden layer of 512, fewer counts,
AdamW with a cosine. The other image is another one of the step, whose counts are there already: five views, not six.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from nolabel import distributed
from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder, evaluating, map_shapes
from nolabel.errors import UsageError
from nolabel.methods import _counting_picture, _tallies
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.views import colour, downsample, geometry
from nolabel.views.base import per_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CountingOptions:
    """What can be chosen about counting."""

    counts: int = 0
    """length k of the vector of counts; 0: 64 up to 32 px, 128 up to 96 px, else 256 (paper 1000)"""
    margin: float = 10.0
    """M: squared distance beyond which another image's counts are far enough"""
    contrastive: bool = True
    """whether other images' counts must differ; without it, counting nothing is a solution"""
    hinge: Literal["per_pair", "per_element"] = "per_pair"
    """`per_element` asks every single count to differ, an unofficial code's mistake"""
    negative: Literal["roll", "any"] = "roll"
    """the other image: `roll` never takes the image itself, `any` may, as unofficial code does"""
    symmetric_loss: bool = False
    """whether the quarters of the other image are also compared with this image"""
    downsample: Literal["random", "area", "bilinear", "bicubic", "lanczos"] = "random"
    """filter that halves the image; a fixed one can be recognised (paper: random)"""
    downsample_per_image: bool = False
    """whether each image draws its own filter, not each step"""
    grey_p: float = 0.67
    """probability of losing the colour, in all five views alike"""
    load_scale: float = 1.125
    """how much larger than the crop the image is loaded (paper 256/224)"""
    central_precrop: bool = True
    """whether crops lie in the central square, where lenses separate the colours least"""
    predownscale: bool = True
    """whether images are resized before the crop, which removes the 8 px grid of JPEG files"""
    tile_resample: bool = False
    """whether quarters are resampled too (90 to 100 % of each), so that only counts tell them from the whole"""
    shared_jitter: float = 0.0
    """strength of a jitter of brightness and contrast, equal in all five views (paper: none)"""
    joint_forward: bool = True
    """whether whole and quarters share BatchNorm's statistics"""
    head: Literal["pooled", "fc"] = "pooled"
    """`pooled`: average, 512, counts; `fc`: a 3x3 pool, 4096, 4096, counts (paper)"""
    count_bias: float = 0.1
    """start of the last bias, cut to where the loss (`per_pair`) starts at M; at 0 units may be dead from the start"""

    def __post_init__(self) -> None:
        if self.margin <= 0 or self.load_scale < 1 or self.counts < 0:
            raise UsageError(
                f"Counting needs margin > 0 (not {self.margin}), load_scale >= 1 (not {self.load_scale}) and "
                f"counts >= 0 (not {self.counts})."
            )


PAPER_IMAGENET = (
    CountingOptions(counts=1000, load_scale=256 / 224, head="fc"),
    Recipe(
        batch_size=128, optimizer="sgd", lr=1e-4, momentum=0.9, weight_decay=5e-4, schedule="step", warmup=0.0,
        drops=tuple(i / 30 for i in range(1, 30)), drop_factor=1 / 0.9, epochs=30.0,
    ),
)  # fmt: skip
"""section 4: AlexNet on tiles of 112 px; 30 epochs are 300,000 steps"""


def counting_loss(
    whole: Tensor, parts: Tensor, other: Tensor, margin: float, hinge: str = "per_pair"
) -> tuple[Tensor, Tensor]:
    """The two terms of equation 3 for every image, each (B,): parts add up to the whole, and not to the other.

    `whole` φ(D∘x) (B, k), `parts` the sum of φ(T_j∘x) (B, k), `other` φ(D∘y) (B, k).
    """
    positive, apart = (whole - parts).square().sum(1), (other - parts).square()
    if hinge == "per_pair":
        return positive, (margin - apart.sum(1)).clamp_min(0)
    return positive, (margin - apart).clamp_min(0).mean(1)


class Counting(Method):
    """An encoder and a head whose outputs are counts, never negative."""

    Options = CountingOptions
    recipe = Recipe(batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05, stem="whitened",
                    batchnorm="reestimated")  # fmt: skip
    paper = "Noroozi, Pirsiavash, Favaro, ICCV 2017"
    explained = (
        "Count the things in a picture, then in its four quarters: the sums must agree. Nobody says which things; the "
        "network has to find some that can be counted, and they must differ from picture to picture. It sees the "
        "whole picture at half its size, so it must recognise a thing at two scales. Two pictures in three are shown "
        "to it in grey, so that it cannot count colours alone."
    )
    when = (
        "When images show several things of a kind, at 64 px or more: a quarter of 32 px shows little. As a second "
        "task beside others rather than the first to try, since its loss can fall without anything being counted."
    )
    undefended = {"downsample": "area", "grey_p": 0.0, "central_precrop": False, "predownscale": False}

    def __init__(self, encoder: Encoder, options: CountingOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        self.side = data.size // 2
        counts = options.counts or (64 if data.size <= 32 else 128 if data.size <= 96 else 256)
        if options.head == "pooled":
            layers, dim, hidden = [nn.AdaptiveAvgPool2d(1), nn.Flatten()], encoder.dim, (512,)
        else:
            layers = [nn.MaxPool2d(3, 2, ceil_mode=True), nn.Flatten()]
            channels, side = map_shapes(encoder, self.side)[-1]
            dim, hidden = nn.Sequential(*layers)(torch.zeros(1, channels, side, side)).shape[1], (4096, 4096)
        for width in hidden:
            layers += [nn.Linear(dim, width), nn.ReLU()]
            dim = width
        last = nn.Linear(dim, counts)
        nn.init.constant_(last.bias, min(options.count_bias, math.sqrt(options.margin / (9 * counts))))
        self.head = nn.Sequential(*layers, last, nn.ReLU())

    @classmethod
    def encoder_size(cls, options: CountingOptions, data: DataInfo) -> int:
        return data.size // 2

    @classmethod
    def least_images(cls, options: CountingOptions) -> int:
        return 2

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        o = self.options
        if n < 2:
            raise UsageError("Counting compares images with each other: give at least 2 images a step.")
        kinds = downsample.KINDS if o.downsample == "random" else (o.downsample,)
        shift = torch.randint(1, n, (), generator=generator)
        anyone = torch.randint(n, (n,), generator=generator)
        drawn = {
            "place": torch.rand(n, 2, generator=generator),
            "partner": (torch.arange(n) + shift) % n if o.negative == "roll" else anyone,
            **colour.draw_grey(n, generator, o.grey_p),
            **downsample.draw_filter(n, generator, kinds, o.downsample_per_image),
        }
        if o.shared_jitter:
            drawn |= colour.draw_jitter(n, generator, o.shared_jitter, o.shared_jitter, 0.0, 0.0, p=1.0)
        if o.tile_resample:
            drawn |= downsample.draw_inner(n, generator)
        return drawn

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`whole` D∘x (B, 3, h, h), `tiles` (4B, 3, h, h), those of an image adjacent, `partner` (B,), whose y."""
        crops = geometry.crop_resize(images, self._boxes(images, drawn["place"]), 2 * self.side)
        if self.options.shared_jitter:
            crops = colour.jitter(crops, drawn)
        crops = torch.where(per_image(drawn["grey"], crops), crops.mean(1, keepdim=True), crops)
        tiles = downsample.quarters(crops)
        if self.options.tile_resample:
            tiles = downsample.inner(tiles, drawn)
        partner = drawn["partner"].to(crops.device)
        return {"whole": downsample.halve(crops, drawn), "tiles": tiles, "partner": partner}

    def _boxes(self, images: ImageBatch, place: Tensor) -> Tensor:
        """The square of each image that becomes the crop: int64 (B, 4), top, left, height, width."""
        o, sizes = self.options, torch.stack([images.heights, images.widths], 1)
        shorter = sizes.amin(1, keepdim=True)
        loaded = (shorter / o.load_scale).round().long().clamp_min(1)
        side = loaded if o.predownscale else shorter.clamp_max(2 * self.side)
        within = shorter.expand(-1, 2) if o.central_precrop else sizes
        start = (sizes - within) // 2 + (place.to(sizes.device) * (within - side + 1)).long()
        return torch.cat([start, side, side], 1)

    def counts(self, whole: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """φ(D∘x) (B, k) and φ(T_j∘x) (B, 4, k), at least float32."""
        if self.options.joint_forward:
            found = self._phi(torch.cat([whole, tiles]))
            return found[: len(whole)], found[len(whole) :].unflatten(0, (-1, 4))
        return self._phi(whole), self._phi(tiles).unflatten(0, (-1, 4))

    def _phi(self, images: Tensor) -> Tensor:
        counts = self.head(self.encoder.maps(images)[self.encoder.stages[-1]])
        return counts.to(torch.promote_types(counts.dtype, torch.float32))

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        o, partner = self.options, views["partner"]
        whole, tiles = self.counts(views["whole"], views["tiles"])
        parts = tiles.sum(1)
        other = distributed.gather(whole)[partner]
        positive, negative = counting_loss(whole, parts, other, o.margin, o.hinge)
        if o.symmetric_loss:
            back = counting_loss(other, distributed.gather(parts)[partner], whole, o.margin, o.hinge)[1]
            negative = (negative + back) / 2
        loss = (positive + negative if o.contrastive else positive).mean()
        return {
            "loss": loss,
            "positive": positive.mean().detach(),
            **_tallies.tallies(whole, parts, negative),
        }

    def chance_loss(self, images: int) -> float:
        """What counting nothing costs: of all counts that are the same for every image, none cost less."""
        return self.options.margin if self.options.contrastive else 0.0

    def collapsed(self, row: dict[str, float], progress: float) -> str | None:
        return _tallies.collapsed(row, progress)

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """Both terms of the loss, how far counts are from adding up, and how many units count."""
        return {name: value.item() for name, value in self(views).items()}

    @torch.no_grad()
    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """The halved image beside its quarters; of a trained net also its counts beside those of the quarters."""
        views = self.views(images, self.draw(images.size, generator, progress=0.999))
        counts = None
        if trained:
            with evaluating(self):
                whole, tiles = self.counts(views["whole"], views["tiles"])
            counts = whole, tiles, whole[views["partner"]]
        tiles = views["tiles"].unflatten(0, (-1, 4))
        return _counting_picture.draw(views["whole"], tiles, counts, self.options.grey_p)
