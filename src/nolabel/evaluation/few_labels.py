"""Few labels: a linear probe, and fine-tuning, with 1 % or 10 % of the labels, or so many a class.

The labelled images are balanced over the classes (counts differ by one at most), the smaller sets lie in the
larger ones (SimCLR's released lists are of that kind), and all draws are seeded; or they are the first of each
class, and none is drawn. Whatever is chosen is chosen within the labelled images. Fine-tuning is SimCLR's (Chen et
al. 2020, B.5): Nesterov 0.9, rate 0.05 · B/256, no regularisation, random crops and flips; the number of steps does
not fall with the labels. Rows are called `linear@1%`, `finetune@10%`, `linear@4`: the last means four a class.
"""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.evaluation import _few
from nolabel.evaluation import _head_training as heads
from nolabel.evaluation._head_training import Plan, Setting
from nolabel.evaluation._ranges import COUNT, COUNT_OR_NONE, POSITIVE, SHARE, hold
from nolabel.evaluation._repeats import over_seeds
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features, Protocol, Result

SMALL = (1, 4, 10)
"""labels a class that are measured too where the smallest share gives less than two a class"""


@dataclass(frozen=True)
class FewLabelsOptions:
    """How many labels, and how often they are drawn."""

    shares: tuple[float, ...] = (0.01, 0.1)
    """of the training images; none where `per_class` is all that is asked for"""
    per_class: tuple[int, ...] | None = None
    """labels a class; by default 1, 4 and 10 where a share gives less than two a class, else none"""
    first: bool = False
    """whether the labelled images are the first of each class in the order of files (RotNet's code), and none drawn"""
    draws: int = 5
    """of the labelled images, for the linear probe"""
    finetune_draws: int = 1
    """of the labelled images, for fine-tuning; 0: no fine-tuning"""
    steps: int = 500
    """of fine-tuning"""
    batch_size: int = 128
    """images a step of fine-tuning"""
    lr: float = 0.05
    """rate of fine-tuning at 256 images a step; in proportion for others"""

    def __post_init__(self) -> None:
        hold(self, draws=COUNT, finetune_draws=COUNT_OR_NONE, steps=COUNT, batch_size=COUNT, lr=POSITIVE)
        if self.shares or self.per_class is None:
            hold(self, shares=SHARE)
        if self.per_class or not self.shares:
            hold(self, per_class=COUNT)


class FewLabels(Protocol):
    """See the module."""

    Options = FewLabelsOptions
    options: FewLabelsOptions
    protocol: ClassVar[str] = "few_labels"
    needs = "encoder"

    def check(self, store: ImageStore, division: Division) -> None:
        """DataError: more labels a class than a class has training images."""
        _few.check_each(store, division, self.options.per_class or ())

    def run(self, subject: Features, seed: int) -> list[Result]:
        """Top-1, balanced accuracy (and top-5 where classes are many), each the mean over the draws.

        Random weights are probed in every seed, and fine-tuned, which takes minutes, in that of the evaluation alone.

        Raises:
            RunError: features that are not finite, or the training diverged.
        """
        amounts = self.amounts(subject)
        orders = self._orders(subject, seed)
        rows = over_seeds(self._probed(subject, orders, amounts, seed))
        tune = self.options.finetune_draws and subject.seeds in ((), (seed,))
        for name, labels in amounts.items() if tune else ():
            tuned = [
                self._finetune(subject, order[:labels], name, seed + draw)
                for draw, order in enumerate(orders[: self.options.finetune_draws])
            ]
            rows += over_seeds(tuned)
        return rows

    def _orders(self, subject: Features, seed: int) -> list[Tensor]:
        """Of each draw the training images, whose beginnings are labelled."""
        if self.options.first:
            return [_few.first_of_each(subject)]
        return [_few.round_robin(subject, seed, draw) for draw in range(self.options.draws)]

    def owns(self, name: str) -> bool:
        """Probes and fine-tuning with a number of labels: `linear@1%`, `finetune@4`."""
        head, _, amount = name.partition("@")
        return head in ("linear", "finetune") and amount[:1].isdigit()

    def amounts(self, subject: Features) -> dict[str, int]:
        """Name -> number of labels, such as {"1%": 500, "4": 40}."""
        options, classes = self.options, _few.classes_shown(subject)
        found = {f"{100 * share:g}%": _few.labels_of_share(subject, share) for share in options.shares}
        each = options.per_class
        if each is None:
            scarce = any(labels < 2 * classes for labels in found.values())
            each = tuple(k for k in SMALL if k <= _few.smallest_class(subject)) if scarce else ()
        return found | {f"{k}": _few.labels_of_each(subject, k) for k in each}

    def _probed(
        self, subject: Features, orders: list[Tensor], amounts: dict[str, int], seed: int
    ) -> list[list[Result]]:
        """Of each draw the results of all amounts."""
        found = _few.probes(subject, orders, list(amounts.values()), seed)
        drawn = []
        for order, of_draw in zip(orders, found, strict=True):
            rows = []
            for (name, labels), probe in zip(amounts.items(), of_draw, strict=True):
                setting = self._setting(subject, order[:labels], len(orders))
                setting |= {"standardise": "train_stats", "converged": probe.converged}
                rows += heads.results(subject, f"linear@{name}", probe.scores, seed, probe.chosen(), setting)
            drawn.append(rows)
        return drawn

    def _finetune(self, subject: Features, rows: Tensor, name: str, seed: int) -> list[Result]:
        options = self.options
        rate = Setting(options.lr * options.batch_size / 256)
        plan = Plan(options.steps, options.batch_size)
        encoder = copy.deepcopy(heads.network_of(subject).encoder)
        model = heads.train_classifier(subject, encoder, rows, rate, plan, seed)
        setting = self._setting(subject, rows, 1 if options.first else options.finetune_draws)
        setting |= {**plan.described(subject), "lr": rate.lr}
        scores = heads.predict(model, subject, subject.test)
        return heads.results(subject, f"finetune@{name}", scores, seed, {}, setting)

    @staticmethod
    def _setting(subject: Features, rows: Tensor, draws: int) -> dict[str, Any]:
        counts = subject.labels[rows].unique(return_counts=True)[1]
        each = [int(counts.min()), int(counts.max())]
        return {"labels": len(rows), "labels_a_class": each} | _few.drawn(draws)
