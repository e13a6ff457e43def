"""The runs of a comparison: their accuracies under one protocol, ranked, and the gain of one with few labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from nolabel.report._text import listed
from nolabel.report.records import (
    METRICS_IN_WORDS,
    Record,
    Row,
    amount_of_labels,
    labels_in_words,
    untrained_row,
)
from nolabel.report.verdict import Gain, by_classes, by_preference, gain_over, read_by, together

FEW_LABELS = {"linear": "a linear probe", "finetune": "fine-tuning"}
"""what reads the encoder with few labels, the one to tell first; rows are called `linear@1%`"""
FEW = 10
"""labels a class that the verdict tells, or the measured number that is nearest"""


@dataclass(frozen=True)
class WithFew:
    """The gain of the best method over random weights with few labels."""

    row: Row
    head: str
    """of `FEW_LABELS`"""
    gain: Gain

    @property
    def labels(self) -> str:
        """10 labels per class."""
        return labels_in_words(amount_of_labels(self.row.protocol))


@dataclass(frozen=True)
class Contender:
    """One method of the comparison."""

    record: Record
    """with the baselines that all runs share"""
    row: Row
    """its accuracy under the main protocol"""
    gain: Gain | None
    """over random weights; None where they were not measured"""
    by_classes: tuple[str, ...] = ()
    """why it is the mean over classes, where it is"""

    @property
    def name(self) -> str:
        return self.record.method_in_words

    @property
    def validation(self) -> float | None:
        """As `row`, on the part of the training images that choices were made on; None where there was none.

        The mean over draws of labels, where there were several.
        """
        value = self.row.chosen.get("validation_balanced" if self.row.metric == "balanced" else "validation")
        return fmean(value) if isinstance(value, list) else value


def by_one_protocol(records: Sequence[Record]) -> tuple[list[tuple[Record, Row]], list[str]]:
    """Runs with their accuracy under the first protocol that all have, and what is said of those that lack one.

    Where none is shared by all, it is the one that most have, and the other runs are left out.
    """
    own = [(one, [row for row in one.rows if row.subject == one.subject and row.is_share]) for one in records]
    measured = [(one, {(row.protocol, row.metric): row for row in rows}) for one, rows in own if rows]
    best_first = by_preference([row for _, rows in own for row in rows])
    offered = list(dict.fromkeys((row.protocol, row.metric) for row in best_first))
    if not offered:
        return [], []
    chosen = max(offered, key=lambda kind: sum(kind in rows for _, rows in measured))
    told = []
    if chosen != offered[0]:
        lacking = [one.method_in_words for one, rows in measured if offered[0] not in rows]
        verb = "was" if len(lacking) == 1 else "were"
        told.append(
            f"Compared by {_kind(*chosen)}, because {listed(lacking)} {verb} not measured by {_kind(*offered[0])}."
        )
    without = [one.method_in_words for one, rows in measured if chosen not in rows]
    if without:
        told.append(f"Left out, because not measured by {_kind(*chosen)}: {listed(without)}.")
    return [(one, rows[chosen]) for one, rows in measured if chosen in rows], told


def _kind(protocol: str, metric: str) -> str:
    return read_by(protocol) + ("" if metric == "top1" else f" ({METRICS_IN_WORDS[metric]})")


def in_order(measured: Sequence[tuple[Record, Row]]) -> list[Contender]:
    """The runs, best on the validation part first; on the test images where one has none."""
    found = [
        Contender(record, row, gain_over(record.rows, row, random) if random else None, tuple(why))
        for record, top1 in measured
        for row, why in [by_classes(record.rows, top1)]
        for random in [untrained_row(record.rows, row)]
    ]
    judged = iter(together([one.gain for one in found if one.gain is not None]))
    found = [one if one.gain is None else replace(one, gain=next(judged)) for one in found]
    by_validation = all(one.validation is not None for one in found)
    return sorted(found, key=lambda one: -(one.validation or 0.0) if by_validation else -one.row.value)


def with_few(best: Contender) -> WithFew | None:
    """The gain with the number of labels that is nearest to `FEW` a class; None where few labels were not measured."""
    rows = best.record.rows
    for head in FEW_LABELS:
        found = [
            row
            for top1 in rows
            if (top1.subject, top1.metric) == (best.record.subject, "top1")
            and top1.protocol.partition("@")[0] == head
            and amount_of_labels(top1.protocol)
            for row in by_classes(rows, top1)[:1]
        ]
        for row in sorted(found, key=_from_few):
            if (random := untrained_row(rows, row)) is not None:
                return WithFew(row, head, gain_over(rows, row, random))
    return None


def _from_few(row: Row) -> float:
    """By which factor the labels a class of `row` differ from `FEW`, as a logarithm; infinite where it is not known."""
    amount = amount_of_labels(row.protocol)
    each = row.setting.get("labels_a_class") or ([] if amount.endswith("%") else [float(amount)])
    return abs(math.log(fmean(each) / FEW)) if each else math.inf
