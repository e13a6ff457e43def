"""Exemplar's copies: what is drawn for one, and how it is made (Dosovitskiy et al., section 2.1)."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.seeds import generator as generator_of
from nolabel.views import colour, hsv
from nolabel.views.base import uniform

if TYPE_CHECKING:
    from nolabel.methods.exemplar import ExemplarOptions


STILL = {
    **dict.fromkeys(("shift", "turn", "hue", "hsv_offset"), 0.0),
    **dict.fromkeys(("contrast", "power", "hsv_factor"), 1.0),
}
"""options with which mean colours and places tell a seed; the zoom stays, without which a copy is its seed"""
WARM = 0.1
"""share of the run in which only `warm_start_seeds` are seen"""


def labels(o: "ExemplarOptions", n: int, generator: torch.Generator, progress: float) -> Tensor:
    """The seed of every copy of n images, drawn anew: int64 (n copies,)."""
    drawn, repeats = _drawn_and_repeated(o, n)
    return torch.randint(_known(o, progress), (drawn,), generator=generator).repeat_interleave(repeats)


def dealt(o: "ExemplarOptions", n: int, steps: int, progress: float, seed: int, step: int) -> Tensor:
    """The seed of every copy of n images at `step`, int64 (n copies,): an epoch of `steps` steps deals all seeds out.

    It goes through the seeds again and again, each time in another order, and so has all of them equally often, but
    for one. The place of a step in it follows from the numbers of the step and of the run's seed.
    """
    (drawn, repeats), known = _drawn_and_repeated(o, n), _known(o, progress)
    epoch, place = divmod(step, steps)
    first, behind = place * drawn, (place + 1) * drawn
    blocks = [_block(known, seed, epoch, number) for number in range(first // known, -(-behind // known))]
    return torch.cat(blocks)[first % known :][:drawn].repeat_interleave(repeats)


@lru_cache(maxsize=4)
def _block(known: int, seed: int, epoch: int, number: int) -> Tensor:
    return torch.randperm(known, generator=generator_of(seed, "labels", epoch, number))


def _known(o: "ExemplarOptions", progress: float) -> int:
    return min(o.warm_start_seeds or o.seeds, o.seeds) if progress < WARM else o.seeds


def _drawn_and_repeated(o: "ExemplarOptions", n: int) -> tuple[int, int]:
    """How many labels a step draws, and how often it takes each: triplets need several copies of a seed in one step."""
    return (n, o.copies) if o.form == "triplet" else (n * o.copies, 1)


def trained_on(
    o: "ExemplarOptions", labels: Tensor, generator: torch.Generator, seed: int
) -> dict[str, Tensor]:
    """The changes of copies of the seeds `labels`: new ones, or some of those that the run's `seed` fixes."""
    if not o.transforms_per_seed:
        return draw(o, len(labels), generator)
    which = torch.randint(o.transforms_per_seed, (len(labels),), generator=generator)
    return {k: v[labels * o.transforms_per_seed + which] for k, v in _fixed(o, seed).items()}


@lru_cache(maxsize=1)
def _fixed(o: "ExemplarOptions", seed: int) -> dict[str, Tensor]:
    """The changes of all fixed copies, seed by seed."""
    return draw(o, o.seeds * o.transforms_per_seed, generator_of(seed, "exemplar copies"))


def draw(o: "ExemplarOptions", count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The changes of `count` copies: one value, or one for each component, of a copy."""

    def factor(most: float, columns: int, least: float = 0.0) -> Tensor:
        """Between `least` (0: the inverse) and `most`, by default evenly in the logarithm."""
        low = least or 1 / most
        if o.factors == "uniform":
            return uniform(count * columns, low, most, generator).view(count, columns)
        return uniform(count * columns, math.log(low), math.log(most), generator).exp().view(count, columns)

    def half(most: float) -> float:
        return most / 2 if most > 1 else 1.0

    return {
        "shift": uniform(2 * count, -o.shift, o.shift, generator).view(count, 2),
        "zoom": factor(o.zoom, 1, least=half(o.zoom))[:, 0],
        "turn": uniform(count, -o.turn, o.turn, generator) * math.pi / 180,
        "components": factor(o.contrast, 3),
        "power": factor(o.power, 2),
        "factor": factor(o.hsv_factor, 2, least=half(o.hsv_factor)),
        "offset": uniform(2 * count, -o.hsv_offset, o.hsv_offset, generator).view(count, 2),
        "hue": uniform(count, -o.hue, o.hue, generator),
        **colour.draw_grey(count, generator, o.grey_p),
    }


def apply(
    o: "ExemplarOptions", windows: Tensor, side: int, components: Tensor, drawn: dict[str, Tensor]
) -> Tensor:
    """Copies (B, 3, side, side) of the seeds in the middle of `windows` (B, 3, room, room), all in [0, 1].

    One resampling shifts, zooms and turns; then contrast along the colour components, then saturation, value and hue.
    """
    share = side / windows.shape[-1]
    cosine, sine = (share * drawn["zoom"] * f(drawn["turn"]) for f in (torch.cos, torch.sin))
    x, y = (2 * share * drawn["shift"]).unbind(1)
    theta = torch.stack([torch.stack([cosine, -sine, x], 1), torch.stack([sine, cosine, y], 1)], 1)
    seen = _sampled(windows, theta, side, o.border)
    if o.antialias:
        finer = F.avg_pool2d(_sampled(windows, theta, 2 * side, o.border), 2)
        seen = torch.where((drawn["zoom"] > 1).view(-1, 1, 1, 1), finer, seen)
    seen = hsv.scale_components(seen, components, drawn["components"])
    seen = hsv.change_hsv(seen, drawn["power"], drawn["factor"], drawn["offset"], drawn["hue"])
    return colour.grey(seen, {"grey": drawn["grey"].cpu()})


def _sampled(windows: Tensor, theta: Tensor, side: int, border: str) -> Tensor:
    grid = F.affine_grid(theta, [len(windows), 3, side, side], align_corners=False)
    beyond = "reflection" if border == "reflect" else "zeros"
    return F.grid_sample(windows, grid, mode="bilinear", padding_mode=beyond, align_corners=False)
