"""Colours that a trained colorization gives: to photographs at their own resolution, and in its picture."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import evaluating
from nolabel.methods import _colour_bins
from nolabel.methods._picture_grid import heat, picture_grid
from nolabel.views import plain
from nolabel.views.lab import lab_to_rgb, rgb_to_lab, rgb_to_yuv, yuv_to_rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nolabel.data.store import ImageStore
    from nolabel.methods.colorization import Colorization

Space = Literal["lab", "yuv"]

_UV = (0.436, 0.615)
UNITS = {"classification": (1.0, 1.0), "regression": _UV, "huber": _UV, "ab_regression": (110.0, 110.0)}
"""what colours are divided by, of each loss: regression brings them into [-1, 1] (specification 4.2)"""
HUBER = 0.1
"""distance in these units beyond which Huber's error grows only with the distance (ours)"""
PRIOR_IMAGES = 2000
ROWS = 512
"""rows of a photograph that are converted at a time, so that a large one needs little memory"""
LONGEST = 8
"""most that the longer side of what the net sees is of the shorter one"""
CONSTANT_STEPS = 50
GREY = 2.0
"""mean chroma in ab below which a photograph counts as black and white"""


@dataclass(frozen=True)
class Coloured:
    """One photograph, uint8 (3, H, W) each."""

    grey: Tensor
    """its lightness, all that the net was shown"""
    coloured: Tensor
    truth: Tensor | None
    """the photograph as it came; None where that was black and white already"""


@torch.no_grad()
def colour_photograph(
    method: "Colorization", photograph: Tensor, temperature: float | None = None
) -> Coloured:
    """The photograph, uint8 (3, H, W), of any size, as the trained `method` colours it.

    The net sees its lightness with the shorter side at the size that it was trained for. The colours it finds are
    enlarged and joined to the lightness at full resolution. `temperature`: of the annealed mean; None: the method's.
    """
    rgb = photograph.cpu()[None] / 255
    with evaluating(method):
        seen = F.interpolate(rgb, _seen_size(rgb, method.data.size), mode="bilinear", antialias=True)
        colours = method.colours(seen.to(method.classes.device), temperature).cpu()
    return Coloured(
        _bytes(joined(rgb, torch.zeros_like(colours), method.space)),
        _bytes(joined(rgb, colours, method.space)),
        photograph.cpu() if _is_coloured(seen).item() else None,
    )


def coarse(colours: Tensor, target: int, subsample: str) -> Tensor:
    """Colours (B, 2, S, S) on a grid of `target` places a side: means of squares ("area"), or their corners ("point").

    What the last whole square leaves over is not seen.
    """
    step = colours.shape[-1] // target
    if subsample == "point":
        return colours[:, :, ::step, ::step][:, :, :target, :target]
    return F.avg_pool2d(colours, step)


def frequencies(method: "Colorization", store: "ImageStore", generator: torch.Generator) -> Tensor:
    """How frequent the classes of `method` are in `PRIOR_IMAGES`, (Q,) with sum 1: the mean of their soft targets."""
    o, classes = method.options, method.classes.cpu()
    found = torch.zeros(len(classes))
    for rows in torch.randperm(len(store), generator=generator)[:PRIOR_IMAGES].split(250):
        ab = rgb_to_lab(plain.whole(store.batch(rows), method.data.size))[:, 1:]
        ab = coarse(ab, method.target, o.subsample).cpu()
        targets = _colour_bins.soft_targets(_colour_bins.places(ab), classes, o.neighbours, o.ab_grid)
        found += _colour_bins.masses(*targets, len(found))
    return found / found.sum()


def regression_loss(answer: Tensor, colours: Tensor, reach: float) -> Tensor:
    """Squared error of (B, 2, t, t), or Huber's of `reach`: a mean over images, places and both channels."""
    return F.mse_loss(answer, colours) if reach == math.inf else F.huber_loss(answer, colours, delta=reach)


def regression_errors(answer: Tensor, colours: Tensor, reach: float) -> dict[str, float]:
    """`loss` of (B, 2, t, t), and `constant_loss` of the best constant on these very colours."""
    guesses = {"loss": answer, "constant_loss": best_constant(colours, reach)}
    return {name: regression_loss(guess, colours, reach).item() for name, guess in guesses.items()}


def best_constant(colours: Tensor, reach: float) -> Tensor:
    """The one colour that loses least on (B, 2, t, t) by Huber's error of `reach`, squared where that is infinite.

    It stands in every place of the result. Each step of the loop lowers the loss; the mean, where it starts, is already
    the answer for squared errors.
    """
    found = colours.mean((0, 2, 3), keepdim=True)
    for _ in range(CONSTANT_STEPS):
        found = found + (colours - found).clamp(-reach, reach).mean((0, 2, 3), keepdim=True)
    return found.expand_as(colours)


def joined(rgb: Tensor, colours: Tensor, space: Space) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] with their own lightness and other colours (B, 2, h, w), enlarged to fit.

    Colours are ab in "lab", U and V in "yuv"; what sRGB does not have is cut.
    """
    large = F.interpolate(colours, size=rgb.shape[-2:], mode="bilinear")
    forth, back = (rgb_to_lab, lab_to_rgb) if space == "lab" else (rgb_to_yuv, yuv_to_rgb)
    parts = zip(rgb.split(ROWS, 2), large.split(ROWS, 2), strict=True)
    return torch.cat([back(torch.cat([forth(part)[:, :1], colour], 1)) for part, colour in parts], 2)


def panel(method: "Colorization", images: ImageBatch, trained: bool) -> "Figure":
    """Each image (a row): what the net sees, the colours that a trained one gives, how wrong they are, and the truth.

    Of a distribution over classes a colour is made by its mean, which is greyish, by the annealed mean, and by its
    mode, which is spotty. The errors are of the annealed mean: distances in ab, and their mean beside that of grey.
    """
    rgb = plain.whole(images, method.data.size)
    error, notes = "", []
    columns = {"what it sees": (method.split(rgb)["grey"] * 0.25 + 0.5).clamp(0, 1)}
    if trained:
        own = method.options.temperature
        made = {"mean\n(T = 1)": 1.0, f"annealed\n(T = {own:g})": own, "likeliest\n(T = 0)": 0.0}
        with evaluating(method):
            for title, temperature in made.items() if method.bins else {"its colours": None}.items():
                columns[title] = joined(rgb, method.colours(rgb, temperature), method.space)
        own_colours = columns[f"annealed\n(T = {own:g})" if method.bins else "its colours"]
        ab = rgb_to_lab(rgb)[:, 1:]
        wrong, chroma = (rgb_to_lab(own_colours)[:, 1:] - ab).norm(dim=1), ab.norm(dim=1)
        error = f"error{f' at T = {own:g}' * method.bins}\n(bright: {wrong.amax():.0f} in ab)"
        columns[error] = heat(wrong)
        notes = [
            f"off by {mean:.0f},\na grey one by {grey:.0f}"
            for mean, grey in zip(wrong.mean((1, 2)).tolist(), chroma.mean((1, 2)).tolist(), strict=True)
        ]
    truth = "the truth" if _is_coloured(rgb).any() else "as it came (black and white)"
    columns[truth] = rgb
    return picture_grid(columns, "Colorization: which colours did the image have?", 1.6, notes, error)


def _is_coloured(rgb: Tensor) -> Tensor:
    """Bool (B,): whether images (B, 3, H, W) in [0, 1] are more than black and white."""
    return rgb_to_lab(rgb)[:, 1:].norm(dim=1).mean((1, 2)) > GREY


def _seen_size(rgb: Tensor, shorter: int) -> tuple[int, int]:
    """Height and width of what the net sees: aspect kept, but for strips, whose longer side it could not hold."""
    height, width = rgb.shape[-2:]
    scale = shorter / min(height, width)
    return min(round(height * scale), LONGEST * shorter), min(round(width * scale), LONGEST * shorter)


def _bytes(images: Tensor) -> Tensor:
    """(1, 3, H, W) in [0, 1] to uint8 (3, H, W)."""
    return (images[0] * 255).round().byte()
