"""SimCLR: two distortions of one image must find each other among the distortions of all other images.

Chen, Kornblith, Norouzi, Hinton, "A simple framework for contrastive learning of visual representations", ICML 2020.
Each view is cropped, flipped, recoloured and perhaps blurred (section 3); an encoder f gives h, a small head g gives
z, and the loss NT-Xent (section 2.1, equation 1) is a softmax over cosines of z. The head is thrown away.

The paper's values, as `PAPER_IMAGENET` (section 2.3, appendix A) and `PAPER_CIFAR10` (appendix B.9): two views, crops
from 0.08 of the area, colour strength 1 (CIFAR-10: 0.5, no blur), brightness shifted and colours changed in a fixed
order (its listing; "may be shuffled"), grey with p = 0.2, head d-d-128 without BatchNorm, temperature 0.1 (0.5), LARS
at 0.3 B/256, decay 1e-6, batch 4096, 10 epochs of warm-up, cosine. The released code (`CODE_IMAGENET`, `CODE_CIFAR10`)
multiplies the brightness and draws the order; it has a deeper head with BatchNorm, twice the loss, decay 1e-4, one blur
for a batch. Its bicubic crops stand in both, because the paper names no filter.

The scaled defaults (ours) are for minutes on a processor; in trials on CIFAR-10 they learnt most in that time: a
frozen whitened first convolution, views of half, three quarters and all of the side along the run, four views of 32
images, AdamW, temperature 0.2, bilinear crops from 0.2 of the area, grey with p = 0.1, BatchNorm in the head. Encoders
choose their stem by the image's size; the code's blur over a border of zeros is not built. With V > 2 views the loss is
the mean over all ordered pairs of views of one image, each against views of others only; for V = 2 equation 1.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder
from nolabel.errors import UsageError
from nolabel.methods import _simclr_picture, _simclr_views
from nolabel.methods._contrastive import (
    Negatives,
    against,
    in_chunks,
    mean_over_pairs,
    retrieval,
    rival,
    rival_chance,
    similarities,
)
from nolabel.methods._simclr_head import projection_head
from nolabel.methods._sizes import check_encoder, check_sizes, view_side
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.views import colour, geometry
from nolabel.views.fused import simclr_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SimCLROptions:
    """What can be chosen about SimCLR."""

    loss: Literal["nt_xent", "dcl", "dclw", "nt_logistic", "margin"] = "nt_xent"
    """the paper's, decoupled ones (without the positive in the denominator), or the rivals of its table 4"""
    mining: Literal["all", "semi_hard"] = "all"
    """negatives of `nt_logistic` and `margin`: all, or the nearest that is not nearer than the positive"""
    margin: float = 0.8
    """of `margin`, in cosines (paper: the best of 0, 0.4, 0.8, 1.6)"""
    normalise: bool = True
    """cosines; false: dot products (paper: temperature 10 or 100 then)"""
    negatives: Literal["both_views", "other_view"] = "both_views"
    """all views of other images, or those in the partner's place (paper, table 4: the latter for all losses)"""
    temperature: float = 0.2
    """divides the cosines; smaller weighs hard negatives more (paper 0.1, CIFAR-10 0.5)"""
    views: int = 4
    """views of each image in one step (paper 2)"""
    sizes: tuple[float, ...] = (0.5, 0.75, 1.0)
    """sides of the views along the run, as shares of the training size (paper: 1 throughout)"""
    size_changes: tuple[float, ...] = (0.8, 0.95)
    """shares of the run after which the next of `sizes` begins"""
    crop_min: float = 0.2
    """smallest crop, as a share of the image's area (paper 0.08)"""
    aspect: tuple[float, float] = (0.75, 1.3333333333333333)
    """smallest and largest width / height of the crop"""
    resize: Literal["bilinear", "bicubic"] = "bilinear"
    """filter that brings crops to the views' side, smoothing where it shrinks (released code: bicubic)"""
    flip_p: float = 0.5
    """probability of a horizontal flip"""
    colour_strength: float = 0.5
    """scales the jitter of brightness, contrast, saturation (0.8) and hue (0.2); paper 1, CIFAR-10 0.5"""
    jitter_p: float = 0.8
    """probability of the colour jitter"""
    brightness: Literal["mul", "add"] = "mul"
    """brightness multiplied (released code, second version), or shifted (paper's listing, first version)"""
    jitter_order: Literal["random", "fixed"] = "random"
    """of the jitter's operations; `fixed`: brightness, contrast, saturation, hue, as the paper lists them"""
    grey_p: float = 0.1
    """probability of losing the colour (paper 0.2)"""
    blur_p: float = 0.0
    """probability of a Gaussian blur, kernel a tenth of the side (paper 0.5, CIFAR-10 none)"""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """range of the blur's width in pixels"""
    blur_scope: Literal["view", "batch"] = "view"
    """a width for each view, or one for all images' views of one place (released code)"""
    jpeg_p: float = 0.0
    """probability of a JPEG compression, against traces of the file's own in both views (paper: none)"""
    extra_ops: tuple[str, ...] = ()
    """of `cutout`, `sobel`, `noise`, `rotate`, `solarise`, each in half of the views, in this order (paper: studies)"""
    asymmetric: bool = False
    """whether an image's first view is cropped and flipped alone (paper: figure 5's study)"""
    head: Literal["mlp2_bn", "mlp2", "mlp3_bn", "linear", "none"] = "mlp2_bn"
    """layers of g: the paper's `mlp2`, its code's `mlp3_bn`, or simpler ones"""
    head_hidden: int = 512
    """width of g's hidden layers; 0: as wide as h (paper)"""
    head_out: int = 128
    """length of z"""
    bn_views: Literal["joint", "separate"] = "joint"
    """BatchNorm statistics over all views together or view by view"""
    grad_cache: int = 0
    """images whose views are embedded at a time, to save memory: BatchNorm sees them alone; 0: all together"""
    loss_scale: Literal["mean", "sum_of_means"] = "mean"
    """`sum_of_means`: twice the paper's loss, as the released code computes it"""

    def __post_init__(self) -> None:
        if self.views < 2 or self.temperature <= 0 or not 0 < self.crop_min <= 1:
            raise UsageError(
                f"SimCLR needs views >= 2 (not {self.views}), temperature > 0 (not {self.temperature}) and "
                f"crop_min in (0, 1] (not {self.crop_min})."
            )
        if any(len(pair) != 2 or not 0 < pair[0] <= pair[1] for pair in (self.aspect, self.blur_sigma)):
            raise UsageError("aspect and blur_sigma each need two numbers above 0, the smaller first: 0.5,2.")
        if self.loss == "dclw" and not self.normalise:
            raise UsageError("The loss dclw weighs its pairs by cosines: use --loss dcl, or keep normalise.")
        if self.mining != "all" and self.loss not in ("nt_logistic", "margin"):
            raise UsageError(f"Only the losses nt_logistic and margin mine negatives, and not {self.loss}.")
        if self.head_out < 1 or not set(self.extra_ops) <= set(_simclr_views.EXTRA):
            raise UsageError(f"SimCLR needs head_out >= 1 and extra_ops of {', '.join(_simclr_views.EXTRA)}.")
        check_sizes(self.sizes, self.size_changes)


_STUDY = SimCLROptions(
    temperature=0.1, views=2, sizes=(1.0,), size_changes=(), crop_min=0.08, resize="bicubic", colour_strength=1.0,
    brightness="add", jitter_order="fixed", grey_p=0.2, blur_p=0.5, head="mlp2", head_hidden=0,
)  # fmt: skip
_LARS = Recipe(batch_size=4096, optimizer="lars", lr=0.3, lr_rule="linear", weight_decay=1e-6, warmup=0.1)
PAPER_IMAGENET = (_STUDY, _LARS)
"""section 2.3: ResNet-50 at 224 px for 100 epochs"""
_SMALL = {"temperature": 0.5, "colour_strength": 0.5, "blur_p": 0.0}
_LONG = replace(_LARS, batch_size=1024, lr=1.0, warmup=0.01, epochs=1000.0)
PAPER_CIFAR10 = (replace(_STUDY, **_SMALL), _LONG)
"""appendix B.9: ResNet-50 with the small stem, the best of its grid; the rule of the rate is the code's"""
_CODE = replace(
    _STUDY, head="mlp3_bn", loss_scale="sum_of_means", blur_scope="batch", brightness="mul", jitter_order="random",
)  # fmt: skip
CODE_IMAGENET = (_CODE, replace(_LARS, weight_decay=1e-4))
CODE_CIFAR10 = (replace(_CODE, **_SMALL), replace(_LONG, batch_size=512, weight_decay=1e-4))
"""the released command: ResNet-18 with the small stem"""


def nt_xent(
    z: Tensor, temperature: float, normalise: bool = True, negatives: Negatives = "both_views"
) -> Tensor:
    """NT-Xent (section 2.1, equation 1), normalised temperature-scaled cross-entropy, over V views an image.

    For views v and w of one image: -log of exp(s_vw) over exp(s_vw) plus the sum of exp(s) over all views of
    other images; then the mean over all ordered pairs (v, w). With V = 2 the denominator has the
    paper's 2N - 1 terms. z is (n, V, d) of this process; the negatives come from all processes.
    """
    positive, negative = similarities(z, temperature, normalise)
    others = against(negative, negatives).logsumexp(-1)
    return mean_over_pairs(torch.logaddexp(positive, others) - positive)


class SimCLR(Method):
    """f, g and NT-Xent."""

    Options = SimCLROptions
    recipe = Recipe(batch_size=32, optimizer="adamw", lr=0.002, weight_decay=0.05, stem="whitened",
                    batchnorm="reestimated")  # fmt: skip
    paper = "Chen, Kornblith, Norouzi, Hinton, ICML 2020"
    explained = (
        "Two or more views of one picture are made: other parts of it, other colours. The network gives each view a "
        "vector, and views of one picture must have vectors that are alike, unlike those of all other pictures. What "
        "stays the same when part and colour change is what the picture shows."
    )
    when = (
        "The first to try: of the eight it has learnt most here in minutes. Weaken the colour changes where classes "
        "differ by colour (birds, flowers), and the crops where a part does not tell what the whole is."
    )
    undefended = {"colour_strength": 0.0, "grey_p": 0.0}

    def __init__(self, encoder: Encoder, options: SimCLROptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        check_encoder(encoder, data.size, options.sizes)
        self.head = projection_head(options.head, encoder.dim, options.head_hidden, options.head_out)
        self.scale = 2 if options.loss_scale == "sum_of_means" else 1

    @classmethod
    def least_images(cls, options: SimCLROptions) -> int:
        return 2

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        o, count = self.options, n * self.options.views
        size = view_side(self.data.size, o.sizes, o.size_changes, progress)
        weak, hue = 0.8 * o.colour_strength, 0.2 * o.colour_strength
        per_view = {
            **geometry.draw_crop(count, generator, area=(o.crop_min, 1.0), aspect=o.aspect),
            **geometry.draw_flip(count, generator, o.flip_p),
            **colour.draw_jitter(count, generator, weak, weak, weak, hue, o.jitter_p, o.brightness == "add"),
            **colour.draw_grey(count, generator, o.grey_p),
        }
        per_view |= _simclr_views.draw(o, count, generator)
        drawn = {k: v.unflatten(0, (n, o.views)) for k, v in per_view.items()}
        return {"size": torch.tensor(size)} | _simclr_views.arranged(o, drawn)

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`views` (B V, 3, s, s): the V views of an image are adjacent."""
        per_view = {name: t.flatten(0, 1) for name, t in drawn.items() if t.ndim}
        repeated = images.take(torch.arange(images.size).repeat_interleave(self.options.views))
        seen = simclr_view(repeated, per_view, int(drawn["size"]), cubic=self.options.resize == "bicubic")
        return {"views": _simclr_views.changed(self.options, seen, per_view)}

    def embed(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """h (n, V, dim) and z (n, V, out) of `views` (n V, 3, s, s)."""
        if not (self.options.grad_cache and self.training):
            return self._embed(views)
        return in_chunks(self._embed, views, self.options.grad_cache * self.options.views)

    def _embed(self, views: Tensor) -> tuple[Tensor, Tensor]:
        count = self.options.views
        if self.options.bn_views == "joint":
            h = self.encoder(views)
            return h.unflatten(0, (-1, count)), self.head(h).unflatten(0, (-1, count))
        h = [self.encoder(views[v::count]) for v in range(count)]
        return torch.stack(h, 1), torch.stack([self.head(part) for part in h], 1)

    def contrast(self, z: Tensor) -> Tensor:
        """The chosen loss (0-d) of z (n, V, d)."""
        o = self.options
        if o.loss == "nt_xent":
            return nt_xent(z, o.temperature, o.normalise, o.negatives)
        return rival(o.loss, z, o.temperature, o.normalise, o.negatives, o.mining, o.margin)

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        h, z = self.embed(views["views"])
        loss = self.scale * self.contrast(z)
        spread = F.normalize(h.detach().float(), dim=-1).flatten(0, 1).std(0).mean() * h.shape[-1] ** 0.5
        return {"loss": loss, **retrieval(z.detach(), self.options.normalise), "h_std": spread}

    def chance_loss(self, images: int) -> float:
        o = self.options
        others = (o.views if o.negatives == "both_views" else 1) * (images - 1)
        value = math.log1p(others) if o.loss == "nt_xent" else rival_chance(o.loss, others, o.margin)
        return self.scale * value

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """The loss, and how often a view finds its partner."""
        found = self(views)
        return {name: found[name].item() for name in ("loss", "acc_cross", "acc_all")}

    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """Each image (rows) and the views that must find each other; of a trained net also which each view finds."""
        return _simclr_picture.panel(self, images, generator, trained)
