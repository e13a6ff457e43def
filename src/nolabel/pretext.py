"""Does a pretext task fit these images? One or two short runs, and sentences that say what they showed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nolabel import catalog
from nolabel.api import pretrain
from nolabel.data.store import ImageStore
from nolabel.errors import DataError, UsageError
from nolabel.evaluation._split import hold_back
from nolabel.methods.base import Method
from nolabel.report._text import capitalised
from nolabel.report.records import method_in_words
from nolabel.runs import Run, held_out
from nolabel.seeds import generator
from nolabel.training.begin import open_images
from nolabel.training.restore import load_method
from nolabel.training.work import training_images
from nolabel.views import plain
from nolabel.views.lab import rgb_to_lab

GREY = 0.01
"""mean difference between the channels of a pixel, in [0, 1], below which an image counts as grey"""
ONE_COLOUR = 2.0
"""spread of colours in ab below which all images count as tinted alike"""
LOOKED_AT = 512
"""images whose colour is measured, and whose thumbnails are turned"""
THUMBNAIL = 8
"""side in pixels of a thumbnail"""
EASY = 0.95
"""accuracy at which little is left to learn from a task"""
HARDLY = 0.1
"""share of the way from guessing to all answers below which a task is hardly solved"""
SHORTCUT = 0.1
"""score that the defences must cost before they are said to block a shortcut"""
FEW = 50
"""steps after which a task that is not solved may yet be learnt"""
SIGMAS = 3.0
"""standard errors above chance that count as solved"""


@dataclass(frozen=True)
class Solved:
    """How well a task is solved on images that were not trained on."""

    score: float
    """accuracy, or the share of the constant prediction's loss that is gone"""
    chance: float
    """of guessing; 0 for a share of loss"""
    images: int
    kind: str
    """`accuracy`, or `loss`: the score is 1 - loss / loss of the best constant answer"""
    empty: bool = False
    """whether the best constant answer loses nothing: there is nothing to predict, and the score is 0"""
    steps: int = 0
    """of training; 0 of a plain fit"""

    @property
    def above(self) -> bool:
        """Whether it is solved better than guessing explains."""
        if self.kind == "loss":
            return self.score > 0.01
        error = math.sqrt(self.chance * (1 - self.chance) / self.images)
        return self.score > self.chance + SIGMAS * error

    @property
    def way(self) -> float:
        """The share of the way from guessing, 0, to all answers, 1."""
        return (self.score - self.chance) / (1 - self.chance)


@dataclass(frozen=True)
class Colours:
    """How much colour images have."""

    share: float
    """of the images that are not grey"""
    spread: float
    """standard deviation of ab, between images and places: 0 where all have one colour, 12 in photographs"""


@dataclass(frozen=True)
class Check:
    """What the runs showed."""

    default: Solved
    """with the method's own options"""
    other: Solved | None
    """with its defences off, or on where they are off by default; None: the method has none"""
    colours: Colours
    upright: Solved
    """how well turns of thumbnails are told"""
    sentences: tuple[str, ...]


def check(
    method: str,
    data: str | Path | ImageStore,
    *,
    out: Path,
    minutes: float,
    encoder: str = "resnet10",
    size: int | None = None,
    labels: Path | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Check:
    """Train `method` on `data` as it is and with its defences the other way, `minutes` in all, in folders of `out`.

    Both for as many steps as the first does in its share of the minutes, so that they compare; nothing is compiled,
    which would take most of a short run.

    Raises:
        UsageError: an unknown method, or a folder in use.
        DataError: fewer than five images.
    """
    kind = catalog.load("methods", method, Method)
    arms: dict[str, dict[str, Any]] = {"default": {}}
    if kind.defended:
        arms["defended"] = kind.defended
    elif kind.undefended:
        arms["undefended"] = kind.undefended
    store = data if isinstance(data, ImageStore) else open_images(data, size, labels)[0]
    if training_images(store, seed)[1] is None:
        store = hold_back(store, seed)
    runs: list[Run] = []
    length: dict[str, float] = {"minutes": minutes / len(arms)}
    for name, options in arms.items():
        say(f"Training {method_in_words(method)} {_in_words(options) or 'as it is'} ...")
        run = pretrain(method, store, options=options, encoder=encoder, size=size, seed=seed, labels=labels,
                       out=out / name, compile=False, **length)  # type: ignore[arg-type]  # fmt: skip
        length = {"steps": run.info["budget"]["steps"]}
        runs.append(run)
    found = [solved(run) for run in runs]
    other = found[1] if len(found) > 1 else None
    train = store.split("train")
    colours, upright = colours_of(train), turns_of_thumbnails(train)
    return Check(found[0], other, colours, upright, tuple(judge(method, found[0], other, colours, upright)))


def _in_words(options: dict[str, Any]) -> str:
    """`{"gap": False, "jitter": 0}` -> "with --no-gap --jitter 0"; "" for none."""
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        words.append(f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag} {value}")
    return f"with {' '.join(words)}" if words else ""


def solved(run: Run) -> Solved:
    """How well the finished `run` solved its task on held-out images, from its last measurement.

    An accuracy where the method has one, else what it gained over the best constant answer (`held_out` names its
    loss `constant_loss`), else over the loss of a head that says the same of everything.

    Raises:
        DataError: no images were held out.
        UsageError: the method knows no loss to compare with.
    """
    task = held_out(run.info["final"])
    if "loss" not in task:
        raise DataError(
            "Too few images to hold any back: a pretext task cannot be checked on images it was trained on."
        )
    images, chance, steps = int(task["images"]), run.info["chance"]["accuracy"], run.info["budget"]["steps"]
    if chance is not None and "accuracy" in task:
        return Solved(task["accuracy"], chance, images, "accuracy", steps=steps)
    constant = task.get("constant_loss")
    if constant is None:
        constant = load_method(run.folder).chance_loss(min(run.info["recipe"]["batch_size"], images))
    if constant is None:
        raise UsageError(
            f"{run.info['method']} cannot be checked: it states neither `chance` nor `chance_loss` to compare with."
        )
    if constant <= 0:
        return Solved(0.0, 0.0, images, "loss", empty=True, steps=steps)
    return Solved(1 - task["loss"] / constant, 0.0, images, "loss", steps=steps)


def _some(store: ImageStore, side: int) -> Tensor:
    """The first `LOOKED_AT` images of a fixed random order, whole: (n, 3, side, side) in [0, 1]."""
    order = torch.randperm(len(store), generator=generator(0, "pretext", "images"))[:LOOKED_AT]
    return plain.whole(store.batch(order), side)


def colours_of(store: ImageStore) -> Colours:
    """How many images have channels that differ, and how much colours differ."""
    pixels = _some(store, 32)
    apart = (pixels.amax(1) - pixels.amin(1)).mean((1, 2))
    spread = rgb_to_lab(pixels)[:, 1:].var((0, 2, 3), correction=0).mean().sqrt()
    return Colours(float((apart > GREY).float().mean()), float(spread))


def turns_of_thumbnails(store: ImageStore) -> Solved:
    """How well least squares on thumbnails of half of the images name the quarter turns of the other half's."""
    small = (
        _some(store, THUMBNAIL).cpu() * 255
    ).round() / 255  # rounding of the resize must not tell the turn
    small = small - small.mean()
    turned = torch.stack([small.rot90(k, (2, 3)).flatten(1) for k in range(4)], 1)
    half = len(turned) // 2
    seen, asked = turned[:half].flatten(0, 1), turned[half:]
    ridge = len(seen) * seen.square().mean().clamp_min(1e-8) * torch.eye(seen.shape[1])
    weights = torch.linalg.solve(seen.T @ seen + ridge, seen.T @ torch.eye(4).repeat(half, 1))
    right = (asked @ weights).argmax(2) == torch.arange(4)
    return Solved(float(right.float().mean()), 0.25, len(asked), "accuracy")


def judge(method: str, default: Solved, other: Solved | None, colours: Colours, upright: Solved) -> list[str]:
    """Sentences on whether the task fits, from the evidence alone; `method` is a name of the catalogue."""
    kind = catalog.load("methods", method, Method)
    told = [_solved_sentence(method, kind, default)]
    if other is not None and not default.empty:
        told.append(_shortcut_sentence(kind, default, other))
    turns = _own_turns(default, upright) if kind.needs == "turns" else _turns(upright)
    return [*told, _colour_sentence(kind, colours), turns]


def _solved_sentence(method: str, kind: type[Method], found: Solved) -> str:
    name = capitalised(method_in_words(method))
    where = f"on {kind.unseen or f'{found.images:,} held-out images'}"
    after = f"after {found.steps:,} step{'s' * (found.steps != 1)}"
    unfit = f"{name} does not fit, or needs longer"
    if found.steps < FEW:
        unfit = f"{name} was not learnt, in so few steps that it may fit all the same: give it more minutes"
    if found.empty:
        return (
            f"{name} does not fit: there is nothing to predict {where}, because one constant answer is right "
            "everywhere."
        )
    if found.kind == "loss":
        if not found.above:
            return f"{unfit}; {where} its answers are no better than one constant answer {after}."
        return (
            f"{name} can be learnt: {where} its loss is {found.score:.0%} below that of the best constant answer "
            f"{after}."
        )
    told = (
        f"{found.score:.1%} of the answers {where} are right {after}, where guessing gives {found.chance:.1%}"
    )
    if not found.above:
        return f"{unfit}; {told}."
    told = f"{told}, {found.way:.0%} of the way from guessing to all"
    if found.way < HARDLY:
        return f"{name} hardly fits, or needs longer: {told}. The images tell the answer, but little of it."
    if found.score > EASY:
        return (
            f"{name} is solved almost perfectly: {told}. So easy a task soon teaches nothing more: look for a "
            "shortcut, or make it harder."
        )
    return f"{name} fits: {told}. The images carry the answer, and it is not trivial."


def _shortcut_sentence(kind: type[Method], default: Solved, other: Solved) -> str:
    unit = (
        "of the answers are right" if default.kind == "accuracy" else "of the constant answer's loss is gone"
    )
    off, on = (default, other) if kind.defended else (other, default)
    told = f"With its defences off {off.score:.1%} {unit}, with them on {on.score:.1%}"
    if max(default.steps, other.steps) < FEW:
        return f"{told}: too few steps to tell a shortcut."
    if off.score - on.score <= SHORTCUT:
        return f"{told}: no shortcut was found at this length of training."
    if kind.defended:
        return (
            f"{told}: a part of the answer lies in what they hide, which may be a shortcut. They are off by default: "
            f"pretrain {_in_words(kind.defended)} as well, and keep the encoder that is measured better."
        )
    return (
        f"{told}: there is a shortcut in these images that needs no understanding, and the defences block it. "
        "Leave them on."
    )


def _colour_sentence(kind: type[Method], colours: Colours) -> str:
    if colours.share < 0.5:
        few = f"Only {colours.share:.0%} of the images have colour: in the others it carries no information"
        return (
            f"{few if colours.share else 'No image has colour: colour carries no information here'}, colorization has "
            "nothing to teach there, and colour distortions change no more than brightness and contrast."
        )
    told = f"{colours.share:.0%} of the images have colour"
    if colours.spread < ONE_COLOUR:
        return (
            f"{told}, but nearly the same one everywhere (spread {colours.spread:.1f} in ab; photographs have 12): "
            "colour carries next to nothing here, and colorization has next to nothing to teach."
        )
    told = (
        f"Colour carries information here: {told}, and it differs (spread {colours.spread:.1f} in ab; 0 is one "
        "colour)"
    )
    return f"{told}, so there is something to predict." if kind.needs == "colour" else f"{told}."


def _thumbnails(upright: Solved) -> str:
    return (
        f"a plain linear fit to thumbnails of {THUMBNAIL} px names {upright.score:.0%} of their quarter turns "
        "(guessing 25%)"
    )


def _turns(upright: Solved) -> str:
    """Whether turns carry information, from thumbnails alone."""
    if upright.above:
        return f"Turns carry information here, since the images have a natural up: {_thumbnails(upright)}."
    return (
        f"No natural up was found, as in pictures from above: {_thumbnails(upright)}. Turns carry no information here "
        "that brightness tells; whether a network finds any, `nolabel check-pretext rotation DATA` measures."
    )


def _own_turns(default: Solved, upright: Solved) -> str:
    """The same, where a network was trained to name turns too."""
    told = _thumbnails(upright)
    if default.above and upright.above:
        return (
            f"Turns carry information here, since the images have a natural up: {told}. So much of the answer lies "
            "in where it is bright, and needs no understanding."
        )
    if default.above:
        return f"Turns carry information here, and brightness alone does not tell them: {told}."
    if upright.above:
        return f"Turns carry information here: {told}. The network was trained too short to find it."
    if default.steps < FEW:
        return f"No natural up was found by brightness: {told}. The network took too few steps to tell."
    return f"No natural up was found, as in pictures from above, neither by the network nor by brightness: {told}."
