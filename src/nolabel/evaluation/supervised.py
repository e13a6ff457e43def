"""Supervised from scratch: the same network, trained with the labels of the training images alone.

The upper baseline of RotNet's table (Gidaris et al. 2018, table 3) and of SimCLR's transfer table (Chen et al.
2020, B.8.1), whose grid is an option: 7 rates from 1e-3 to 1 and 8 weight decays, each divided by the rate.
It starts from the weights that random features have (a whitened stem where the encoder has one).
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from nolabel.encoders.base import Encoder
from nolabel.evaluation import _head_training as heads
from nolabel.evaluation import _kept
from nolabel.evaluation._accuracy import Metric
from nolabel.evaluation._head_training import Choice, Classifier, Plan, Setting
from nolabel.evaluation._ranges import COUNT, hold
from nolabel.evaluation._untrained import untrained
from nolabel.evaluation.base import Features, Protocol, Result

SCRATCH = "supervised:"
"""begins the subject of a network trained from scratch"""


@dataclass(frozen=True)
class SupervisedOptions:
    """How long, and what is tried."""

    steps: int = 1000
    """of the final training; the paper: 40,000"""
    choice_steps: int = 500
    """of each setting that is tried; the paper: as the final training"""
    batch_size: int = 128
    """images a step; the paper: 256"""
    grid: Literal["small", "paper"] = "small"
    """"small": three rates by two weight decays; "paper": seven by eight"""
    augment: Literal["crop", "shift", "none"] = "crop"
    """training views: random crops and flips, small shifts and flips, or the whole image"""
    choose_by: Metric = "top1"
    """accuracy that rate and decay are chosen by; "balanced": the mean over classes"""

    def __post_init__(self) -> None:
        hold(self, steps=COUNT, choice_steps=COUNT, batch_size=COUNT)


def settings(grid: Literal["small", "paper"]) -> tuple[Setting, ...]:
    """Rates 10^(−3 + k/2), k = 0 … 6, and decays 10^(−5 + k/2), k = 0 … 7, over the rate; or six of them."""
    rates, decays = (range(7), range(8)) if grid == "paper" else ((3, 4, 5), (0, 2))
    pairs = [(10 ** (-3 + r / 2), 10 ** (-5 + d / 2)) for r in rates for d in decays]
    return tuple(Setting(lr, decay / lr) for lr, decay in pairs)


class Supervised(Protocol):
    """See the module."""

    Options = SupervisedOptions
    options: SupervisedOptions
    protocol: ClassVar[str] = "supervised"
    needs = "encoder"
    baseline_seeds = 0

    def run(self, subject: Features, seed: int) -> list[Result]:
        """Top-1, balanced accuracy (and top-5 where classes are many); subject `supervised:<architecture>`.

        They do not depend on the weights of `subject`, so the cache keeps them for other encoders.

        Raises:
            RunError: the training diverged.
        """
        path = _kept.behind(subject, seed).path("supervised", self)
        (rows,) = _kept.kept(path, lambda: [self._measured(subject, seed)])
        return rows

    def _measured(self, subject: Features, seed: int) -> list[Result]:
        model, choice, told, subject = self._fit(subject, seed)
        setting = {"train_images": len(subject.train), **told}
        scores = heads.predict(model, subject, subject.test)
        return heads.results(subject, self.protocol, scores, seed, choice.described(), setting)

    def train(self, subject: Features, seed: int) -> tuple[Encoder, Features]:
        """The trained encoder, for protocols that measure its features, and `subject` under its new name.

        The setting of `subject` has how it was trained: steps, batch, views, rate, decay, and what else was tried.
        """
        model, choice, told, subject = self._fit(subject, seed)
        return model.encoder.eval(), replace(subject, setting=subject.setting | told | choice.described())

    def _fit(self, subject: Features, seed: int) -> tuple[Classifier, Choice, dict[str, Any], Features]:
        options, network = self.options, heads.network_of(subject)
        subject = replace(subject, name=f"{SCRATCH}{network.encoder.name}", seeds=(seed,))

        def start() -> Encoder:
            return untrained(network.encoder, network.store, subject.train, network.size, seed)

        plan = Plan(options.steps, options.batch_size, options.augment)
        tried = replace(plan, steps=options.choice_steps)
        choice = heads.choose(subject, start, settings(options.grid), tried, seed, options.choose_by)
        model = heads.train_classifier(subject, start(), subject.train, choice.setting, plan, seed)
        told = {"choice_steps": options.choice_steps, "chosen_by": options.choose_by}
        return model, choice, plan.described(subject) | told, subject
