"""Few labels: nested class-balanced subsets, and a linear probe that chooses within the subset it is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation._logistic import Problem, moments, sweep
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features
from nolabel.evaluation.linear import ROUGH, UNCHOSEN_L2, l2_values
from nolabel.seeds import generator

FOLDS = 3
ONE_FOLD_FROM = 1000
"""labels from which a fifth is held out once, in place of each third in turn"""


def round_robin(subject: Features, seed: int, draw: int) -> Tensor:
    """The training images in an order whose every beginning is balanced, so that smaller sets lie in larger.

    The classes take turns, each with its images in random order; one that runs out is passed over.
    """
    random = generator(seed, "evaluate", "few", draw)
    labels, classes = subject.labels[subject.train], len(subject.class_names)
    turn = torch.randperm(classes, generator=random)
    return subject.train[(ranks_in_class(labels, random) * classes + turn[labels]).argsort()]


def first_of_each(subject: Features) -> Tensor:
    """The training images class after class in turn, each class in the order of files: K of each are its first K."""
    rows = subject.train.sort().values
    labels = subject.labels[rows]
    ranks = _ranks(labels, torch.arange(len(labels)))
    return rows[(ranks * len(subject.class_names) + labels).argsort()]


def ranks_in_class(labels: Tensor, random: torch.Generator) -> Tensor:
    """The place of each image among those of its class, in random order: int64 (n,)."""
    return _ranks(labels, torch.randperm(len(labels), generator=random))


def _ranks(labels: Tensor, order: Tensor) -> Tensor:
    """The place of each image among those of its class when they come in `order`."""
    order = order[labels[order].argsort(stable=True)]
    counts = torch.bincount(labels)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order)) - (counts.cumsum(0) - counts)[labels[order]]
    return ranks


def drawn(draws: int) -> dict[str, Any]:
    """How often labels were drawn, for `Result.setting`; of a single draw also what that means."""
    told = {"drawn": "one draw of labels, whose noise is in no interval"} if draws == 1 else {}
    return {"draws": draws, **told}


def classes_shown(subject: Features) -> int:
    """Number of classes among the training images."""
    return len(subject.labels[subject.train].unique())


def labels_of_share(subject: Features, share: float) -> int:
    """Number of labels in a share of the training images: at least one a class."""
    return max(round(share * len(subject.train)), classes_shown(subject))


def smallest_class(subject: Features) -> int:
    """Number of training images of the class with the fewest, of those that have any."""
    return int(subject.labels[subject.train].unique(return_counts=True)[1].min())


def labels_of_each(subject: Features, each: int) -> int:
    """Number of labels when each class has `each`."""
    return each * classes_shown(subject)


def check_each(store: ImageStore, division: Division, per_class: Sequence[int]) -> None:
    """Refuse numbers of labels a class.

    Raises:
        DataError: a class has fewer training images than the largest of `per_class`.
    """
    found, counts = store.labels[division.train].unique(return_counts=True)
    each, fewest = max(per_class, default=0), int(counts.min())
    if fewest < each:
        raise DataError(
            f"{each} labels a class are asked for and class {store.class_names[int(found[counts.argmin()])]} has "
            f"{fewest} training image{'s' * (fewest > 1)}: ask for at most that many, or add images of it."
        )


@dataclass(frozen=True)
class Probe:
    """What a linear probe chose, and the scores (n, C) of the test images."""

    stage: str
    l2: float
    validation: float | None
    """accuracy on the labels held out in turn; None: too few to hold any out"""
    scores: Tensor
    converged: bool
    """whether the fit to all the labels ended at its minimum"""

    def chosen(self) -> dict[str, Any]:
        """For `Result.chosen`."""
        return {"stage": self.stage, "l2": self.l2, "validation": self.validation}


def probes(subject: Features, orders: Sequence[Tensor], sizes: Sequence[int], seed: int) -> list[list[Probe]]:
    """For each of `orders` (training images) a probe on the first of it, for each of `sizes`.

    Logistic regression, standardised. Stage and λ are chosen within each subset, by three folds, or a fifth held
    out from 1,000 labels on. With less than two labels a class nothing can be held out: then the pooled stage at
    λ = 1. The test images are read once for each stage that any subset chose.

    Raises:
        RunError: features that are not finite.
    """
    waiting = [chosen for order in orders for chosen in _chosen(subject, order, sizes, seed)]
    classes = len(subject.class_names)
    found: dict[int, Probe] = {}
    for stage in dict.fromkeys(chosen.stage for chosen in waiting):
        test = subject.stage(stage, subject.test)
        for at, chosen in enumerate(waiting):
            if chosen.stage == stage:
                ((scores, converged),) = _scored(chosen.x, chosen.labels, test, classes, [chosen.l2])
                found[at] = Probe(stage, chosen.l2, chosen.validation, scores.cpu(), converged)
    return [[found[draw * len(sizes) + at] for at in range(len(sizes))] for draw in range(len(orders))]


class _Chosen(NamedTuple):
    """A subset's choice, and its features of that stage (n, D)."""

    stage: str
    l2: float
    validation: float | None
    x: Tensor
    labels: Tensor


def _chosen(subject: Features, order: Tensor, sizes: Sequence[int], seed: int) -> list[_Chosen]:
    """What each beginning of `order` chooses; of the stages that none did nothing is kept."""
    matrices = subject.compute(tuple(subject.values), order[: max(sizes)])
    labels, classes = subject.labels[order], len(subject.class_names)
    found = []
    for size in sizes:
        stage, l2, validation = subject.whole, UNCHOSEN_L2, None
        if size >= 2 * classes_shown(subject):
            folds = _folds(labels[:size], generator(seed, "evaluate", "few", "folds"))
            few = {name: x[:size] for name, x in matrices.items()}
            stage, l2, validation = _choose(few, labels[:size], classes, folds)
        found.append(_Chosen(stage, l2, validation, matrices[stage][:size].clone(), labels[:size]))
    return found


def _folds(labels: Tensor, random: torch.Generator) -> list[Tensor]:
    """For each fold, which of the labels are held out: bool (n,)."""
    one = len(labels) > ONE_FOLD_FROM
    number = 5 if one else FOLDS
    fold = ranks_in_class(labels, random) % number
    return [fold == k for k in range(1 if one else number)]


def _choose(
    matrices: dict[str, Tensor], labels: Tensor, classes: int, folds: Sequence[Tensor]
) -> tuple[str, float, float]:
    """(stage, λ for all the labels, accuracy) of the best pair over the folds."""
    grid, best = l2_values("short"), ("", 0.0, -1.0)
    for stage, x in matrices.items():
        right = torch.zeros(len(grid))
        for held in folds:
            found = _scored(x[~held], labels[~held], x[held], classes, grid, ROUGH)
            wanted = labels[held].to(x.device)
            right += torch.stack([(scores.argmax(1) == wanted).sum() for scores, _ in found]).cpu()
        at = int(right.argmax())
        accuracy = float(right[at]) / sum(int(held.sum()) for held in folds)
        if accuracy > best[2]:
            fitted_on = int((~folds[0]).sum())
            best = (stage, grid[at] * fitted_on / len(labels), accuracy)
    return best


def _scored(
    x: Tensor, labels: Tensor, other: Tensor, classes: int, l2s: Sequence[float], tolerance: float = 1e-4
) -> list[tuple[Tensor, bool]]:
    """(scores of `other`, whether the fit converged) of a probe fitted to x at each λ, both standardised by x."""
    mean, std = (value.float() for value in moments(x))
    x, other = (x.float() - mean) / std, (other.float() - mean) / std
    problem = Problem(x, labels.to(x.device), classes)
    return [(fit.logits(other), fit.converged) for fit in sweep(problem, l2s, tolerance=tolerance)]
