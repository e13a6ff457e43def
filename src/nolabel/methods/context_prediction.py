"""Context prediction: at which of the eight places around a patch does another patch lie?

Doersch, Gupta, Efros, "Unsupervised visual representation learning by context prediction", ICCV 2015. Patches are
taken on a grid with gaps of half a patch and shifted at random (section 3); two neighbours go through one encoder,
and a head that sees both names the place of the second: 0 1 2 / 3 . 4 / 5 6 7 around the first.

The paper's values, as `PAPER_IMAGENET` (section 3.1): images of 150,000 to 450,000 pixels, patches of 96 px, gaps of
48, shifts of up to 7; all channels but one dropped for normal noise; each patch's mean taken out; its pair net is the
encoder `alexnet_context` with `--head fc`: fc6 for each patch, then 4096, 4096 and 8; momentum of 0.999. Its rate is
not recorded: a thousandth of the code's stands there, since such a momentum makes a step a thousand times as long. The
code (`CODE_IMAGENET`): no momentum, uniform noise, contrast taken out too, four grids an image, a third of the patches
shrunk to any side and enlarged (here to one of three sides); it keeps the aspect of an image and draws its pixel count
evenly, where ours is a square whose side is. Different from both: one scale is drawn for all images of a step, whose
grids then have equally many cells, where theirs is each image's own; photographs are enlarged from the 1.25 times their
size that the store keeps; patches are not multiplied by 50 as in the code, whose local response normalisation feels it;
and in place of its Xavier weights conv1 and conv2 of `alexnet_context` start from He's normal distribution, all other
layers as torch's do.

The scaled defaults (ours) are for minutes on a processor: patches of 12 px at 32 px, on images enlarged by up to
1.73; every patch of the grid serves in several pairs, so that one pass of the encoder answers for many. `layout="free"`
takes one pair at any place, with balanced places.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import SMALLEST, Encoder, evaluating
from nolabel.errors import UsageError
from nolabel.methods import _late_fusion, _patches, _places
from nolabel.methods._places import draw_places, geometry_of
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.views import colour, geometry, plain, tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    drop_noise: Literal["normal", "uniform"] = "normal"
    """`drop`: a hundredth of the kept channel's deviation (paper), or half a level of 255 either way (code)"""
    patch_norm: bool = True
    """whether each patch loses its mean"""
    patch_contrast: bool = True
    """`patch_norm`: and its contrast (code), or the mean alone (paper)"""
    pixelation_p: float = -1.0
    """probability that a patch is shrunk and enlarged, against traces of resampling; -1: 0.33 from 24 px up, else 0"""
    layout: Literal["grid", "free", "centre"] = "grid"
    """neighbours on a grid at a random place, one pair anywhere, or those around the middle, which tells the place"""
    grids: int = 1
    """grids, or free pairs, of an image in one step (code 4)"""
    flip_p: float = 0.0
    """probability that the whole image is mirrored before it is cut"""
    head: Literal["pooled", "fc"] = "pooled"
    """`pooled`: a patch's mean features, one hidden layer; `fc`: its map by fc6, and two hidden layers (paper)"""
    head_hidden: int = 512
    """width of the hidden layers (paper 4096)"""
    bn_affine: bool = False
    """whether the head's BatchNorm has scale and shift, with which a net can switch layers off (paper: no)"""

    def __post_init__(self) -> None:
        if self.grids < 1 or (self.layout == "centre" and self.grids > 1):
            raise UsageError("Context prediction needs grids >= 1, and 1 around the middle.")
        if self.head_hidden < 1:
            raise UsageError(f"Context prediction needs head_hidden >= 1 (not {self.head_hidden}).")
        if self.patch and self.patch < SMALLEST:
            raise UsageError(
                f"A patch of {self.patch} px is too small for an encoder: take {SMALLEST} px or more."
            )


_TWINS = ContextPredictionOptions(
    patch=96,
    gap=48,
    jitter=7,
    enlarge=1.73,
    patch_contrast=False,
    head="fc",
    head_hidden=4096,
)
_SOLVER = Recipe(batch_size=64, optimizer="sgd", lr=0.023, momentum=0.0, weight_decay=0.0, schedule="constant",
                 warmup=0.0, epochs=80.0)  # fmt: skip
_HEAVY = 0.999
PAPER_IMAGENET = (_TWINS, replace(_SOLVER, momentum=_HEAVY, lr=_SOLVER.lr * (1 - _HEAVY)))
"""section 3.1, at 387 px; the rate that in the end moves as far as the code's, 1e-5 on a sum over about 2,290 pairs"""
CODE_IMAGENET = (replace(_TWINS, drop_noise="uniform", patch_contrast=True, grids=4), _SOLVER)
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
    when = (
        "When images are large enough for nine patches and their gaps (96 px or more) and show things whose parts have "
        "fixed places. Not for textures and aerial images, and at 32 px a patch holds too little."
    )
    undefended = {"gap": 0, "jitter": 0, "colour_mode": "none", "patch_norm": False, "pixelation_p": 0.0}

    def __init__(self, encoder: Encoder, options: ContextPredictionOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        self.side, self.gap, self.shift = geometry_of(data.size, options.patch, options.gap, options.jitter)
        self.enlarge = options.enlarge or (1.73 if data.size <= 32 else 1.0)
        usual = 0.33 if self.side >= 24 else 0.0
        self.pixelation_p = usual if options.pixelation_p < 0 else options.pixelation_p
        pooled = options.head == "pooled"
        wide = options.head_hidden
        scaled = options.bn_affine
        self.branch = nn.Sequential() if pooled else _late_fusion.twin(encoder, self.side, wide, scaled)
        self.head = _late_fusion.pair(encoder.dim if pooled else wide, wide, not pooled, scaled)

    @classmethod
    def encoder_size(cls, options: ContextPredictionOptions, data: DataInfo) -> int:
        return geometry_of(data.size, options.patch, options.gap, options.jitter)[0]

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        """One scale for all images of the step, from the least at which a pair fits to `enlarge`."""
        o = self.options
        pair = 2 * self.side + self.gap + 2 * self.shift
        least = max(1.0, pair / self.data.size)
        most = max(self.enlarge, least)
        scale = least + (most - least) * torch.rand((), generator=generator).item()
        size = round(self.data.size * scale)
        placed = _places.draw(o.layout, n, o.grids, size, (self.side, self.gap, self.shift), generator)
        return placed | _patches.draw(n, placed["at"].shape[1], generator, self.pixelation_p, o.flip_p)

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`patches` (B m, 3, p, p), those of an image adjacent, and `labels` (B, P) of its pairs."""
        whole = geometry.flip(plain.whole(images, int(drawn["size"])), drawn)
        parts = tiles.cut(whole, drawn["at"][..., 0], drawn["at"][..., 1], self.side).flatten(0, 1)
        if self.pixelation_p:
            parts = _patches.pixelated(parts, drawn)
        parts = self._recoloured(parts, drawn)
        labels = drawn["labels"] if "labels" in drawn else self._pairs(drawn["at"].shape[1])[2]
        return {"patches": self._normalised(parts), "labels": labels.to(parts.device).expand(images.size, -1)}

    def _normalised(self, parts: Tensor) -> Tensor:
        """Each patch without its channels' means, and over its root mean square (released code)."""
        if not self.options.patch_norm:
            return parts
        centred = parts - parts.mean((2, 3), keepdim=True)
        if not self.options.patch_contrast:
            return centred
        return centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-5)

    def _recoloured(self, parts: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        mode = self.options.colour_mode
        if mode == "projection":
            return project(parts)
        if mode == "grey":
            return colour.luma(parts).expand_as(parts)
        if mode == "none":
            return parts
        return _patches.dropped(parts, drawn, self.options.drop_noise)

    def seen(self, patches: Tensor) -> Tensor:
        """What each patch (N, 3, p, p) alone gives to the head: (N, width)."""
        known = self.options.patch_norm
        if self.options.head == "pooled":
            return self.encoder(patches, standardised=known)
        return self.branch(self.encoder.maps(patches, standardised=known)[self.encoder.stages[-1]])

    def answer(self, patches: Tensor, images: int) -> Tensor:
        """Logits (B P, 8) of the pairs in `images` images; patches (B m, 3, p, p)."""
        seen = self.seen(patches).unflatten(0, (images, -1))
        return self._joined(seen, *self._pairs(seen.shape[1])[:2])

    def _joined(self, seen: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Logits (B P, 8) of the pairs of patches `first` and `second` (P,) in what is seen of each, (B, m, width)."""
        pairs = [seen[:, of.to(seen.device)] for of in (first, second)]
        return self.head(torch.cat(pairs, -1).flatten(0, 1))

    def _pairs(self, patches: int) -> tuple[Tensor, Tensor, Tensor]:
        """Which of the patches of an image go together, and how they lie (`free`: as was drawn)."""
        return _places.pairs(self.options.layout, patches, self.options.grids)

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = self.answer(views["patches"], len(views["labels"]))
        labels = views["labels"].flatten()
        accuracy = _places.share_named(logits.detach().argmax(1), labels, self.options.layout)
        return {"loss": context_loss(logits, labels), "accuracy": accuracy}

    def chance_loss(self, images: int) -> float:
        return math.log(8)

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """Loss, and the share of pairs whose place is named, the mean over the places."""
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
        drawn = _patches.draw(n, 9, generator, 0.0, 0.0)
        parts = tiles.cut(whole, at[..., 0], at[..., 1], self.side).flatten(0, 1)
        with evaluating(self):
            seen = self.seen(self._normalised(self._recoloured(parts, drawn))).unflatten(0, (n, 9))
            first, second, _ = _places.pairs("centre", 9, 1)
            return self._joined(seen, first, second).argmax(1).unflatten(0, (n, 8))
