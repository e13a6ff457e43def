"""Linear probe: multinomial logistic regression on frozen features, stage and L2 chosen on training images.

The L-BFGS protocol of SimCLR (Chen et al. 2020, B.8.1) on every stage. J = (1/n) Σ CE + (λ/2)‖W‖², features
standardised with the training images' statistics. From 10,000 training images a stratified fifth validates;
for each stage λ goes from large to small, each fit starting from the one before. The winner is refitted on
all training images at the same total penalty nλ (the best λ was measured to fall as 1/n), and the test images
are read once. Where no class has a second image to choose by, it is the pooled stage at λ = 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from nolabel.evaluation import _accuracy
from nolabel.evaluation._logistic import Fit, Problem, minimise, standardise, sweep
from nolabel.evaluation._ranges import COUNT, hold
from nolabel.evaluation._split import held_out, stratified
from nolabel.evaluation.base import Features, Protocol, Result
from nolabel.seeds import generator

VALIDATION_SHARE = 0.2
ROUGH = 1e-3
"""tolerance of the fits that only choose"""
Grid = Literal["short", "full"]
UNCHOSEN_L2 = 1.0
"""λ where no class has a second label to choose it by: the directions are then near those of the class means"""
PATIENCE = 2
"""the short grid stops after so many values in a row that are worse than the best"""
Curve = dict[float, tuple[float, float | None]]
"""λ -> (what is chosen by, mean over classes) on the validation part; None of tags"""


@dataclass(frozen=True)
class LinearOptions:
    """How the probe is fitted."""

    standardise: Literal["train_stats", "none"] = "train_stats"
    """whether each feature is centred and scaled by its mean and deviation over the training images"""
    l2_grid: Grid = "short"
    """"full": the paper's 45 values from 1e-6 to 1e5, on the stage that is best by the short ones; "short": eleven of
    them from 10 to 1e-4"""
    precision: Literal["float32", "float64"] = "float32"
    """float32 stops at a gradient of 1e-4 of its start, float64 (published tables) at 1e-6"""
    images: int = 10_000
    """training images that stage and L2 are chosen on"""
    choose_by: _accuracy.Metric = "top1"
    """accuracy that stage and L2 are chosen by; "balanced": the mean over classes"""
    every_stage: bool = False
    """whether every stage is refitted on all training images and tested too: rows `linear@<stage>`"""

    def __post_init__(self) -> None:
        hold(self, images=COUNT)


def l2_values(grid: Grid) -> tuple[float, ...]:
    """λ, largest first: 10^(−6 + 11k/44)."""
    steps = range(44, -1, -1) if grid == "full" else range(28, 7, -2)
    return tuple(10 ** (-6 + 11 * k / 44) for k in steps)


@dataclass(frozen=True)
class Choice:
    """The best λ of one stage."""

    stage: str
    l2: float
    accuracy: float
    """on the validation part"""
    balanced: float | None
    """its mean over classes; None of tags"""
    curve: dict[str, float]
    """λ -> accuracy on the validation part"""


def best_l2(
    matrices: dict[str, Tensor], curve: Callable[[Tensor, Grid], Curve], grid: Grid
) -> tuple[list[Choice], Choice]:
    """The best λ of each stage, and of the best stage: all 45 values are tried on that one alone.

    Args:
        matrices: stage -> features; it is emptied, so that a matrix goes as soon as nothing needs it.
        curve: of features and a grid.
    """
    choices: list[Choice] = []
    of_best = None
    for stage in list(matrices):
        x = matrices.pop(stage)
        choices.append(_choice(stage, curve(x, "short")))
        if grid == "full" and choices[-1] is _best(choices):
            of_best = x
    best = _best(choices)
    if of_best is not None:
        place, best = choices.index(best), _choice(best.stage, curve(of_best, "full"))
        choices[place] = best
    return choices, best


def _choice(stage: str, accuracies: Curve) -> Choice:
    best = max(accuracies, key=lambda l2: accuracies[l2][0])
    return Choice(stage, best, *accuracies[best], {f"{l2:.3g}": a for l2, (a, _) in accuracies.items()})


def _best(choices: Sequence[Choice]) -> Choice:
    return max(choices, key=lambda choice: choice.accuracy)


class Linear(Protocol):
    """See the module."""

    Options = LinearOptions
    options: LinearOptions
    protocol: ClassVar[str] = "linear"

    def run(self, subject: Features, seed: int) -> list[Result]:
        """Top-1, balanced accuracy (and top-5 where classes are many) on the test images.

        Raises:
            RunError: features that are not finite.
        """
        choices, fitted_on = self.choose(subject, seed)
        of_stage, scale = {choice.stage: choice for choice in choices}, fitted_on / len(subject.train)
        best = _best(choices).stage if choices else subject.whole
        rows = []
        for stage in subject.values if self.options.every_stage else (best,):
            scores, chosen, setting = self._tested(subject, stage, of_stage.get(stage), scale)
            if stage == best:
                told = chosen | {"stages": {choice.stage: choice.accuracy for choice in choices}}
                rows = _accuracy.results(subject, self.protocol, scores, seed, told, setting) + rows
            if self.options.every_stage:
                rows += _accuracy.results(subject, f"{self.protocol}@{stage}", scores, seed, chosen, setting)
        return rows

    def _tested(
        self, subject: Features, stage: str, choice: Choice | None, scale: float
    ) -> tuple[Tensor, dict[str, Any], dict[str, Any]]:
        """(scores, what was chosen, setting) of one stage, fitted to all training images at `scale` times the λ."""
        images = len(subject.train)
        l2 = choice.l2 * scale if choice else UNCHOSEN_L2
        x = subject.stage(stage, torch.cat([subject.train, subject.test]))
        self._standardise(x, images)
        fit = self._fit(x[:images], subject.labels[subject.train], len(subject.class_names), l2)
        chosen = {
            "stage": stage,
            "l2": l2,
            "grid": subject.grid[stage],
            "values": subject.values[stage],
            "validation": choice.accuracy if choice else None,
            "validation_balanced": choice.balanced if choice else None,
            "l2_curve": choice.curve if choice else {},
        }
        return fit.logits(x[images:]), chosen, self._setting(fit, images)

    def choose(self, subject: Features, seed: int) -> tuple[list[Choice], int]:
        """(best λ of each stage on a validation part of the training images, number of images fitted on).

        No choice where no class has an image to spare.
        """
        options, random = self.options, generator(seed, "evaluate", self.protocol, "choice")
        own = subject.own_parts(options.images, VALIDATION_SHARE, random)
        if own is None:
            part = subject.train[stratified(subject.labels[subject.train], options.images, random)]
            held = held_out(subject.labels[part], VALIDATION_SHARE, random)
            own = part[~held], part[held]
        if not len(own[1]):
            return [], len(subject.train)
        part, fitted_on = torch.cat(own), len(own[0])
        labels = subject.labels[part]
        matrices = subject.compute(tuple(subject.values), part)
        for x in matrices.values():
            self._standardise(x, fitted_on)

        def curve(x: Tensor, grid: Grid) -> Curve:
            return self._curve(x, labels.to(x.device), fitted_on, len(subject.class_names), grid)

        return best_l2(matrices, curve, options.l2_grid)[0], fitted_on

    def _curve(self, x: Tensor, labels: Tensor, fitted_on: int, classes: int, grid: Grid) -> Curve:
        """The accuracies on the rows that were not fitted on."""
        problem = Problem(x[:fitted_on], labels[:fitted_on], classes, self._dtype)
        wanted = labels[fitted_on:]
        accuracies: Curve = {}
        most, worse = 0.0, 0
        for fit in sweep(problem, l2_values(grid), tolerance=ROUGH):
            correct = fit.logits(x[fitted_on:]).argmax(1) == wanted
            accuracy = _accuracy.share(correct, wanted, self.options.choose_by)
            accuracies[fit.l2] = accuracy, _accuracy.share(correct, wanted, "balanced")
            most, worse = max(most, accuracy), worse + 1 if accuracy < most else 0
            if worse == PATIENCE and grid == "short":
                break
        return accuracies

    def _fit(self, x: Tensor, labels: Tensor, classes: int, l2: float) -> Fit:
        tolerance = 1e-4 if self._dtype == torch.float32 else 1e-6
        return minimise(Problem(x, labels.to(x.device), classes, self._dtype), l2, tolerance=tolerance)[0]

    def _standardise(self, x: Tensor, train: int) -> None:
        if self.options.standardise == "train_stats":
            standardise(x, train)

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float32 if self.options.precision == "float32" else torch.float64

    def _setting(self, fit: Fit, images: int) -> dict[str, Any]:
        return {
            "standardise": self.options.standardise,
            "chosen_by": self.options.choose_by,
            "train_images": images,
            "choice_images": min(self.options.images, images),
            "precision": self.options.precision,
            "iterations": fit.iterations,
            "converged": fit.converged,
            "objective": fit.objective,
        }
