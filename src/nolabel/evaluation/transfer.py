"""Transfer: one frozen encoder on a list of data sets, each with its own metric, and which differences are real.

SimCLR's linear transfer (Chen et al. 2020, B.8): L-BFGS logistic regression, λ from 45 values chosen on a
validation part, refitted, the test images read once. The metric is that of the set: top-1, the mean over
classes, or 11-point mean average precision, for which every class has its own binary classifier. Two encoders
are compared by the paired permutation test, and their difference has an interval; the report decides ties by both
(the paper by p > 0.05 alone). Average precision does not bear a swap of two models' scores, so there the share of
right decisions is tested.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation._logistic import Problem, minimise, standardise, sweep
from nolabel.evaluation._split import (
    Division,
    any_fifth,
    any_fifth_in_words,
    check_both,
    divide,
    validation_of,
    without_label,
)
from nolabel.evaluation.base import Features, Result
from nolabel.evaluation.linear import (
    ROUGH,
    VALIDATION_SHARE,
    Choice,
    Curve,
    Grid,
    Linear,
    LinearOptions,
    best_l2,
    l2_values,
)
from nolabel.evaluation.statistics import (
    average_precision,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_mean_precision,
    holm,
    permutation,
)
from nolabel.seeds import derive, generator

Metric = Literal["top1", "balanced", "map11"]

METRICS: dict[str, Metric] = {
    "food101": "top1",
    "cifar10": "top1",
    "cifar100": "top1",
    "birdsnap": "top1",
    "sun397": "top1",
    "cars": "top1",
    "aircraft": "balanced",
    "voc2007": "map11",
    "dtd": "top1",
    "pets": "balanced",
    "caltech101": "balanced",
    "flowers102": "balanced",
}
"""the paper's twelve data sets, in its order; "balanced" is the mean over classes"""
ALSO_CALLED = {
    "aircraft": ("fgvcaircraft",),
    "voc2007": ("voc07",),
    "pets": ("oxfordpet", "oxfordpets", "oxfordiiitpet", "oxfordiiitpets"),
    "caltech101": ("101objectcategories",),
    "flowers102": ("102flowers", "oxford102", "oxfordflowers"),
}
"""other names of the sets whose metric is not top-1, without what separates their words"""
PROTOCOL = "transfer"


@dataclass(frozen=True)
class Target:
    """A data set to transfer to."""

    name: str
    store: ImageStore
    metric: Metric
    tags: Tensor | None = None
    """int8 (N, C) where an image may show several classes: 1 shown, 0 not, -1 ignored; needed for `map11`"""


@dataclass(frozen=True)
class Transferred:
    """What an encoder reached on one data set, and how it did on each image, for paired tests."""

    data: str
    result: Result
    correct: np.ndarray
    """float (n,): 1 for a right prediction, or the share of an image's decisions that are right"""
    labels: np.ndarray | None
    """int (n,), the class of each test image where the metric is a mean over classes"""
    others: tuple[Result, ...] = ()
    """top-5 where the classes are many"""


@dataclass(frozen=True)
class Comparison:
    """First minus second encoder on one data set."""

    data: str
    metric: Metric
    value: float
    low: float
    high: float
    p: float
    """of the paired permutation test"""
    adjusted: float
    """p after Holm, over all data sets compared"""


def metric_of(name: str) -> Metric:
    """The metric of a data set by its name or path (`caltech101.zip`, `Flowers-102/`); top-1 where unknown.

    A list of paths is known by its folder too (`flowers102/labels.csv`).
    """
    parts = re.split(r"[/\\]", name.lower().rstrip("/\\"))
    words = re.findall(
        r"[a-z]+|[0-9]+", " ".join(parts[-2:] if parts[-1].endswith((".csv", ".txt")) else parts[-1:])
    )
    runs = {"".join(words[start:end]) for end in range(len(words) + 1) for start in range(end)}
    known: list[Metric] = [
        metric for key, metric in METRICS.items() if runs & {key, *ALSO_CALLED.get(key, ())}
    ]
    return known[0] if known else "top1"


def of_features(subject: Features, target: Target, seed: int) -> Transferred:
    """The linear transfer of frozen features to the data set that they were computed on."""
    if target.metric == "map11":
        if target.tags is None:
            raise DataError(
                f"{target.name} needs tags for its mean average precision: give them, or use top1."
            )
        return _tagged(subject, target.name, target.tags, seed)
    options = LinearOptions(l2_grid="full", choose_by=target.metric)
    return scored(Linear(options).run(subject, seed), subject, target, PROTOCOL)


def scored(results: Sequence[Result], subject: Features, target: Target, protocol: str) -> Transferred:
    """What a protocol's `results` say in the metric of `target`, which is one of classes."""
    rows = {row.metric: row for row in results}
    labels, predicted = subject.labels[subject.test].numpy(), rows["top1"].predictions
    assert predicted is not None
    result, *others = (
        replace(rows[metric], protocol=protocol, setting=rows[metric].setting | {"data": target.name})
        for metric in (target.metric, "top5")
        if metric in rows
    )
    right = (predicted == labels).astype(float)
    of_classes = labels if target.metric == "balanced" else None
    return Transferred(target.name, replace(result, predictions=predicted), right, of_classes, tuple(others))


def compare(first: Sequence[Transferred], second: Sequence[Transferred], seed: int) -> list[Comparison]:
    """Two encoders, data set by data set, on the same test images in the same order.

    The interval is a paired bootstrap; for average precision it is that of the share of right decisions, and
    so is `value`.
    """
    pairs = list(zip(first, second, strict=True))
    ps = [permutation(a.correct, b.correct, derive(seed, PROTOCOL, a.data), a.labels) for a, b in pairs]
    found = []
    for (a, b), p, adjusted in zip(pairs, ps, holm(ps), strict=True):
        draw = derive(seed, PROTOCOL, a.data, "difference")
        if a.result.metric == "map11":
            interval = bootstrap_mean(a.correct - b.correct, draw)
        else:
            interval = bootstrap_difference(a.correct > 0, b.correct > 0, draw, a.labels)
        found.append(Comparison(a.data, a.result.metric, *interval, p, adjusted))  # type: ignore[arg-type]
    return found


def _tagged(subject: Features, data: str, tags: Tensor, seed: int) -> Transferred:
    """11-point mAP of one binary classifier a class; stage and λ chosen by it on a validation part."""
    measured = measurable(tags, subject.train, subject.test)
    left_out = [subject.class_names[c] for c in (~measured).nonzero()[:, 0]]
    tags = tags[:, measured]
    best, l2 = _choose_tagged(subject, tags, generator(seed, "evaluate", PROTOCOL, "choice"))
    images = len(subject.train)
    x = subject.stage(best.stage, torch.cat([subject.train, subject.test]))
    standardise(x, images)
    fit, _ = minimise(Problem(x[:images], tags[subject.train].to(x.device), tags.shape[1]), l2)
    scores, wanted = fit.logits(x[images:]).cpu().numpy(), tags[subject.test].numpy()
    interval = bootstrap_mean_precision(scores, wanted, derive(seed, "evaluate", PROTOCOL, "bootstrap"))
    result = Result(
        subject.name,
        PROTOCOL,
        "map11",
        *interval,
        n=len(scores),
        seeds=subject.seeds,
        chosen={"stage": best.stage, "l2": l2, "validation": best.accuracy, "l2_curve": best.curve},
        setting=subject.setting
        | {"data": data, "train_images": images, "iterations": fit.iterations, "converged": fit.converged}
        | {"tags": wanted.shape[1], "tags_left_out": left_out},
    )
    right = np.ma.masked_array((scores > 0) == (wanted == 1), wanted < 0).mean(1).filled(1.0)
    return Transferred(data, result, right, None)


def measurable(tags: Tensor, train: Tensor, test: Tensor) -> Tensor:
    """Bool (C,): the tags that some images show and others do not, in training and test alike."""
    shown = [(tags[rows] == mark).any(0) for rows in (train, test) for mark in (0, 1)]
    return torch.stack(shown).all(0)


def _choose_tagged(subject: Features, tags: Tensor, random: torch.Generator) -> tuple[Choice, float]:
    """(the best stage and λ by the mAP on the validation part, λ for all training images)."""
    own = subject.own_parts(LinearOptions.images, VALIDATION_SHARE, random)
    if own is None:
        part = subject.train[torch.randperm(len(subject.train), generator=random)[: LinearOptions.images]]
        split = len(part) - round(VALIDATION_SHARE * len(part))
        own = part[:split], part[split:]
    order, fitted_on = torch.cat(own), len(own[0])
    matrices, known = subject.compute(tuple(subject.values), order), tags[order[fitted_on:]].numpy()
    for x in matrices.values():
        standardise(x, fitted_on)

    def curve(x: Tensor, grid: Grid) -> Curve:
        problem = Problem(x[:fitted_on], tags[order[:fitted_on]].to(x.device), tags.shape[1])
        return {
            fit.l2: (_mean_precision(fit.logits(x[fitted_on:]).cpu().numpy(), known), None)
            for fit in sweep(problem, l2_values(grid), tolerance=ROUGH)
        }

    _, best = best_l2(matrices, curve, "full")
    return best, best.l2 * fitted_on / len(subject.train)


def _mean_precision(scores: np.ndarray, tags: np.ndarray) -> float:
    shown = [c for c in range(tags.shape[1]) if (tags[:, c] == 1).any()]
    return float(np.mean([average_precision(scores[:, c], tags[:, c]) for c in shown])) if shown else 0.0


def divided(target: Target, seed: int) -> Division:
    """Training and test images of `target`: as `divide`; of a tagged set a random fifth, whatever the tags.

    Raises:
        DataError: as `divide`, the metric is a mean over classes and one has no test image, or no tag is `measurable`.
    """
    store = target.store
    if target.tags is None:
        division = divide(store, seed)
        if target.metric == "balanced":
            _check_every_class(store, division)
        return division
    labelled = (store.labels >= 0).nonzero()[:, 0]
    if "test" in store.split_names:
        held, text = store.splits == store.split_names.index("test"), "train and test as the data have them"
        held = held[labelled]
    else:
        held, text = any_fifth(len(labelled), seed), any_fifth_in_words(seed)
    train, test = labelled[~held], labelled[held]
    check_both(store, train, test)
    if not measurable(target.tags, train, test).any():
        raise DataError(
            f"No label of {store.source} can be measured: give training and test images that show one, and others of "
            f"both that do not."
        )
    text += without_label(len(store) - len(labelled))
    return Division(train, test, text, validation_of(store, train))


def _check_every_class(store: ImageStore, division: Division) -> None:
    trained, tested = (store.labels[rows].unique() for rows in (division.train, division.test))
    for c in trained[~torch.isin(trained, tested)].tolist():
        raise DataError(
            f"Class {store.class_names[c]} of {store.source} has training images but no test image, and this set "
            f"is measured by the mean over its classes: add test images of it or leave the class out."
        )
