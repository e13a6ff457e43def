"""Exemplar: from which of many patches was this distorted copy made?

Dosovitskiy, Springenberg, Riedmiller, Brox, "Discriminative unsupervised feature learning with convolutional neural
networks", NIPS 2014. N seed patches are cut where images have strong gradients (section 2); each is a class of its
own, and a network classifies copies of it that were shifted, zoomed, turned and changed in contrast and colour.

The paper's values, as `PAPER_STL10`: seeds of 32 px from 96 px images, 8000 of them with 150 copies each; shift 0.2
of the side, zoom 0.7 to 1.4, turn 20 degrees, factors 0.5 to 2 of the colour components, powers 0.25 to 4, factors
0.7 to 1.4 and offsets 0.1 of saturation and value, hue 0.1; SGD with momentum 0.9 (rates: see the specification).

The scaled defaults (ours) are for minutes on a processor: 500 seeds of half the side, every copy a new one, AdamW
with a cosine. The last layer grows with N, which is the method's limit: it has (d + 1) N parameters.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import SMALLEST, Encoder, evaluating
from nolabel.errors import UsageError
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.views import colour, hsv, plain
from nolabel.views.base import uniform

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nolabel.data.store import ImageStore

ROOM = 2.2
"""side of what is kept around a seed, in sides of the seed: enough for every shift, zoom and turn together"""
SOURCES = 10_000
"""images that seeds are looked for in"""


@dataclass(frozen=True)
class ExemplarOptions:
    """What can be chosen about seeds and their copies."""

    seeds: int = 500
    """N, patches that are classes of their own (paper 50 to 32,000)"""
    patch: int = 0
    """side of a seed in pixels; 0: half the image up to 32 px, else a third (paper 32 of 96)"""
    copies: int = 2
    """copies for each image of the batch in one step"""
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
    hue: float = 0.1
    """largest shift of the hue, of a full circle"""
    grey_p: float = 0.0
    """probability of losing the colour (paper: none)"""

    def __post_init__(self) -> None:
        if self.seeds < 2 or self.copies < 1 or min(self.zoom, self.contrast, self.power) < 1:
            raise UsageError(
                "Exemplar needs seeds >= 2, copies >= 1, and zoom, contrast and power of at least 1."
            )


PAPER_STL10 = (
    ExemplarOptions(seeds=8000),
    Recipe(batch_size=128, optimizer="sgd", lr=0.01, lr_batch=128, momentum=0.9, weight_decay=4e-4, schedule="step",
           warmup=0.0, drops=(0.5, 0.75, 0.9), epochs=100.0),
)  # fmt: skip
"""section 4.1; at 96 px; batch and schedule are ours, the material does not record them"""


def exemplar_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over seeds (section 2.2): a mean over copies. logits (B, N), labels int64 (B,)."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)


def gradient_energy(images: Tensor, side: int) -> Tensor:
    """Mean squared gradient of the grey image in every window of `side` px of (B, 3, H, W): (B, H-side+1, W-side+1)."""
    grey = F.pad(colour.luma(images), (1,) * 4, mode="replicate")
    across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    return F.avg_pool2d(across.square() + down.square(), side, 1)[:, 0]


class Exemplar(Method):
    """An encoder of patches and one linear layer over all seeds."""

    Options = ExemplarOptions
    recipe = Recipe(batch_size=128, optimizer="adamw", lr=0.002, weight_decay=0.05, batchnorm="reestimated")
    paper = "Dosovitskiy, Springenberg, Riedmiller, Brox, NIPS 2014"
    explained = (
        "A few hundred small patches are chosen, and each becomes a class of its own. The network sees them shifted, "
        "zoomed, turned and recoloured, and says which patch it is looking at. So it learns what stays the same when "
        "a thing is seen differently. With more patches its last layer grows, and patches begin to look alike."
    )
    undefended = {"hue": 0.0, "contrast": 1.0, "power": 1.0}
    windows: Tensor
    components: Tensor

    def __init__(self, encoder: Encoder, options: ExemplarOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        self.side = side_of(options, data.size)
        room = math.ceil(ROOM * self.side)
        self.register_buffer("windows", torch.zeros(options.seeds, 3, room, room, dtype=torch.uint8))
        self.register_buffer("components", torch.eye(3))
        self.head = nn.Linear(encoder.dim, options.seeds)
        self.chance = 1 / options.seeds

    @classmethod
    def encoder_size(cls, options: ExemplarOptions, data: DataInfo) -> int:
        return side_of(options, data.size)

    @torch.no_grad()
    def prepare(self, store: "ImageStore", generator: torch.Generator) -> None:
        """Choose the seeds, each in another image where there are enough, and the components of their colours."""
        seeds, room = len(self.windows), self.windows.shape[-1]
        order = torch.randperm(len(store), generator=generator)[:SOURCES]
        which = order[torch.arange(seeds) % len(order)]
        for start in range(0, seeds, 500):
            rows = which[start : start + 500]
            images = plain.whole(store.batch(rows), self.data.size).cpu()
            energy = gradient_energy(images, self.side)
            chance = (
                energy.flatten(1) + 1e-12
                if self.options.gradient_sampling
                else torch.ones_like(energy.flatten(1))
            )
            place = torch.multinomial(chance, 1, generator=generator)[:, 0]
            corner = torch.stack([place // energy.shape[2], place % energy.shape[2]], 1)
            self.windows[start : start + len(rows)] = self._around(images, corner, room)
        pixels = self.windows.float().cpu().movedim(1, -1).reshape(-1, 3) / 255
        _, vectors = torch.linalg.eigh(torch.cov(pixels.T))
        self.components.copy_(vectors.T)

    def _around(self, images: Tensor, corner: Tensor, room: int) -> Tensor:
        """The square of `room` px around each seed (its top left `corner`), images continued by reflection."""
        steps = torch.arange(room) - (room - self.side) // 2
        last = images.shape[-1] - 1
        rows, columns = (last - ((corner[:, i : i + 1] + steps) % (2 * last) - last).abs() for i in (0, 1))
        image = torch.arange(len(images)).view(-1, 1, 1)
        found = images.movedim(1, -1)[image, rows[:, :, None], columns[:, None]]
        return (found.movedim(-1, 1) * 255).round().byte()

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        o, count = self.options, n * self.options.copies

        def factor(most: float, columns: int, least: float = 0.0) -> Tensor:
            """Log-uniform between `least` (0: the inverse) and `most`."""
            low = math.log(least) if least else -math.log(most)
            return uniform(count * columns, low, math.log(most), generator).exp().view(count, columns)

        drawn = {
            "labels": torch.randint(o.seeds, (count,), generator=generator),
            "shift": uniform(2 * count, -o.shift, o.shift, generator).view(count, 2),
            "zoom": factor(o.zoom, 1, least=o.zoom / 2 if o.zoom > 1 else 1.0)[:, 0],
            "turn": uniform(count, -o.turn, o.turn, generator) * math.pi / 180,
            "components": factor(o.contrast, 3),
            "power": factor(o.power, 2),
            "factor": factor(1.4 if o.power > 1 else 1.0, 2),
            "offset": uniform(2 * count, -0.1, 0.1, generator).view(count, 2) * (o.power > 1),
            "hue": uniform(count, -o.hue, o.hue, generator),
            **colour.draw_grey(count, generator, o.grey_p),
        }
        return {name: value.unflatten(0, (n, o.copies)) for name, value in drawn.items()}

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`copies` (B c, 3, p, p) and the seeds they were made from, `labels` (B c,)."""
        flat = {name: value.flatten(0, 1).to(self.windows.device) for name, value in drawn.items()}
        return {"copies": self.copies(flat), "labels": flat["labels"]}

    def copies(self, drawn: dict[str, Tensor]) -> Tensor:
        """The drawn copies, (B, 3, p, p) in [0, 1]: geometry in one resampling, then contrast and colour."""
        windows = self.windows[drawn["labels"]].float() / 255
        share = self.side / windows.shape[-1]
        cosine, sine = (share * drawn["zoom"] * f(drawn["turn"]) for f in (torch.cos, torch.sin))
        x, y = (2 * share * drawn["shift"]).unbind(1)
        theta = torch.stack([torch.stack([cosine, -sine, x], 1), torch.stack([sine, cosine, y], 1)], 1)
        grid = F.affine_grid(theta, [len(windows), 3, self.side, self.side], align_corners=False)
        seen = F.grid_sample(windows, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        seen = hsv.scale_components(seen, self.components, drawn["components"])
        seen = hsv.change_hsv(seen, drawn["power"], drawn["factor"], drawn["offset"], drawn["hue"])
        return colour.grey(seen, {"grey": drawn["grey"].cpu()})

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, labels = self.head(self.encoder(views["copies"])), views["labels"]
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": exemplar_loss(logits, labels), "accuracy": accuracy}

    def chance_loss(self, images: int) -> float:
        return math.log(self.options.seeds)

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """Loss and accuracy on copies of the seeds that were not seen before: the classes are the seeds themselves."""
        return {name: value.item() for name, value in self(views).items()}

    @torch.no_grad()
    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """A few seeds (rows) and copies of them; of a trained net also whether it names them."""
        from matplotlib.figure import Figure

        rows, columns, middle = 3, 7, (self.windows.shape[-1] - self.side) // 2
        labels = torch.randint(len(self.windows), (rows,), generator=generator)
        flat = {k: v.flatten(0, 1)[: rows * columns].to(self.windows.device) for k, v in self.draw(
            rows * columns, generator, 0.0).items()}  # fmt: skip
        flat["labels"] = labels.repeat_interleave(columns).to(self.windows.device)
        copies = self.copies(flat)
        with evaluating(self):
            named = self.head(self.encoder(copies)).argmax(1) == flat["labels"] if trained else None
        figure = Figure(figsize=(1.4 * (columns + 1), 1.6 * rows + 0.6), layout="constrained")
        axes = figure.subplots(rows, columns + 1, squeeze=False)
        for r, label in enumerate(labels.tolist()):
            whole = (
                self.windows[label, :, middle : middle + self.side, middle : middle + self.side].float() / 255
            )
            for c, picture in enumerate([whole, *copies[r * columns : (r + 1) * columns]]):
                axes[r, c].imshow(picture.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
                axes[r, c].set(xticks=[], yticks=[])
                if c and named is not None:
                    right = bool(named[r * columns + c - 1])
                    axes[r, c].set_xlabel(
                        "✓" if right else "✗", fontsize=13, color="darkgreen" if right else "darkred"
                    )
        axes[0, 0].set_title("seed", fontsize=12)
        axes[0, 1].set_title("its copies", fontsize=12)
        figure.suptitle("Exemplar: from which seed was the copy made?", fontsize=13)
        return figure


def side_of(options: ExemplarOptions, size: int) -> int:
    """Side of a seed in pixels for images of `size` px; UsageError where it is too small or too large."""
    side = options.patch or (size // 2 if size <= 32 else 8 * round(size / 24))
    if not SMALLEST <= side <= size:
        raise UsageError(f"Seeds of {side} px do not fit images of {size} px: take {SMALLEST} to {size} px.")
    return side
