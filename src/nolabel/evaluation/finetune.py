"""Fine-tuning: a copy of the encoder under a new linear layer, all of it trained with labels.

SimCLR's transfer protocol (Chen et al. 2020, B.8.1): Nesterov 0.9, random crops and flips only, BatchNorm
keeping max(1 − 10/s, 0.9) of its statistics (s steps an epoch), rate and weight decay chosen on a validation
part, the decay divided by the rate; then trained anew on all training images, and tested once. The paper's 56
settings of 20,000 steps of 256 images are a recipe for a GPU; the default is six settings of 500 steps.
"""

import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

from nolabel.encoders.base import Encoder
from nolabel.evaluation import _head_training as heads
from nolabel.evaluation._accuracy import Metric
from nolabel.evaluation._head_training import Plan, Setting
from nolabel.evaluation._ranges import COUNT, hold
from nolabel.evaluation.base import Features, Protocol, Result


@dataclass(frozen=True)
class FinetuneOptions:
    """How long, and what is tried."""

    steps: int = 500
    """of each setting and of the final training; the paper: 20,000"""
    batch_size: int = 128
    """images a step; the paper: 256"""
    grid: Literal["small", "paper"] = "small"
    """"small": three rates by two weight decays; "paper": seven by eight"""
    augment: Literal["crop", "shift", "none"] = "crop"
    """training views: random crops and flips, small shifts and flips, or the whole image"""
    choose_by: Metric = "top1"
    """accuracy that rate and decay are chosen by; "balanced": the mean over classes"""

    def __post_init__(self) -> None:
        hold(self, steps=COUNT, batch_size=COUNT)


def settings(grid: Literal["small", "paper"]) -> tuple[Setting, ...]:
    """Rates 10^(−4 + k/2), k = 0 … 6, and decays 0 and 10^(−6 + k/2), k = 0 … 6, over the rate; or six settings.

    The six have the rates of `supervised`, one beyond the paper's, because a training that is so much shorter wants
    larger ones (docs/results/downstream.md).
    """
    every = (0.0, *(10 ** (-6 + k / 2) for k in range(7)))
    rates, decays = (range(7), every) if grid == "paper" else ((5, 6, 7), (0.0, 10**-4))
    return tuple(Setting(10 ** (-4 + k / 2), decay / 10 ** (-4 + k / 2)) for k in rates for decay in decays)


class Finetune(Protocol):
    """See the module."""

    Options = FinetuneOptions
    options: FinetuneOptions
    protocol: ClassVar[str] = "finetune"
    needs = "encoder"
    baseline_seeds = 1

    def run(self, subject: Features, seed: int) -> list[Result]:
        """Top-1, balanced accuracy (and top-5 where classes are many) on the test images.

        Raises:
            RunError: features that are not finite, or the training diverged.
        """
        options, encoder = self.options, heads.network_of(subject).encoder
        plan = Plan(options.steps, options.batch_size, options.augment)

        def start() -> Encoder:
            return copy.deepcopy(encoder)

        choice = heads.choose(subject, start, settings(options.grid), plan, seed, options.choose_by)
        model = heads.train_classifier(subject, start(), subject.train, choice.setting, plan, seed)
        setting = {
            "train_images": len(subject.train),
            **plan.described(subject),
            "chosen_by": options.choose_by,
        }
        scores = heads.predict(model, subject, subject.test)
        return heads.results(subject, self.protocol, scores, seed, choice.described(), setting)
