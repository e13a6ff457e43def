"""Does a pretext task fit these images? Two short runs, and sentences that say what they showed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nolabel import catalog
from nolabel.api import pretrain
from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.methods.base import Method
from nolabel.runs import Run
from nolabel.seeds import generator
from nolabel.views import plain

GREY = 0.01
"""mean difference between the channels of a pixel, in [0, 1], below which an image counts as grey"""
LOOKED_AT = 512
"""images whose colour is measured"""
EASY = 0.95
"""accuracy at which little is left to learn from a task"""
SHORTCUT = 0.1
"""accuracy that the defences must cost before they are said to block a shortcut"""
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

    @property
    def above(self) -> bool:
        """Whether it is solved better than guessing explains."""
        if self.kind == "loss":
            return self.score > 0.01
        error = math.sqrt(self.chance * (1 - self.chance) / self.images)
        return self.score > self.chance + SIGMAS * error


@dataclass(frozen=True)
class Check:
    """What the runs showed."""

    defended: Solved
    undefended: Solved | None
    """None: the method has no defences, or needs none"""
    colour: float
    """share of the images that are not grey"""
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
    """Train `method` on `data` twice, with its defences and without, `minutes` in all; runs go into `out`.

    Raises:
        UsageError: an unknown method, or a folder in use.
        DataError: no images, or too few to hold any back.
    """
    kind = catalog.load("methods", method, Method)
    arms: list[tuple[str, dict[str, Any]]] = [("defended", {})]
    if kind.undefended:
        arms.append(("undefended", kind.undefended))
    runs: list[Run] = []
    for name, options in arms:
        say(f"Training with its defences {'on' if name == 'defended' else 'off'} ...")
        run = pretrain(method, data, options=options, encoder=encoder, size=size, seed=seed, labels=labels,
                       minutes=minutes / len(arms), out=out / name)  # fmt: skip
        runs.append(run)
    side = runs[0].info["data"]["opened_at"]
    store = data if isinstance(data, ImageStore) else ImageStore.open(data, size=side)
    found = [solved(run) for run in runs]
    colour = colourful(store.split("train"))
    undefended = found[1] if len(found) > 1 else None
    return Check(found[0], undefended, colour, tuple(judge(method, found[0], undefended, colour)))


def solved(run: Run) -> Solved:
    """How well the finished `run` solved its task on held-out images, from its last measurement.

    An accuracy where the method has one, else what it gained over the best constant answer (`held_out` names its
    loss `constant_loss`), else over the loss of a head that says the same of everything.
    """
    task = {
        key.removeprefix("held_out/"): value
        for key, value in run.info["final"].items()
        if key.startswith("held_out/")
    }
    if "loss" not in task:
        raise DataError(
            "Too few images to hold any back: a pretext task cannot be checked on images it was trained on."
        )
    images, chance = int(task["images"]), run.info["chance"]
    if chance["accuracy"] is not None and "accuracy" in task:
        return Solved(task["accuracy"], chance["accuracy"], images, "accuracy")
    constant = task.get("constant_loss", chance["loss"])
    return Solved(1 - task["loss"] / constant, 0.0, images, "loss")


def colourful(store: ImageStore) -> float:
    """The share of images whose channels differ, among the first `LOOKED_AT` of a fixed random order."""
    order = torch.randperm(len(store), generator=generator(0, "pretext", "colour"))[:LOOKED_AT]
    pixels = plain.whole(store.batch(order), 32)
    spread = (pixels.amax(1) - pixels.amin(1)).mean((1, 2))
    return float((spread > GREY).float().mean())


def judge(method: str, defended: Solved, undefended: Solved | None, colour: float) -> list[str]:
    """Sentences on whether the task fits, from the evidence alone."""
    told = [_solved_sentence(method, defended)]
    if undefended is not None:
        told.append(_shortcut_sentence(defended, undefended))
    if colour < 0.5:
        told.append(
            f"Only {colour:.0%} of the images have colour: colorization has nothing to teach here, and colour "
            "distortions change nothing."
        )
    elif method == "colorization":
        told.append(f"{colour:.0%} of the images have colour, so there is something to predict.")
    return told


def _solved_sentence(method: str, found: Solved) -> str:
    name, where = method.replace("_", " "), f"on {found.images:,} held-out images"
    if found.kind == "loss":
        if not found.above:
            return f"{name} does not fit, or needs longer: {where} its answers are no better than one constant answer."
        return f"{name} can be learnt: {where} its loss is {found.score:.0%} below that of the best constant answer."
    told = f"{found.score:.1%} of the answers {where} are right, where guessing gives {found.chance:.1%}"
    if not found.above:
        reason = " (do they have a natural up?)" if method == "rotation" else ""
        return (
            f"{name} does not fit, or needs longer: {told}, so these images do not tell the answer{reason}."
        )
    if found.score > EASY:
        return (
            f"{name} is solved almost perfectly: {told}. So easy a task soon teaches nothing more: look for a "
            "shortcut, or make it harder."
        )
    return f"{name} fits: {told}. The images carry the answer, and it is not trivial."


def _shortcut_sentence(defended: Solved, undefended: Solved) -> str:
    unit = (
        "of the answers are right" if defended.kind == "accuracy" else "of the constant answer's loss is gone"
    )
    told = f"With its defences off {undefended.score:.1%} {unit}, with them on {defended.score:.1%}"
    if undefended.score - defended.score > SHORTCUT:
        return (
            f"{told}: there is a shortcut in these images that needs no understanding, and the defences block it. "
            "Leave them on."
        )
    return f"{told}: no shortcut was found at this length of training."
