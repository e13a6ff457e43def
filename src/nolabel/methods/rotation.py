"""Rotation: which of four quarter turns was an image given?

Gidaris, Singh, Komodakis, "Unsupervised representation learning by predicting image rotations", ICLR 2018
(RotNet). Every image is cropped and flipped once and turned by 0, 90, 180 and 270 degrees; all four copies go
through the network in one batch, and a linear layer on the pooled features names the turn (section 2).
Quarter turns move pixels without resampling, so nothing but the content tells them apart.

The paper's values, as `PAPER_CIFAR10` (section 3.1, `nin4`) and `PAPER_IMAGENET` (section 3.2, `alexnet`, in
brackets): 128 images a step (192), SGD with momentum 0.9 and decay 5e-4 on every parameter, rate 0.1 divided by 5
after 30, 60 and 80 % of 100 epochs (0.01, by 10 after 10 and 20 of 30 epochs), images shifted by up to 4 px over a
border of zeros (crops of 8 to 100 % of the area), flips. The released code (`CODE_CIFAR10`, `CODE_IMAGENET`) adds
Nesterov's form and trains for 200 epochs (50, with drops after 15, 30 and 45).

The scaled defaults (ours) are for minutes on a processor: 64 images, AdamW with a cosine, a border by reflection, a
frozen whitened first convolution, and images of half, three quarters and all of the side along the run
(`docs/results` has what they reach).
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder, evaluating
from nolabel.errors import UsageError
from nolabel.methods import _rotation_picture
from nolabel.methods._sizes import check_encoder, check_sizes, view_side
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.views import colour, filters, geometry, jpeg, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TURNS = {"quarter": (0, 2, 4, 6), "two_0_180": (0, 4), "two_90_270": (2, 6), "eight": tuple(range(8))}
"""what each choice of `turns` tells apart, in eighths of a full turn, counter-clockwise"""
UNDECIDED = 1.2 / math.log(4)
"""loss of an image's turns as a share of ln K, which it nears where nothing tells them apart (a round thing)"""


@dataclass(frozen=True)
class RotationOptions:
    """What can be chosen about rotation."""

    turns: Literal["quarter", "two_0_180", "two_90_270", "eight"] = "quarter"
    """turns to tell apart (table 2 of the paper); `eight` resamples, which leaves a trace of the turn"""
    turns_per_image: int = 4
    """copies of each image in a step; fewer than there are turns are drawn at random (paper: all of them)"""
    crop: Literal["padded", "resized"] = "padded"
    """`padded`: the whole image, shifted; `resized`: a random part of it (paper: CIFAR-10 and ImageNet)"""
    crop_pad: int = 4
    """largest shift in pixels at 32 px, in proportion at other sizes"""
    pad_mode: Literal["reflect", "zero"] = "reflect"
    """what a shifted image shows beyond its border (paper's code: zero)"""
    crop_min: float = 0.08
    """`resized`: smallest crop as a share of the image's area"""
    sizes: tuple[float, ...] = (0.5, 0.75, 1.0)
    """sides of the images along the run, as shares of the training size (paper: 1 throughout)"""
    size_changes: tuple[float, ...] = (0.5, 0.8)
    """shares of the run after which the next of `sizes` begins"""
    flip_p: float = 0.5
    """probability of a horizontal flip"""
    colour_jitter: float = 0.0
    """strength of a colour jitter against cues such as a bright sky (paper: none)"""
    grey_p: float = 0.0
    """probability of losing the colour (paper: none)"""
    blur_p: float = 0.0
    """probability of a mild blur, against traces of the sensor (paper: none)"""
    jpeg_p: float = 0.0
    """probability of a JPEG compression after the turn, against traces of the one before it (paper: none)"""
    border_crop: float = 0.0
    """share of the side cut off at each border, against frames and captions (paper: none)"""
    mask_corners: bool = False
    """whether only the disc inside the image is shown, against cues in its corners (paper: no)"""
    head: Literal["linear", "fc"] = "linear"
    """`linear` on the pooled features (paper's NIN); `fc`: two hidden layers of 4096 on 6x6 places (its AlexNet)"""

    def __post_init__(self) -> None:
        check_sizes(self.sizes, self.size_changes)
        if not 0 <= self.border_crop < 0.5 or self.turns_per_image < 1 or self.crop_pad > 16:
            raise UsageError(
                f"Rotation needs border_crop in [0, 0.5) (not {self.border_crop}), turns_per_image >= 1 (not "
                f"{self.turns_per_image}) and crop_pad up to 16, half of 32 px (not {self.crop_pad})."
            )


_SGD = Recipe(
    batch_size=128, optimizer="sgd", lr=0.1, lr_batch=128, momentum=0.9, weight_decay=5e-4, decay_norm_bias=True,
    schedule="step", warmup=0.0, drops=(0.3, 0.6, 0.8), drop_factor=5.0, epochs=100.0,
)  # fmt: skip
_FULL = RotationOptions(pad_mode="zero", sizes=(1.0,), size_changes=())
_SLOW = replace(_SGD, batch_size=192, lr=0.01, lr_batch=192, drop_factor=10.0)
PAPER_CIFAR10 = (_FULL, _SGD)
CODE_CIFAR10 = (_FULL, replace(_SGD, nesterov=True, epochs=200.0))
PAPER_IMAGENET = (
    replace(_FULL, crop="resized", head="fc"),
    replace(_SLOW, drops=(1 / 3, 2 / 3), epochs=30.0),
)
CODE_IMAGENET = (PAPER_IMAGENET[0], replace(_SLOW, nesterov=True, drops=(0.3, 0.6, 0.9), epochs=50.0))


def rotation_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (equations 2 and 3) of logits (B, K) and labels (B,): a mean over images and turns."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)


def disc(images: Tensor) -> Tensor:
    """Square images (B, 3, S, S), black outside the circle that touches their sides."""
    side = images.shape[-1]
    place = (torch.arange(side, device=images.device) - (side - 1) / 2).square()
    return images * (place[:, None] + place <= side * side / 4)


def attention(features: Tensor, power: float, size: int) -> Tensor:
    """Attention map of a stage (section 3.1, figure 3): sum over channels of |F|^power, over its maximum.

    `features` (B, C, h, w) become (B, size, size) in [0, 1], enlarged bilinearly; zero where the whole map is zero.
    The power is 1, 2 and 4 for early, middle and late stages.
    """
    energy = features.abs().pow(power).sum(1, keepdim=True)
    energy = energy / energy.amax((2, 3), keepdim=True).clamp_min(torch.finfo(energy.dtype).tiny)
    return F.interpolate(energy, size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def hidden_layers(channels: int, turns: int) -> nn.Sequential:
    """What AlexNet has behind conv5 (the released code's form), from maps (B, channels, h, w) to (B, turns).

    At 224 px the pool is the paper's of 3x3 with stride 2; it gives 6x6 places at any size.
    """
    wide = [nn.Linear(size, 4096, bias=False) for size in (36 * channels, 4096)]
    hidden = [layer for linear in wide for layer in (linear, nn.BatchNorm1d(4096), nn.ReLU())]
    return nn.Sequential(nn.AdaptiveMaxPool2d(6), nn.Flatten(), *hidden, nn.Linear(4096, turns))


class Rotation(Method):
    """An encoder and a linear layer that names the turn."""

    Options = RotationOptions
    recipe = Recipe(batch_size=64, optimizer="adamw", lr=0.002, weight_decay=0.05, stem="whitened",
                    batchnorm="reestimated")  # fmt: skip
    paper = "Gidaris, Singh, Komodakis, ICLR 2018"
    explained = (
        "Every image is shown upright, lying on either side, and upside down, and the network names the turn. That "
        "takes knowing what things are and how they usually stand: no pixel tells, since quarter turns change none."
    )
    when = (
        "Among the first to try, being simple and cheap, where images have a natural up: photographs of things and "
        "scenes. Not for aerial images, tissue and textures, which look the same from every side."
    )
    needs = "turns"
    defended = {"border_crop": 0.1, "mask_corners": True, "jpeg_p": 1.0}

    def __init__(self, encoder: Encoder, options: RotationOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        check_encoder(encoder, data.size, options.sizes)
        self.turns = TURNS[options.turns]
        self.chance = 1 / len(self.turns)
        self.copies = min(options.turns_per_image, len(self.turns))
        head = nn.Linear if options.head == "linear" else hidden_layers
        self.head = head(encoder.dim, len(self.turns))

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        o, strength = self.options, self.options.colour_jitter
        drawn = {
            "size": torch.tensor(view_side(self.data.size, o.sizes, o.size_changes, progress)),
            **geometry.draw_pad_crop(n, generator),
            **geometry.draw_crop(n, generator, area=(o.crop_min, 1.0)),
            **geometry.draw_flip(n, generator, o.flip_p),
            **colour.draw_grey(n, generator, o.grey_p),
        }
        if strength:
            drawn |= colour.draw_jitter(n, generator, strength, strength, strength, strength / 4, p=1.0)
        if o.blur_p:
            drawn |= filters.draw_blur(n, generator, sigma=(0.1, 1.0), p=o.blur_p)
        if o.jpeg_p:
            drawn |= jpeg.draw_jpeg(n, generator, o.jpeg_p)
        labels = torch.rand(n, len(self.turns), generator=generator).argsort(1)[:, : self.copies]
        return drawn | {"labels": labels.sort(1).values}

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`images` (B T, 3, S, S) and `labels` (B T,): the T turned copies of an image are adjacent."""
        o, size = self.options, int(drawn["size"])
        border = (o.border_crop * torch.minimum(images.heights, images.widths)).long()
        inner = images.heights - 2 * border, images.widths - 2 * border
        boxes = geometry.centre_boxes(*inner) if o.crop == "padded" else geometry.boxes(drawn, *inner)
        boxes[:, :2] += border[:, None]
        upright = geometry.crop_resize(images, boxes, size, drawn["flip"])
        if o.crop == "padded":
            upright = geometry.pad_crop(upright, drawn, round(o.crop_pad * size / 32), o.pad_mode)
        if o.colour_jitter:
            upright = colour.jitter(upright, drawn)
        upright = colour.grey(upright, drawn)
        if o.blur_p:
            upright = filters.blur(upright, drawn)
        labels = drawn["labels"].flatten().to(upright.device)
        turned = self.turned(upright.repeat_interleave(self.copies, 0), labels)
        if o.jpeg_p:
            turned = jpeg.jpeg(
                turned, {key: drawn[key].repeat_interleave(self.copies) for key in ("jpeg", "quality")}
            )
        return {"images": disc(turned) if o.mask_corners else turned, "labels": labels}

    def turned(self, upright: Tensor, labels: Tensor) -> Tensor:
        """Each image (B, 3, S, S) given the turn its label (B,) stands for."""
        eighths = torch.tensor(self.turns, device=labels.device)[labels]
        images = geometry.turn(upright, eighths // 2)
        if self.options.turns != "eight":
            return images
        oblique = geometry.rotate(images, {"angle": torch.full(labels.shape, 45.0)}, "reflect")
        return torch.where((eighths % 2 == 1).view(-1, 1, 1, 1), oblique, images)

    def answers(self, images: Tensor) -> Tensor:
        """Logits of the turns, (B, K)."""
        if self.options.head == "linear":
            return self.head(self.encoder(images))
        return self.head(self.encoder.maps(images)[self.encoder.stages[-1]])

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, labels = self.answers(views["images"]), views["labels"]
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": rotation_loss(logits, labels), "accuracy": accuracy}

    def chance_loss(self, images: int) -> float:
        return math.log(len(self.turns))

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """Loss, the share of turns that are named right, and of images whose loss says `UNDECIDED`."""
        logits, labels = self.answers(views["images"]).float(), views["labels"]
        losses = F.cross_entropy(logits, labels, reduction="none").view(-1, self.copies).mean(1)
        right, lost = logits.argmax(1) == labels, losses > UNDECIDED * math.log(len(self.turns))
        return {
            "loss": losses.mean().item(),
            "accuracy": right.float().mean().item(),
            "undecided": lost.float().mean().item(),
        }

    @torch.no_grad()
    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """Each image under all turns; of a trained net also the turn it names, and where it looks in the first."""
        count, size = len(self.turns), self.data.size
        labels = torch.arange(count, device=images.device).repeat(images.size)
        turned = self.turned(plain.whole(images, size).repeat_interleave(count, 0), labels)
        shares = looked_at = None
        if trained:
            with evaluating(self):
                shares = self.answers(turned).softmax(1).unflatten(0, (-1, count))
                maps = self.encoder.maps(turned[:count])
            last = len(self.encoder.stages) - 1
            depths = [maps[self.encoder.stages[round(share * last)]] for share in (0, 0.5, 1)]
            looked_at = torch.stack([attention(m, p, size) for m, p in zip(depths, (1, 2, 4), strict=True)])
        return _rotation_picture.draw(turned.unflatten(0, (-1, count)), self.turns, shares, looked_at)
