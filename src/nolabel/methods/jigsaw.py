"""Jigsaw: in which of many orders were the tiles of an image shuffled?

Noroozi, Favaro, "Unsupervised learning of visual representations by solving jigsaw puzzles", ECCV 2016. A window
of the image is cut into 3 x 3 cells, a tile is taken from a random place in each (section 4.1), the tiles are put
into one of K orders that lie far apart (section 4.2), and a network that sees each tile alone, and joins them
late, names the order.

The paper's values, as `PAPER_IMAGENET`: a window of 225 px somewhere in 256, cells of 75, tiles of 64 px (its part on
shortcuts has 255 and 85); 1000 orders; 30 % grey images; channels of colour images shifted by up to 2 px; each tile's
mean and deviation set to 0 and 1; SGD 0.01, divided by 10 every 100,000 of 350,000 steps, 256 puzzles, decay 5e-4. Its
context-free net is the encoder `alexnet_jigsaw` (grouped AlexNet columns) with `--head fc`: fc6 for each tile, fc7 over
all of them; any encoder may stand in the columns' place. The first released code (`CODE_IMAGENET`) has cells of 85 px,
which fill images of 255, 100 orders, an fc6 of 1024, no grey images, no channel shifts, and takes out the tiles' means
alone. Different here: the net's convolutions start from He's normal distribution with biases of 0, the layers above as
torch's do (code: normal, deviation 0.01, some biases 1), and biases learn as weights do (code: twice as fast).

The scaled defaults (ours) are for minutes on a processor: 2 x 2 tiles up to 32 px, a small head, AdamW with a
cosine, and several orders of the same tiles in one step: joining features again costs next to nothing.
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
from nolabel.methods import _jigsaw_picture, _late_fusion
from nolabel.methods._jigsaw_tiles import geometry_of, usual_orders
from nolabel.methods._permutations import permutation_set
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.views import colour, geometry, plain, tiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class JigsawOptions:
    """What can be chosen about the puzzle."""

    grid: int = 0
    """tiles a side; 0: 2 up to 32 px, else 3 (paper 3)"""
    permutations: int = 0
    """K, orders to tell apart; 0: all 24 of 2 x 2; of 3 x 3 24 up to 32 px, 64 up to 64 px, else 100 (paper 1000)"""
    criterion: Literal["min_then_mean", "mean", "middle", "min", "random", "algebraic"] = "min_then_mean"
    """orders far apart at worst, on average (paper), middling, close (its ablation), any, or of the furthest groups"""
    tie_break: Literal["random", "first"] = "random"
    """which of orders that are equally far apart is taken: a drawn one, or the first (paper)"""
    min_hamming: int = 0
    """places in which any two orders differ at least, against puzzles that look alike; 0: as `criterion` has it"""
    permutation_seed: int = 0
    """of the choice of orders, apart from the run's"""
    identity: bool = False
    """whether the order that moves nothing may be among them"""
    cell: int = 0
    """side of a cell in pixels; 0: as large as fits, less a pixel at 3 x 3 up to 128 px (paper 75, code 85)"""
    tile: int = 0
    """side of a tile in pixels; 0: about three quarters of a cell (paper 64 of 85, and 64 of 75)"""
    gap: bool = True
    """whether tiles are smaller than cells, at random places in them; without it edges continue into neighbours"""
    min_gap: int = 0
    """smallest gap between neighbouring tiles in pixels (paper: they may touch)"""
    tile_norm: Literal["mean_std", "mean", "none"] = "mean_std"
    """what is taken out of each channel of each tile: brightness and contrast, brightness (first code), nothing"""
    channel_jitter: int = -1
    """largest shift of a tile's channels in pixels, against lens fringes; -1: 1, and 0 or 2 by size (paper 2)"""
    grey_p: float = 0.3
    """probability of losing the colour (paper 0.3)"""
    flip_p: float = 0.0
    """probability that the whole image is mirrored before it is cut (paper: none)"""
    random_crop: bool = True
    """whether the window moves where it is smaller than the image"""
    puzzles: int = 4
    """orders of an image's tiles in one step (paper 1)"""
    head: Literal["pooled", "fc"] = "pooled"
    """`pooled`: a tile's mean features; `fc`: its map, by a 3x3 pool and fc6 (paper)"""
    per_tile: int = 128
    """values that a tile gives to the head (paper 512, its code 1024)"""
    head_hidden: int = 512
    """width of the layer that joins the tiles (paper 4096)"""
    dropout: float = 0.0
    """share of the hidden units that is dropped (paper 0.5)"""

    def __post_init__(self) -> None:
        if self.grid not in (0, 2, 3) or min(self.puzzles, self.per_tile, self.head_hidden) < 1:
            raise UsageError(
                f"Jigsaw needs a grid of 2 or 3 (not {self.grid}), and puzzles (not {self.puzzles}), per_tile (not "
                f"{self.per_tile}) and head_hidden (not {self.head_hidden}) of 1 or more."
            )
        if min(self.min_hamming, self.min_gap, self.cell) < 0:
            raise UsageError("Jigsaw needs min-hamming, min-gap and cell of 0 or more.")


_CFN = JigsawOptions(
    grid=3, permutations=1000, criterion="mean", tie_break="first", tile=64, channel_jitter=2, puzzles=1, head="fc",
    per_tile=512, head_hidden=4096, dropout=0.5,
)  # fmt: skip
_SOLVER = Recipe(
    batch_size=256, optimizer="sgd", lr=0.01, lr_batch=256, momentum=0.9, weight_decay=5e-4, schedule="step",
    warmup=0.0, drops=(100 / 350, 200 / 350, 300 / 350), drop_factor=10.0, epochs=69.0,
)  # fmt: skip
PAPER_IMAGENET = (replace(_CFN, cell=75), _SOLVER)
"""section 4, at 256 px"""
CODE_IMAGENET = (
    replace(_CFN, cell=85, permutations=100, channel_jitter=0, grey_p=0.0, tile_norm="mean", per_tile=1024),
    _SOLVER,
)
"""the first released solver, at 255 px"""


def jigsaw_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over orders (section 3): a mean over puzzles. logits (P, K), labels int64 (P,)."""
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), labels)


def shuffled(parts: Tensor, orders: Tensor) -> Tensor:
    """Place i of a puzzle receives tile `orders[i]`: parts (B, n, ...), orders (B, P, n) -> (B, P, n, ...)."""
    image = torch.arange(len(parts), device=parts.device).view(-1, 1, 1)
    return parts[image, orders]


class Jigsaw(Method):
    """One encoder for all tiles, and a head that joins them."""

    Options = JigsawOptions
    recipe = Recipe(batch_size=128, optimizer="adamw", lr=0.002, weight_decay=0.05, batchnorm="reestimated")
    paper = "Noroozi, Favaro, ECCV 2016"
    explained = (
        "A picture is cut into tiles, and the tiles are shuffled. Which order was it? To put a head above a body the "
        "network must know both, because it sees each tile alone. Small gaps between the tiles keep it from matching "
        "edges, as one does with a real puzzle."
    )
    orders: Tensor
    """int64 (K, n): the permutations"""
    when = (
        "Where context prediction suits too: each puzzle asks about all tiles at once, so it learns from fewer images. "
        "Not for textures and aerial images, whose parts have no place of their own."
    )
    undefended = {"gap": False, "tile_norm": "none", "channel_jitter": 0, "grey_p": 0.0}

    def __init__(self, encoder: Encoder, options: JigsawOptions, data: DataInfo) -> None:
        super().__init__(encoder, options, data)
        self.grid, self.cell, self.tile, self.shift = geometry_of(options, data.size)
        o, count = options, options.permutations or usual_orders(self.grid, data.size)
        chosen_by = (o.criterion, o.identity, o.permutation_seed, o.min_hamming, o.tie_break)
        self.register_buffer(
            "orders", torch.from_numpy(permutation_set(self.grid**2, count, *chosen_by).copy())
        )
        self.chance = 1 / count
        if o.head == "fc":
            self.shrink: nn.Module = _late_fusion.column(encoder, self.tile, o.per_tile, o.dropout)
        else:
            self.shrink = nn.Linear(encoder.dim, o.per_tile)
        width = self.grid**2 * o.per_tile
        self.head = _late_fusion.joining(width, o.head_hidden, count, o.dropout, o.head == "pooled")

    @classmethod
    def encoder_size(cls, options: JigsawOptions, data: DataInfo) -> int:
        return geometry_of(options, data.size)[2]

    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        count, least = self.grid**2, self.options.min_gap
        room = self.cell - self.tile - 2 * self.shift - least
        free = self.data.size - self.grid * self.cell if self.options.random_crop else 0
        spread = (2 * self.shift + 1,)
        drawn = {
            "window": torch.randint(free + 1, (n, 1, 2), generator=generator),
            "offset": least // 2 + self.shift + torch.randint(room + 1, (n, count, 2), generator=generator),
            "channels": torch.randint(*spread, (n, count, 3, 2), generator=generator) - self.shift,
            "labels": torch.randint(len(self.orders), (n, self.options.puzzles), generator=generator),
            **colour.draw_grey(n, generator, self.options.grey_p),
            **geometry.draw_flip(n, generator, self.options.flip_p),
        }
        drawn["channels"] *= ~drawn["grey"].view(-1, 1, 1, 1)
        return drawn

    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """`tiles` (B n, 3, p, p), those of an image adjacent and in their places, and `labels` (B, P)."""
        whole = geometry.flip(colour.grey(plain.whole(images, self.data.size), drawn), drawn)
        at = self.corners(drawn)[:, :, None] + drawn["channels"]
        parts = tiles.cut(whole, at[..., 0], at[..., 1], self.tile)
        if self.options.tile_norm == "mean_std":
            parts = tiles.standardise(parts)
        elif self.options.tile_norm == "mean":
            parts = parts - parts.mean((-2, -1), keepdim=True)
        return {"tiles": parts.flatten(0, 1), "labels": drawn["labels"].to(parts.device)}

    def corners(self, drawn: dict[str, Tensor]) -> Tensor:
        """Top and left of every tile, int64 (B, n, 2), before its channels are shifted."""
        cells = torch.cartesian_prod(torch.arange(self.grid), torch.arange(self.grid)) * self.cell
        return drawn["window"] + cells + drawn["offset"]

    def answer(self, parts: Tensor, labels: Tensor) -> Tensor:
        """Logits (B P, K) for tiles (B n, 3, p, p) put into the orders `labels` (B, P)."""
        each = self.each(parts).unflatten(0, (-1, self.grid**2))
        return self.head(shuffled(each, self.orders[labels]).flatten(2).flatten(0, 1))

    def each(self, parts: Tensor) -> Tensor:
        """What every tile (B n, 3, p, p) alone gives to the head: (B n, per_tile)."""
        known = self.options.tile_norm != "none"
        if self.options.head == "pooled":
            return self.shrink(self.encoder(parts, standardised=known))
        return self.shrink(self.encoder.maps(parts, standardised=known)[self.encoder.stages[-1]])

    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        logits, labels = self.answer(views["tiles"], views["labels"]), views["labels"].flatten()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {"loss": jigsaw_loss(logits, labels), "accuracy": accuracy}

    def chance_loss(self, images: int) -> float:
        return math.log(len(self.orders))

    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """Loss, and the share of orders that are named right."""
        return {name: value.item() for name, value in self(views).items()}

    @torch.no_grad()
    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """Puzzle, the trained net's answer, and solution of each image (a row)."""
        drawn = self.draw(images.size, generator, 0.0)
        views = self.views(images, drawn)
        orders = self.orders[views["labels"][:, 0]]
        at = self.corners(drawn)
        whole = geometry.flip(plain.whole(images, self.data.size), drawn)
        parts = tiles.cut(whole, at[..., 0], at[..., 1], self.tile)
        puzzle = shuffled(parts, orders[:, None])[:, 0]
        answer = right = None
        if trained:
            with evaluating(self):
                named = self.answer(views["tiles"], views["labels"][:, :1]).argmax(1)
            back = self.orders[named].argsort(1)
            answer, right = shuffled(puzzle, back[:, None])[:, 0], named == views["labels"][:, 0]
        return _jigsaw_picture.draw(puzzle, parts, answer, right)
