"""Context prediction: at which of the eight places around a patch does another patch lie?

Doersch, Gupta, Efros, "Unsupervised visual representation learning by context prediction", ICCV 2015. Patches are
taken on a grid with gaps of half a patch and shifted at random (section 3); two neighbours go through one encoder,
and a head that sees both names the place of the second: 0 1 2 / 3 . 4 / 5 6 7 around the first.

The paper's values, as `PAPER_IMAGENET` (section 3.1 and the released code): images of 150,000 to 450,000 pixels,
patches of 96 px, gaps of 48, shifts of up to 7; all channels but one dropped for noise; a third of the patches
shrunk and enlarged; a head of 4096, 4096 and 8 on AlexNet's fc6; SGD without schedule.

The scaled defaults (ours) are for minutes on a processor: patches of 12 px at 32 px, on images enlarged by up to
1.73; every patch of the grid serves in several pairs, so that one pass of the encoder answers for many.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import SMALLEST, Encoder, evaluating
from nolabel.errors import UsageError
from nolabel.methods._places import draw_places, geometry_of, pairs_of_grid
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.views import colour, filters, geometry, plain, tiles
from nolabel.views.base import coin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALES = (1 / 3, 1 / 2, 2 / 3)
"""sides that a patch is shrunk to before it is enlarged again, as shares of its own"""


@dataclass(frozen=True)
class ContextPredictionOptions:
    """What can be chosen about patches and pairs."""

    patch: int = 0
    """side of a patch in pixels; 0: 12 up to 64 px, 16 up to 96, 24 at 128 (paper 96)"""
    gap: int = -1
    """pixels between neighbours; -1: about half a patch; 0: lines continue from one into the other"""
    jitter: int = -1
    """largest shift of each patch in pixels; -1: about a twelfth of a patch (paper 7)"""
    enlarge: float = 0.0
    """largest factor by which images are enlarged before patches are taken; 0: 1.73 up to 32 px, else 1"""
    colour_mode: Literal["drop", "projection", "grey", "none"] = "drop"
    """against lens fringes: one channel and noise, no green against magenta (both the paper's), or grey"""
    patch_norm: bool = True
    """whether each patch loses its mean and contrast"""
    pixelation_p: float = 0.33
    """probability that a patch is shrunk and enlarged, which removes traces of resampling"""
    layout: Literal["grid", "centre"] = "grid"
    """`grid`: neighbours on a grid at a random place; `centre`: those around the middle, which tells the place"""
    flip_p: float = 0.0
    """probability that the whole image is mirrored before it is cut"""
    head_hidden: int = 512
    """width of the layer that joins two patches (paper 4096)"""

    def __post_init__(self) -> None:
        if self.patch and self.patch < SMALLEST:
            raise UsageError(
                f"A patch of {self.patch} px is too small for an encoder: take {SMALLEST} px or more."
            )


PAPER_IMAGENET = (
    ContextPredictionOptions(patch=96, gap=48, jitter=7, enlarge=1.73, head_hidden=4096),
    Recipe(batch_size=64, optimizer="sgd", lr=0.023, momentum=0.0, weight_decay=0.0, schedule="constant", warmup=0.0,
           epochs=80.0),
)  # fmt: skip
"""section 3.1 and the released code; its rate of 1e-5 is on a sum over about 2,290 pairs; at 387 px"""
_PROJECTION = ((5, 2, -1), (2, 2, 2), (-1, 2, 5))
"""sixths: what is left of RGB without the direction (-1, 2, -1) (section 3.1)"""


def context_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the eight places: a mean over pairs. logits (P, 8), labels int64 (P,)."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)


def project(parts: Tensor) -> Tensor:
    """The patches (..., 3, h, w) without what lies between green and magenta."""
    matrix = parts.new_tensor(_PROJECTION) / 6
    return torch.einsum("ij,...jhw->...ihw", matrix, parts)


class ContextPrediction(Method):
    """One encoder for both patches, and a head that joins them."""

    Options = ContextPredictionOptions
    recipe = Recipe(batch_size=128, optimizer="adamw", lr=0.002, weight_decay=0.05, batchnorm="reestimated")
    paper = "Doersch, Gupta, Efros, ICCV 2015"
    chance = 0.125
    explained = (
        "Two small patches are cut from one picture. Where does the second lie, seen from the first: above, to the "
        "lower left? Who knows that an ear sits above a cheek can tell. A gap between the patches and random shifts "
        "keep the network from following lines across the border."
    )
    undefended = {"gap": 0, "jitter": 0, "colour_mode": "none", "patch_norm": False, "pixelation_p": 0.0}

    def __init__(self, encoder: Encoder, options: ContextPredictionOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        self.side, self.gap, self.shift = geometry_of(data.size, options.patch, options.gap, options.jitter)
        self.enlarge = options.enlarge or (1.73 if data.size <= 32 else 1.0)
        wide = options.head_hidden
        self.head = nn.Sequential(
            nn.Linear(2 * encoder.dim, wide, bias=False),
            nn.BatchNorm1d(wide, affine=False),
            nn.ReLU(),
            nn.Linear(wide, 8),
        )

    @classmethod
    def encoder_size(cls, options: ContextPredictionOptions, data: DataInfo) -> int:
        return geometry_of(data.size, options.patch, options.gap, options.jitter)[0]

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        o, pitch = self.options, self.side + self.gap
        needed = pitch + self.side + 2 * self.shift
        low = max(1.0, needed / self.data.size)
        share = torch.rand((), generator=generator).item()
        size = round(self.data.size * (low + (max(self.enlarge, low) - low) * share))
        cells = 3 if o.layout == "centre" else min(4, (size - 2 * self.shift + self.gap) // pitch)
        extent = cells * pitch - self.gap + 2 * self.shift
        size = max(size, extent)
        free = size - extent
        origin = torch.randint(free + 1, (n, 1, 2), generator=generator) if o.layout == "grid" else free // 2
        grid = torch.cartesian_prod(torch.arange(cells), torch.arange(cells)) * pitch
        moved = torch.randint(2 * self.shift + 1, (n, cells**2, 2), generator=generator)
        count = n * cells**2
        looks = {
            "kept": torch.randint(3, (count,), generator=generator),
            **filters.draw_noise(count, generator),
            "pixelated": coin(count, o.pixelation_p, generator),
            "scale": torch.randint(len(SCALES), (count,), generator=generator),
        }
        return {
            "size": torch.tensor(size),
            "cells": torch.tensor(cells),
            "at": origin + grid + moved,
            **geometry.draw_flip(n, generator, o.flip_p),
            **{name: value.unflatten(0, (n, -1)) for name, value in looks.items()},
        }

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`patches` (B m, 3, p, p), those of an image adjacent, and `labels` (B, P) of its pairs."""
        whole = geometry.flip(plain.whole(images, int(drawn["size"])), drawn)
        parts = tiles.cut(whole, drawn["at"][..., 0], drawn["at"][..., 1], self.side).flatten(0, 1)
        parts = self._recoloured(self._pixelated(parts, drawn), drawn)
        labels = self._pairs(int(drawn["cells"]))[2].to(parts.device)
        return {"patches": self._normalised(parts), "labels": labels.expand(images.size, -1)}

    def _normalised(self, parts: Tensor) -> Tensor:
        """Each patch without its channels' means, over its root mean square (released code)."""
        if not self.options.patch_norm:
            return parts
        centred = parts - parts.mean((2, 3), keepdim=True)
        return centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-5)

    def _pixelated(self, parts: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        chosen = drawn["pixelated"].flatten().to(parts.device)
        scale = drawn["scale"].flatten().to(parts.device)
        for number, share in enumerate(SCALES):
            small = F.interpolate(
                parts, size=max(2, round(share * self.side)), mode="bilinear", antialias=True
            )
            large = F.interpolate(small, size=self.side, mode="bilinear")
            parts = torch.where((chosen & (scale == number)).view(-1, 1, 1, 1), large, parts)
        return parts

    def _recoloured(self, parts: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        mode = self.options.colour_mode
        if mode == "projection":
            return project(parts)
        if mode == "grey":
            return colour.luma(parts).expand_as(parts)
        if mode == "none":
            return parts
        index = drawn["kept"].flatten().to(parts.device).view(-1, 1, 1, 1)
        kept = parts.gather(1, index.expand(-1, 1, self.side, self.side))
        noise = {
            "noise_sigma": kept.std((1, 2, 3)) / 100,
            "noise_seed": drawn["noise_seed"].flatten().to(parts.device),
        }
        others = filters.noise(torch.full_like(parts, 0.5), noise)
        channels = torch.arange(3, device=parts.device).view(1, 3, 1, 1)
        return torch.where(channels == index, kept, others)

    def answer(self, patches: Tensor, images: int) -> Tensor:
        """Logits (B P, 8) of all neighbours on the grids of `images` images; patches (B m, 3, p, p)."""
        seen = self.encoder(patches, standardised=self.options.patch_norm).unflatten(0, (images, -1))
        first, second, _ = (one.to(patches.device) for one in self._pairs(math.isqrt(seen.shape[1])))
        return self.head(torch.cat([seen[:, first], seen[:, second]], -1).flatten(0, 1))

    def _pairs(self, cells: int) -> tuple[Tensor, Tensor, Tensor]:
        first, second, labels = pairs_of_grid(cells, cells)
        if self.options.layout == "centre":
            around = first == 4
            return first[around], second[around], labels[around]
        return first, second, labels

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = self.answer(views["patches"], len(views["labels"]))
        labels = views["labels"].flatten()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": context_loss(logits, labels), "accuracy": accuracy}

    def chance_loss(self, images: int) -> float:
        return math.log(8)

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """Loss, and the share of places that are named right."""
        return {name: value.item() for name, value in self(views).items()}

    @torch.no_grad()
    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """Each image (a column) with a patch, the eight places around it, and the one where the second was taken."""
        pitch = self.side + self.gap
        size = max(self.data.size, 3 * pitch - self.gap + 2 * self.shift)
        corner = (size - 3 * pitch + self.gap) // 2
        whole = plain.whole(images, size)
        grid = corner + torch.cartesian_prod(torch.arange(3), torch.arange(3)) * pitch
        at = grid.expand(images.size, 9, 2)
        places = torch.randint(8, (images.size,), generator=generator)
        named = None
        if trained:
            named = self._named(whole, at, generator).gather(1, places.to(whole.device)[:, None])[:, 0]
        return draw_places(whole.cpu(), grid, self.side, places, named)

    def _named(self, whole: Tensor, at: Tensor, generator: torch.Generator) -> Tensor:
        """The place that the net names for each of the eight neighbours of the middle patch: (B, 8)."""
        n = len(whole)
        drawn = self.draw(n, generator, 0.0)
        count = n * 9
        drawn |= {
            "kept": torch.randint(3, (n, 9), generator=generator),
            "noise_seed": torch.arange(count).view(n, 9),
            "pixelated": torch.zeros(n, 9, dtype=torch.bool),
            "scale": torch.zeros(n, 9, dtype=torch.int64),
        }
        parts = self._normalised(
            self._recoloured(tiles.cut(whole, at[..., 0], at[..., 1], self.side).flatten(0, 1), drawn)
        )
        with evaluating(self):
            logits = self.answer(parts, n)
        first, _, _ = self._pairs(3)
        return logits.argmax(1).unflatten(0, (n, -1))[:, first == 4]
