"""Context Encoder: what was in the part of an image that is hidden?

Pathak, Krähenbühl, Donahue, Darrell, Efros, "Context encoders: feature learning by inpainting", CVPR 2016. A region
is filled with the mean colour; an encoder, a channel-wise fully-connected layer and a decoder paint what was there
from its surroundings. The squared error of the hidden pixels (section 3.2, equation 1) teaches features; a net that
tells painted from real (equation 2) can join it, for sharp pictures.

The paper's values: `PAPER_FEATURES` (AlexNet, 227 px, random regions, no adversary; its code was not released) and
`PAPER_PICTURES` (128 px, a central hole of 64 px whose outer 7 px stay visible and count ten times, joint loss); with 4
px it is the released code's, `CODE_PICTURES`. That code has one random region for the whole batch
(`mask_per_image=False`) and counts the whole image then (`loss_region="whole"`). Not built: that script's overlap, by
which visible pixels count ten times and hidden ones once; its wrong order of channels in the mean colour; biases of
convolutions set to zero before every step; the painter's gradient through the adversary after its update (here both
move at once); outlines of PASCAL objects; crops of 13 % of the area (here 13 to 100 %: the store keeps too few pixels).
Scaled defaults (ours): a doubling decoder, AdamW with a cosine, a frozen whitened stem.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder, evaluating
from nolabel.encoders.context_encoder_nets import Painter, discriminator
from nolabel.errors import UsageError
from nolabel.methods._inpainting import Task, errors_shown, families, measures, weighted_mean
from nolabel.methods._picture_grid import picture_grid
from nolabel.methods.base import DataInfo, Method, Recipe, unmoved
from nolabel.views import geometry, masks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ContextEncoderOptions:
    """What can be chosen about the context encoder."""

    mask: Literal["random_region", "random_block", "central"] = "random_region"
    """shape of what is hidden; features latch onto the fixed border of `central`"""
    mask_fraction: float = 0.25
    """`random_region`: hidden share of the area; `random_block`: the most that may be hidden"""
    mask_per_image: bool = True
    """whether each image has a mask of its own (released code: one for the whole batch)"""
    hole_fraction: float = 0.5
    """`central`: side of the hole as a share of the image's"""
    overlap: int = 7
    """`central`: rim of the hole that is visible all the same, px at 128, in proportion else (paper 7, code 4)"""
    overlap_weight: float = 10.0
    """weight of that rim in the loss"""
    fill: Literal["mean", "noise"] = "mean"
    """what a hole shows: the mean colour, or a random colour in each pixel"""
    mask_channel: bool = False
    """tells the encoder what is hidden: a learned colour for each channel is added there"""
    bottleneck: Literal["channel_fc", "fc", "none"] = "channel_fc"
    """how places exchange information: within each channel, through one vector, or not at all"""
    bottleneck_dropout: float = 0.0
    """share of the bottleneck's outputs that is dropped (paper: 0.5, from memory)"""
    skip_connections: bool = False
    """hands the encoder's early maps to the decoder, which can then copy rather than understand"""
    reconstruction: Literal["l2", "l1"] = "l2"
    """squared or absolute error (paper: l2; l1 worked as well)"""
    loss_region: Literal["masked", "whole"] = "masked"
    """pixels that count in the loss: the hidden ones or all"""
    norm_target: bool = False
    """standardises the hidden pixels of each image before they are predicted; spoils pictures"""
    adversarial: bool = False
    """trains against a net that tells painted from real; for pictures, not for features"""
    lambda_rec: float = 0.999
    """`adversarial`: weight of the reconstruction"""
    lambda_adv: float = 0.001
    """`adversarial`: weight of being taken for real"""
    g_lr_mult: float = 10.0
    """`adversarial`: how much faster the painter learns than its adversary"""
    condition_discriminator: bool = False
    """shows the adversary the surroundings too, where it spots the seam at once"""
    noise_dim: int = 0
    """length of a random vector that is added at the bottleneck"""
    crop_min: float = 0.5
    """smallest square crop as a share of the image's area"""
    flip_p: float = 0.5
    """probability of a horizontal flip"""

    def __post_init__(self) -> None:
        if not (0 < self.mask_fraction < 1 and 0 < self.hole_fraction < 1 and self.g_lr_mult > 0):
            raise UsageError("Choose mask_fraction and hole_fraction between 0 and 1, and g_lr_mult above 0.")


_ADAM = Recipe(batch_size=64, optimizer="adamw", lr=1e-4, weight_decay=0.0, schedule="constant", warmup=0.0)
_GAN = replace(_ADAM, lr=2e-3, momentum=0.5, adversary_rate=0.1, epochs=500.0)
PAPER_FEATURES = (ContextEncoderOptions(bottleneck_dropout=0.5), replace(_ADAM, epochs=5.0))
"""section 4.2, `context_encoder_features` at 227 px; 100,000 steps; rate and dropout from memory, batch size ours"""
PAPER_PICTURES = (ContextEncoderOptions("central", bottleneck="fc", adversarial=True, crop_min=0.13), _GAN)
"""section 4.1 and the released solver, for `context_encoder_inpainting` at 128 px"""
CODE_PICTURES = (replace(PAPER_PICTURES[0], overlap=4), _GAN)


def reconstruction_loss(painted: Tensor, truth: Tensor, weights: Tensor, kind: str = "l2") -> Tensor:
    """Weighted error over the pixels of weight above 0: the mean of each image, then over images.

    With a mask for weights this is equation 1, normalised by the mask; a rim of weight 10 has ten times the gradient.
    `weights` (B, 1, s, s) are at least 0, and not all 0 in any image; `kind` is `l2`, or `l1` for absolute errors.
    """
    error = (painted.to(truth.dtype) - truth).abs()
    error = (error.square() if kind == "l2" else error).mean(1, keepdim=True)
    return ((error * weights).sum((1, 2, 3)) / (weights > 0).sum((1, 2, 3))).mean()


def adversary_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(painted)) from logits (B, 1), equation 2 (negative); 2 ln 2 where D is undecided."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def fooling_loss(fake: Tensor) -> Tensor:
    """-log D(painted) from logits (B, 1), the form of the released code that does not saturate; ln 2 at D = 1/2."""
    return F.softplus(-fake).mean()


class ContextEncoder(Method):
    """Encoder, bottleneck, decoder, and an adversary where asked for."""

    Options = ContextEncoderOptions
    recipe = Recipe(batch_size=64, optimizer="adamw", lr=0.002, weight_decay=0.05, stem="whitened",
                    batchnorm="reestimated")  # fmt: skip
    paper = "Pathak, Krähenbühl, Donahue, Darrell, Efros, CVPR 2016"
    explained = (
        "A part of the image is blanked out, and the net paints what was there. The hole is too large to be filled by "
        "copying its rim, so the net has to see what the picture shows. Where several fills are possible it paints "
        "their average, which is blurred; a second net that tells painted from real makes it choose one."
    )
    when = (
        "When holes shall be filled, or images are regular (faces, fronts of houses). For features alone other tasks "
        "give more: AlexNet's linear probe on ImageNet is 21 % with it, 32 with context prediction, 34 with counting."
    )
    undefended = {"skip_connections": True, "bottleneck": "none", "mask_per_image": False}
    rim: Tensor

    def __init__(self, encoder: Encoder, options: ContextEncoderOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        o, size, overlap = options, data.size, round(options.overlap * data.size / 128)
        hole = masks.hole_side(size, o.hole_fraction)
        self.blank = hole - 2 * overlap
        self.rimmed = o.mask == "central" and o.loss_region == "masked"
        side = hole if self.rimmed else size
        self.window = slice((size - side) // 2, (size + side) // 2)
        self.register_buffer("rim", masks.rim_weights(hole, overlap, o.overlap_weight), persistent=False)
        joints = o.bottleneck, o.bottleneck_dropout, o.noise_dim, o.skip_connections
        self.painter = Painter(encoder, size, self.window, *joints)
        self.mark = nn.Conv2d(1, 3, 1, bias=False) if o.mask_channel else None
        if o.adversarial:
            self.adversary = discriminator(6 if o.condition_discriminator else 3, side)

    @classmethod
    def recipe_for(cls, options: ContextEncoderOptions, data: DataInfo) -> Recipe:
        pictures = replace(_GAN, lr=2e-4 * options.g_lr_mult, adversary_rate=1 / options.g_lr_mult)
        return pictures if options.adversarial else cls.recipe

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        o, size = self.options, self.data.size
        drawn = {
            **geometry.draw_crop(n, generator, area=(o.crop_min, 1.0), aspect=(1.0, 1.0)),
            **geometry.draw_flip(n, generator, o.flip_p),
            **masks.draw(o.mask, n, size, generator, same=not o.mask_per_image),
        }
        if o.fill == "noise":
            drawn["fill"] = torch.rand(n, 3, size * size, generator=generator)
        if o.noise_dim:
            drawn["noise"] = torch.rand(n, o.noise_dim, generator=generator)
        return drawn

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`images` (B, 3, S, S), whole, and `mask` bool (B, S, S), True where hidden; `fill` and `noise` as drawn."""
        o, size = self.options, self.data.size
        boxes = geometry.boxes(drawn, images.heights, images.widths)
        whole = geometry.crop_resize(images, boxes, size, drawn["flip"])
        mask = masks.hidden(o.mask, drawn, images.size, size, o.mask_fraction, self.blank)
        others = {name: drawn[name].to(whole.device) for name in ("fill", "noise") if name in drawn}
        return {"images": whole, "mask": mask.to(whole.device), **others}

    def given(self, views: dict[str, Tensor]) -> Tensor:
        """What the encoder sees (B, 3, S, S): of the hidden pixels, nothing. The mean is 0 once it is normalised."""
        images, mask = views["images"], views["mask"][:, None]
        fill = views["fill"].view_as(images) if "fill" in views else self.encoder.mean.to(images.dtype)
        marked = 0 if self.mark is None else self.mark(mask.to(images.dtype))
        return torch.where(mask, fill, images) + marked

    def paint(self, views: dict[str, Tensor]) -> Tensor:
        """The window (B, 3, s, s) in units of the target, -1 to 1 unless `norm_target`."""
        painted = self.painter([*self.encoder.maps(self.given(views)).values()], views.get("noise"))
        return painted if self.options.norm_target else painted.tanh()

    def task(self, views: dict[str, Tensor]) -> Task:
        """What is to be painted in the window, and how much each pixel counts."""
        truth = views["images"][..., self.window, self.window]
        hidden = views["mask"][:, None, self.window, self.window].to(truth.dtype)
        centre = spread = truth.new_full((1, 3, 1, 1), 0.5)
        if self.options.norm_target:
            centre = weighted_mean(truth, hidden)
            spread = (weighted_mean((truth - centre).square(), hidden) + 1e-6).sqrt()
        whole = torch.ones_like(hidden)
        rest = hidden if self.options.loss_region == "masked" else whole
        return Task(truth, self.rim.to(truth.dtype) * whole if self.rimmed else rest, centre, spread)

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        o, task = self.options, self.task(views)
        real, fake = task.target(task.truth), self.paint(views)
        loss = reconstruction_loss(fake, real, task.weights, o.reconstruction)
        if self.adversary is None:
            return {"loss": loss}
        if o.condition_discriminator:
            size = real.shape[2:]
            context = F.interpolate(self.given(views), size, mode="bilinear", align_corners=False)
            real, fake = torch.cat([real, context], 1), torch.cat([fake, context], 1)
        logits = [self.adversary(images.detach()).to(task.truth.dtype) for images in (real, fake)]
        fooled = fooling_loss(unmoved(self.adversary, fake).to(task.truth.dtype))
        joint, judged = o.lambda_rec * loss + o.lambda_adv * fooled, adversary_loss(*logits)
        return {"loss": joint, "adversary_loss": judged, "reconstruction": loss.detach()}

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """Reconstruction loss; `l1`, `l2` and `psnr` of the hidden pixels; and the same of two constant colours.

        `constant_…`: each image's own mean over the pixels that count; no constant has a smaller squared error.
        `visible_…`: the mean of the pixels that are not hidden, a constant that can be known without the truth.
        """
        task = self.task(views)
        hidden, seen = views["mask"][:, None, self.window, self.window], ~views["mask"][:, None]
        guesses = {
            "": task.colours(self.paint(views).to(task.truth.dtype)),
            "constant_": weighted_mean(task.truth, task.weights),
            "visible_": weighted_mean(views["images"], seen),
        }
        found: dict[str, float] = {}
        for name, guess in guesses.items():
            painted, wanted = task.target(guess), task.target(task.truth)
            loss = reconstruction_loss(painted, wanted, task.weights, self.options.reconstruction)
            found[f"{name}loss"] = loss.item()
            found |= {name + key: value for key, value in measures(guess, task.truth, hidden).items()}
        return found

    @torch.no_grad()
    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """Each image with its hole and whole; also what a trained net paints, alone and in the hole, or other masks."""
        views = self.views(images, self.draw(images.size, generator, 0.999))
        truth, mask, error, notes = views["images"], views["mask"][:, None], "", []
        columns = {"given": torch.where(mask, self.encoder.mean, truth)}
        if trained:
            alone = torch.ones_like(truth)
            with evaluating(self):
                alone[..., self.window, self.window] = self.task(views).colours(self.paint(views)).clamp(0, 1)
            error, shown, notes = errors_shown(alone, truth, mask, columns["given"])
            columns |= {"painted": alone, "pasted": torch.where(mask, alone, truth), error: shown}
        else:
            columns |= families(truth, self.encoder.mean, self.options.mask_fraction, self.blank, generator)
        title = "Context encoder: what was in the hole?"
        return picture_grid(columns | {"truth": truth}, title, 1.7, notes, error)
