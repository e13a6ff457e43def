"""Colorization: which colours did a grey image have?

Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016. The network sees the lightness alone and names, at
every place of a coarser grid, one of 313 classes of ab colour (section 2.1). Targets are spread over the nearest
classes; rare colours weigh more, by the inverse of their smoothed frequency (section 2.2); pictures are coloured by
the annealed mean of the classes (section 2.3). `loss="regression"` is the lecture's simpler form: U and V from Y by
squared error (or `huber`), which answers with greyish means; `ab_regression` is the paper's own comparison, in Lab.

The paper's values, as `PAPER_IMAGENET`: 176 px, targets at a quarter of that, five classes a target, lambda 1/2,
T 0.38, Adam 3e-5 with beta 2 of 0.99, decay 1e-3, 40 images; its own net is `--encoder colorization_net`, which brings
its own head. The released code (`CODE_IMAGENET`) has ten classes a target, leaves out images without colour, and drops
its rate at other steps. Different here: crops are half to all of the area and change aspect, where the paper cuts 176
of 256 px (47 %), because the store keeps 1.25 times the size; and lambda's uniform share is over all classes, in the
code over those that occur. Not built: its k-means initialisation; a first convolution of one channel or of Lab with ab
at zero (an encoder takes RGB: the lightness stands in all three channels).

The scaled defaults (ours) are for minutes on a processor: a thin head on the last map (specification 4.8), which
starts from the frequencies of the classes, AdamW with a cosine. Before transfer the first convolution's three slices
are set to their mean, so that it sees what it was trained on: brightness.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder
from nolabel.encoders.colorization_net import colour_head
from nolabel.errors import UsageError
from nolabel.methods import _colour_bins, _colouring
from nolabel.methods._colour_bins import annealed_mean, colour_classes, places, soft_targets
from nolabel.methods._colouring import Space
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.views import geometry
from nolabel.views.base import per_image, uniform
from nolabel.views.lab import rgb_to_lab, rgb_to_yuv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nolabel.data.store import ImageStore

COLOURLESS = 5.0
"""largest |ab| of an image that teaches nothing (released code)"""
RAREST = 1e-4
"""share of a class that was not met, at the start"""


@dataclass(frozen=True)
class ColorizationOptions:
    """What can be chosen about colours."""

    loss: Literal["classification", "regression", "huber", "ab_regression"] = "classification"
    """classes of ab; U and V (the lecture's form) by squared or Huber's error; a and b (the paper's comparison)"""
    ab_grid: int = 10
    """spacing of the classes in ab: at 10 the paper's 313, else those nearest to some colour (20: 77, faster)"""
    neighbours: int = 5
    """K, nearest classes that a target is spread over (paper 5, released code 10)"""
    rebalance: float = 0.5
    """lambda, the uniform share in the frequencies by whose inverse classes weigh; 1: all weigh the same"""
    temperature: float = 0.38
    """T of the annealed mean: 1 the mean, which is greyish, 0 the commonest class"""
    colour_mask: bool = True
    """whether images without colour are left out of the loss"""
    subsample: Literal["area", "point"] = "area"
    """how colours are brought to the coarser grid (paper's code: point)"""
    lightness_jitter: float = 0.0
    """strength of a jitter of the input's contrast and brightness (paper: none)"""
    crop_min: float = 0.5
    """smallest crop, as a share of the image's area"""
    flip_p: float = 0.5
    """probability of a horizontal flip"""
    head_depth: int = 1
    """convolutions after each doubling in the head, 1 or 2: a deep head does the encoder's work"""

    def __post_init__(self) -> None:
        if not (5 <= self.ab_grid <= 50 and self.head_depth in (1, 2)):
            raise UsageError("Colorization needs ab_grid in 5 to 50, and a head_depth of 1 or 2.")
        shares = 0 < self.rebalance <= 1 and 0 < self.crop_min <= 1
        most = len(colour_classes(self.ab_grid))
        if not (shares and 1 <= self.neighbours <= most and 0 <= self.temperature < math.inf):
            raise UsageError(
                f"Colorization needs rebalance (not {self.rebalance}) and crop_min (not {self.crop_min}) in (0, 1], "
                f"1 to {most} neighbours (not {self.neighbours}) and a temperature of 0 or more (not "
                f"{self.temperature})."
            )


PAPER_IMAGENET = (
    ColorizationOptions(colour_mask=False, subsample="point"),
    Recipe(batch_size=40, optimizer="adamw", lr=3e-5, beta2=0.99, weight_decay=1e-3, schedule="step", warmup=0.0,
           drops=(200 / 450, 375 / 450), drop_factor=10**0.5, epochs=14.0),
)  # fmt: skip
"""section 3, at 176 px: 450,000 steps, the rate 1e-5 after 200,000 and 3e-6 after 375,000"""
CODE_IMAGENET = (
    replace(PAPER_IMAGENET[0], neighbours=10, temperature=1 / 2.606, colour_mask=True),
    replace(PAPER_IMAGENET[1], drops=(0.45, 0.9), drop_factor=10.0, epochs=15.0),
)
"""the released training layer and solver: 500,000 steps, the rate divided by 10 every 225,000"""


def colorization_loss(logits: Tensor, index: Tensor, share: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy with soft targets, each place times the weight of its nearest class (equation 2): a mean.

    logits (N, Q), index and share (N, K) of `soft_targets`, weight (N,).
    """
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
    return -(weight * (share * exact.gather(1, index)).sum(1)).mean()


class Colorization(Method):
    """An encoder of the lightness and a thin decoder of its colours."""

    Options = ColorizationOptions
    recipe = Recipe(batch_size=64, optimizer="adamw", lr=0.002, weight_decay=0.01, batchnorm="reestimated")
    paper = "Zhang, Isola, Efros, ECCV 2016"
    explained = (
        "The network sees a picture in black and white and says which colours it had. Grass is green and skies are "
        "blue: to colour a thing one must know what it is. It chooses among 313 colours at every place, since the "
        "mean of several likely colours would be a dull brown."
    )
    when = (
        "When things have colours of their own (plants, animals, skies), or when black-and-white photographs shall be "
        "coloured. Not for grey images, which hold nothing to predict, nor where colours are a choice (clothes, cars)."
    )
    needs = "colour"
    defended = {"lightness_jitter": 0.5}
    classes: Tensor
    weights: Tensor
    unit: Tensor

    def __init__(self, encoder: Encoder, options: ColorizationOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        self.target = data.size // 2 if data.size <= 32 else data.size // 4
        classes = colour_classes(options.ab_grid)
        self.register_buffer("classes", classes)
        self.register_buffer("weights", torch.ones(len(classes)))
        unit = torch.tensor(_colouring.UNITS[options.loss]).view(2, 1, 1)
        self.register_buffer("unit", unit, persistent=False)
        self.bins = options.loss == "classification"
        self.reach = _colouring.HUBER if options.loss == "huber" else math.inf
        self.space: Space = "yuv" if options.loss in ("regression", "huber") else "lab"
        outputs = len(classes) if self.bins else 2
        self.head = colour_head(encoder, data.size, self.target, outputs, options.head_depth)

    @torch.no_grad()
    def prepare(self, store: "ImageStore", generator: torch.Generator) -> None:
        """The frequencies of the classes, as the mean soft target of some images, and the weights they give.

        The head starts from the best answer that is the same everywhere.
        """
        prior = _colouring.frequencies(self, store, generator)
        self.weights.copy_(_colour_bins.class_weights(prior, self.options.rebalance))
        if self.bins:
            constant = prior.to(self.weights.device) * self.weights
            self.head[-1].bias.copy_(constant.clamp_min(RAREST).log())  # type: ignore[operator]

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        most = self.options.lightness_jitter
        return {
            **geometry.draw_crop(n, generator, area=(self.options.crop_min, 1.0)),
            **geometry.draw_flip(n, generator, self.options.flip_p),
            "contrast": uniform(n, 1 - most, 1 + most, generator),
            "brightness": uniform(n, -most, most, generator),
        }

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`grey` (B, 3, S, S), standardised, three equal channels; `colours` (B, 2, t, t): ab, or U and V."""
        boxes = geometry.boxes(drawn, images.heights, images.widths)
        seen = self.split(geometry.crop_resize(images, boxes, self.data.size, drawn["flip"]))
        contrast, brightness = (per_image(drawn[name], seen["grey"]) for name in ("contrast", "brightness"))
        return seen | {"grey": seen["grey"] * contrast + brightness}

    def split(self, rgb: Tensor) -> dict[str, Tensor]:
        """What the network sees of square images (B, 3, S, S), and what it has to find."""
        grey, colours = self._parted(rgb)
        return {"grey": grey, "colours": _colouring.coarse(colours, self.target, self.options.subsample)}

    def _parted(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised lightness (B, 3, H, W) and colours (B, 2, H, W) of images (B, 3, H, W)."""
        lab = self.space == "lab"
        converted = rgb_to_lab(rgb) if lab else rgb_to_yuv(rgb)
        light = converted[:, :1] / (100 if lab else 1)
        return ((light - 0.5) / 0.25).repeat(1, 3, 1, 1), converted[:, 1:] / self.unit

    def answer(self, grey: Tensor) -> Tensor:
        """Logits (B, Q, t, t), or U and V (B, 2, t, t), for standardised lightness (B, 3, S, S)."""
        return self.head(self.encoder.maps(grey, standardised=True)[self.encoder.stages[-1]])

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        answer, colours = self.answer(views["grey"]), views["colours"]
        if not self.bins:
            return {"loss": _colouring.regression_loss(answer.float(), colours, self.reach)}
        return {"loss": colorization_loss(places(answer), *self._targets(colours))}

    def _targets(self, colours: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Soft targets and weights of all places; an image without colour weighs nothing."""
        ab = colours.movedim(1, -1)
        o = self.options
        index, share = soft_targets(ab.reshape(-1, 2), self.classes, o.neighbours, o.ab_grid)
        weight = self.weights[index[:, 0]]
        if o.colour_mask:
            coloured = ab.flatten(1).abs().amax(1) > COLOURLESS
            weight = weight * coloured.repeat_interleave(self.target**2)
        return index, share, weight

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """Loss, and `constant_loss`: that of the best answer which is the same everywhere, on these very images.

        Of classes also `kl`, the loss less that of an answer which is the target (specification 4.4). In Lab
        `ab_error`, the mean distance in ab from the truth, and the area under its cumulative curve (table 1 of the
        paper): `auc`, with all classes alike `auc_rebalanced`, and of grey pictures `auc_grey`.
        """
        answer, colours = self.answer(views["grey"]).float(), views["colours"]
        if not self.bins:
            found = _colouring.regression_errors(answer, colours, self.reach)
            if self.space == "lab":
                ab, truth = places(answer * self.unit), places(colours * self.unit)
                found |= _colour_bins.errors(ab, truth, self.classes)
            return found
        logits, targets = places(answer), self._targets(colours)
        constant = _colour_bins.best_constant(*targets, len(self.classes))
        loss, least = colorization_loss(logits, *targets), _colour_bins.least_loss(*targets[1:])
        ab = annealed_mean(logits, self.classes, self.options.temperature)
        return {
            "loss": loss.item(),
            "constant_loss": colorization_loss(constant, *targets).item(),
            "kl": (loss - least).item(),
            **_colour_bins.errors(ab, places(colours), self.classes),
        }

    @torch.no_grad()
    def finish(self, encoder: Encoder) -> None:
        """The first convolution sees (R + G + B) / 3, scaled as the lightness was."""
        weight = encoder.stem.weight
        weight.copy_(weight.mean(1, keepdim=True).expand_as(weight))
        encoder.mean.fill_(0.5)
        encoder.std.fill_(0.25)

    @torch.no_grad()
    def colours(self, rgb: Tensor, temperature: float | None = None) -> Tensor:
        """Colours (B, 2, h, w) of the lightness of images (B, 3, H, W) in [0, 1], at the resolution of the head.

        ab by the annealed mean at `temperature` (None: the option's), or U and V.
        """
        answer = self.answer(self._parted(rgb)[0]).float()
        if not self.bins:
            return answer * self.unit
        chosen = self.options.temperature if temperature is None else temperature
        ab = annealed_mean(places(answer), self.classes, chosen)
        return ab.unflatten(0, (len(rgb), *answer.shape[-2:])).movedim(-1, 1)

    @torch.no_grad()
    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """Each image (a row): what the net sees, the colours it gives (when trained), and the truth."""
        return _colouring.panel(self, images, trained)
