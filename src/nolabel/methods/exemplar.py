"""Exemplar: from which of many patches was this distorted copy made?

Dosovitskiy, Springenberg, Riedmiller, Brox, "Discriminative unsupervised feature learning with convolutional neural
networks", NIPS 2014. N seed patches are cut where images have strong gradients (section 2); each is a class of its
own, and a network classifies copies of it that were shifted, zoomed, turned and changed in contrast and colour.

The paper's values, as `PAPER_STL10`: seeds of 32 px from 96 px images, 8000 of them with 150 copies each; shift 0.2
of the side, zoom 0.7 to 1.4, turn 20 degrees, factors 0.5 to 2 of the colour components, powers 0.25 to 4, factors
0.7 to 1.4 and offsets 0.1 of saturation and value, hue 0.1; dropout of 0.5 before the softmax; SGD at 0.01 with
momentum 0.9, divided by 3 whenever the error on held-out copies stops falling: here after fixed shares of the run. Its
nets are the encoders `exemplar_small`, `exemplar_medium` and `exemplar_large`, made for `--patch 32`. How its seeds'
scales and its factors are distributed is not recorded: both are options. A second training on seeds that were merged
by clusters of their features (a later version of the paper) is not built.

The scaled defaults (ours) are for minutes on a processor: 500 seeds of half the side, every copy a new one, AdamW
with a cosine. The last layer grows with N, which is the method's limit: it has (d + 1) N parameters. Two later forms
lift it, on the same copies: `triplet` compares copies with each other (semi-hard negatives, as Kolesnikov, Zhai, Beyer,
CVPR 2019, trained Exemplar), `instance` with a vector remembered of each seed (Wu, Xiong, Yu, Lin, "Unsupervised
feature learning via non-parametric instance discrimination", CVPR 2018: there an instance is a whole image, SGD 0.03).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder
from nolabel.errors import UsageError
from nolabel.methods import _exemplar_copies as _copies
from nolabel.methods import _exemplar_forms as forms
from nolabel.methods import _exemplar_picture, _exemplar_seeds
from nolabel.methods._exemplar_seeds import side_of
from nolabel.methods.base import DataInfo, Method, Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nolabel.data.store import ImageStore


@dataclass(frozen=True)
class ExemplarOptions:
    """What can be chosen about seeds and their copies."""

    seeds: int = 500
    """N, patches that are classes of their own (paper 50 to 32,000)"""
    form: Literal["softmax", "triplet", "instance"] = "softmax"
    """one output a seed (paper), or what does not grow with N: copies against copies, or against a memory bank"""
    triplet_margin: float = 0.5
    """form `triplet`: by how much the squared distance to another seed must be larger"""
    patch: int = 0
    """side of a seed in pixels; 0: half the image up to 32 px, a third up to 96 (paper: 32), then three eighths"""
    copies: int = 2
    """copies for each image of the batch in one step"""
    transforms_per_seed: int = 0
    """fixed copies of each seed (paper about 150, which can be learnt by heart); 0: every copy is a new one"""
    seeds_per_image: int = 1
    """seeds from one image where there are enough images; two of a kind are one thing with two names"""
    seed_scales: tuple[float, ...] = (1.0,)
    """sides that seeds are cut at before they are resized, as multiples of their own (paper: several, not recorded)"""
    gradient_sampling: bool = True
    """whether seeds are drawn by the energy of their gradients, not anywhere"""
    shift: float = 0.2
    """largest shift, as a share of the side"""
    zoom: float = 1.4
    """largest zoom; the smallest is half of it (paper 0.7 to 1.4)"""
    turn: float = 20.0
    """largest turn in degrees"""
    contrast: float = 2.0
    """largest factor of a colour component; the smallest is its inverse"""
    power: float = 4.0
    """largest power of saturation and value; the smallest is its inverse"""
    hsv_factor: float = 1.4
    """largest factor of saturation and value; the smallest is half of it (paper 0.7 to 1.4)"""
    hsv_offset: float = 0.1
    """largest offset of saturation and value"""
    hue: float = 0.1
    """largest shift of the hue, of a full circle"""
    grey_p: float = 0.0
    """probability of losing the colour (paper: none)"""
    factors: Literal["log_uniform", "uniform"] = "log_uniform"
    """how zoom, contrast and powers spread over their ranges (not recorded)"""
    antialias: bool = False
    """whether copies that are shrunk are smoothed, lest their grain tell the zoom"""
    border: Literal["reflect", "zero"] = "reflect"
    """what lies beyond the image; black corners tell turn and place"""
    head: Literal["linear", "cosine"] = "linear"
    """form `softmax`: the paper's, or 16 times the cosines of features and classes (ours)"""
    dropout: float = 0.0
    """share of the features dropped before the last layer (paper 0.5)"""
    warm_start_seeds: int = 0
    """so many seeds alone in the first tenth of the run, where many classes do not start to fall; 0: all (paper 100)"""

    def __post_init__(self) -> None:
        if self.seeds < 2 or self.copies < 1:
            raise UsageError("Exemplar needs seeds >= 2 and copies >= 1.")
        if min(self.zoom, self.contrast, self.power, self.hsv_factor) < 1:
            raise UsageError("Exemplar needs zoom, contrast, power and hsv-factor of at least 1.")
        if not self.seed_scales or min(self.seed_scales) <= 0:
            raise UsageError("Exemplar cuts its seeds at seed-scales: name one or more numbers above 0.")
        if min(self.transforms_per_seed, self.warm_start_seeds) < 0 or self.seeds_per_image < 1:
            raise UsageError(
                "Exemplar needs seeds-per-image >= 1, transforms-per-seed and warm-start-seeds >= 0."
            )
        if self.head == "cosine" and self.form != "softmax":
            raise UsageError(f"Exemplar's form {self.form} has no classes: --head cosine is of the softmax.")
        if self.form == "triplet" and (self.copies < 2 or self.triplet_margin <= 0):
            raise UsageError("Exemplar's triplets need copies >= 2 and a triplet-margin above 0.")


PAPER_STL10 = (
    ExemplarOptions(seeds=8000, transforms_per_seed=150, dropout=0.5),
    Recipe(batch_size=128, optimizer="sgd", lr=0.01, lr_batch=128, momentum=0.9, weight_decay=4e-4, schedule="step",
           warmup=0.0, drops=(0.5, 0.75, 0.9), drop_factor=3.0, epochs=100.0),
)  # fmt: skip
"""section 4.1; at 96 px; batch, decay, length and where the rate drops are ours, the material does not record them"""


def exemplar_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over seeds (section 2.2): a mean over copies. logits (B, N), labels int64 (B,)."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)


class Exemplar(Method):
    """An encoder of patches and one linear layer: over all seeds, or to the vector that is compared."""

    Options = ExemplarOptions
    recipe = Recipe(batch_size=128, optimizer="adamw", lr=0.002, weight_decay=0.05, batchnorm="reestimated")
    paper = "Dosovitskiy, Springenberg, Riedmiller, Brox, NIPS 2014"
    explained = (
        "A few hundred small patches are chosen, and each becomes a class of its own. The network sees them shifted, "
        "zoomed, turned and recoloured, and says which patch it is looking at. So it learns what stays the same when "
        "a thing is seen differently. With more patches its last layer grows, and patches begin to look alike."
    )
    when = (
        "When images are few and small, and a thing must be known again after a shift, zoom, turn or recolouring. Not "
        "where images look alike: each seed is a class of its own, and two that are alike cannot be told apart."
    )
    undefended = _copies.STILL
    unseen = "new copies of its seeds, which are patches of the training images"
    windows: Tensor
    components: Tensor

    def __init__(self, encoder: Encoder, options: ExemplarOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        self.side = side_of(options, data.size)
        room = _exemplar_seeds.room_of(options, self.side)
        self.register_buffer("windows", torch.zeros(options.seeds, 3, room, room, dtype=torch.uint8))
        self.register_load_state_dict_pre_hook(_exemplar_seeds.fit_saved)
        self.register_buffer("components", torch.eye(3))
        kind = forms.CosineHead if options.head == "cosine" else nn.Linear
        self.head = kind(encoder.dim, options.seeds if options.form == "softmax" else forms.DIM)
        self.dropout = nn.Dropout(options.dropout)
        self.bank = forms.MemoryBank(options.seeds) if options.form == "instance" else None
        self.noise = forms.NOISE if self.bank is not None and options.seeds > forms.EXACT else 0
        self.chance = (
            0.5 if options.form == "triplet" else 1 / (self.noise + 1 if self.noise else options.seeds)
        )

    @classmethod
    def encoder_size(cls, options: ExemplarOptions, data: DataInfo) -> int:
        return side_of(options, data.size)

    @classmethod
    def least_images(cls, options: ExemplarOptions) -> int:
        return 2 if options.form == "triplet" else 1

    @torch.no_grad()
    def prepare(self, store: "ImageStore", generator: torch.Generator) -> None:
        """Choose the seeds, each in another image where there are enough, and the components of their colours."""
        o = self.options
        self.windows.copy_(_exemplar_seeds.cut(store, o, self.side, self.data.size, generator))
        pixels = self.windows.float().cpu().movedim(1, -1).reshape(-1, 3) / 255
        _, vectors = torch.linalg.eigh(torch.cov(pixels.T))
        self.components.copy_(vectors.T)

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        """New copies, also where those that are trained on are fixed."""
        labels = _copies.labels(self.options, n, generator, progress)
        return self._together(_copies.draw(self.options, len(labels), generator), labels, generator)

    def draw_step(
        self, n: int, generator: torch.Generator, progress: float, seed: int, step: int
    ) -> dict[str, Tensor]:
        """Each seed as often as any other over an epoch, but for one copy (of triplets, one set of copies)."""
        steps = max(1, self.data.images // n)
        labels = _copies.dealt(self.options, n, steps, progress, seed, step)
        return self._together(_copies.trained_on(self.options, labels, generator, seed), labels, generator)

    def _together(
        self, changes: dict[str, Tensor], labels: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        drawn = changes | {"labels": labels}
        if self.noise:
            drawn["noise"] = torch.randint(self.options.seeds, (len(labels), self.noise), generator=generator)
        return {name: value.unflatten(0, (-1, self.options.copies)) for name, value in drawn.items()}

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`copies` (B c, 3, p, p), the seeds they were made from, `labels` (B c,), and `noise` where it was drawn."""
        flat = {name: value.flatten(0, 1).to(self.windows.device) for name, value in drawn.items()}
        return {
            "copies": self.copies(flat),
            **{name: flat[name] for name in ("labels", "noise") if name in flat},
        }

    def given(self, views: dict[str, Tensor]) -> None:
        """Nothing of the images of a step: copies are of the seeds, which the panel shows."""

    def copies(self, drawn: dict[str, Tensor]) -> Tensor:
        """The drawn copies, (B, 3, p, p) in [0, 1]: geometry in one resampling, then contrast and colour."""
        windows = self.windows[drawn["labels"]].float() / 255
        return _copies.apply(self.options, windows, self.side, self.components.float(), drawn)

    def answers(self, copies: Tensor) -> Tensor:
        """Logits of the seeds (B, N), or the vectors that are compared (B, d)."""
        return self.head(self.dropout(self.encoder(copies)))

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        answers, labels = self.answers(views["copies"]), views["labels"]
        if self.bank is not None:
            loss, accuracy = self.bank(answers, labels, views.get("noise"))
        elif self.options.form == "triplet":
            loss, accuracy = forms.triplet_loss(answers, labels, self.options.triplet_margin)
        else:
            loss = exemplar_loss(answers, labels)
            accuracy = (answers.detach().argmax(1) == labels).float().mean()
        return {"loss": loss, "accuracy": accuracy}

    def chance_loss(self, images: int) -> float:
        """Of a head that gives zero for all copies."""
        if self.options.form == "triplet":
            return self.options.triplet_margin
        m = self.noise
        return math.log(1 + m) + m * math.log(1 + 1 / m) if m else math.log(self.options.seeds)

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """Loss and accuracy on copies that were not seen before; the classes are the seeds themselves.

        Accuracy is the share of copies whose seed is named, for triplets of triplets that are in order.
        """
        return {name: value.item() for name, value in self(views).items()}

    @torch.no_grad()
    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """Two seeds and 24 copies of each; of a trained net also whether it names them."""
        return _exemplar_picture.panel(self, generator, trained)

    def originals(self) -> Tensor:
        """The seeds as they were cut, (N, 3, p, p) in [0, 1]."""
        low = (self.windows.shape[-1] - self.side) // 2
        return self.windows[:, :, low : low + self.side, low : low + self.side].float() / 255
