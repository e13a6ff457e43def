"""What the evaluation says about an encoder, in a few plain sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nolabel.report._text import (
    SPACE,
    capitalised,
    count,
    hundredths,
    interval,
    listed,
    p_value,
    percent,
    points,
)
from nolabel.report.records import (
    BASELINES,
    DIFFERENCE,
    LEAKAGE,
    PRETRAINED,
    SUPERVISED,
    Row,
    amount_of_labels,
    find,
    leaks,
    protocol_in_words,
    subject_in_words,
    untrained_row,
)
from nolabel.report.unjudged import without_accuracy

SIGNIFICANT = 0.05
READERS = {"linear": "a linear probe", "knn": "the kNN vote"}
UNTESTED = "not tested, and without the interval of one or both"
RIGHT = {
    "top1": "right",
    "top5": "right within five guesses",
    "balanced": "right, averaged over the classes",
}
UNEVEN = "test_images_a_class"
"""key of the setting of accuracies whose test classes are uneven: images of the smallest and of the largest"""
ABSENT = "classes_without_test_images"
Tone = Literal["better", "unclear", "worse", "unknown"]


@dataclass(frozen=True)
class Gain:
    """How far an encoder is from another, mostly random weights, under one protocol."""

    value: float
    """share of the images"""
    over: str
    """what it is compared with, in words"""
    ends: str
    """of the 95 % interval, in points; empty where there is none"""
    sure: bool
    """more than chance explains"""
    evidence: str
    p: float | None
    """of the paired test; None where it was not made"""

    @property
    def helped(self) -> bool:
        """More than the other, and more than chance explains."""
        return self.sure and self.value > 0

    @property
    def hurt(self) -> bool:
        """Less than the other, and more than chance explains."""
        return self.sure and self.value < 0

    @property
    def chance(self) -> str:
        """What is known of how it stands to chance."""
        if self.evidence == UNTESTED:
            return "which may be chance"
        return "more than chance explains" if self.sure else "no more than chance explains"

    @property
    def size(self) -> str:
        """5.2 points more than random weights (95 % interval 4.0 to 6.4)."""
        told = f"{points(self.value)} {'more' if self.value > 0 else 'less'} than {self.over}"
        if hundredths(self.value) == "0.0":
            told = f"as many as {self.over}"
        return f"{told} (95{SPACE}% interval {self.ends})" if self.ends else told


def together(gains: Sequence[Gain]) -> list[Gain]:
    """Gains that are judged at once: each p raised by Holm's step-down (Holm 1979) for their number."""
    tested = sorted((gain.p, at) for at, gain in enumerate(gains) if gain.p is not None)
    if len(tested) < 2:
        return list(gains)
    judged, raised = list(gains), 0.0
    for rank, (p, at) in enumerate(tested):
        raised = min(1.0, max(raised, p * (len(tested) - rank)))
        told = f"{p_value(raised)} after Holm's correction for {len(tested)} tests"
        if raised < SIGNIFICANT and not gains[at].sure:
            told = gains[at].evidence
        judged[at] = replace(gains[at], sure=gains[at].sure and raised < SIGNIFICANT, evidence=told, p=raised)
    return judged


@dataclass(frozen=True)
class Verdict:
    """A judgement with its evidence."""

    tone: Tone
    """against random weights of the same network"""
    title: str
    """the judgement in a few words"""
    sentences: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """how the judgement was made, and what was not measured, for who asks"""


def judge(rows: Sequence[Row], subject: str) -> Verdict:
    """The verdict on `subject`, from its row of the first protocol there is: linear, then kNN, then others.

    Of uneven test classes the mean over classes is judged in its place, and the second sentence says so.
    Where that is not kNN's, a sentence tells what kNN says, and the title too where only kNN shows a gain.
    "Better" and "worse" mean: than random weights of the same architecture, by a paired test (`shown`) or (where
    there is none) by 95 % intervals that do not overlap. The last sentences are those of test images that are also in
    another set, and where all of them are (or may be), images are not called held out.
    """
    main = main_row(rows, subject)
    if main is None:
        return Verdict("unknown", *without_accuracy(rows, subject))
    main, why = by_classes(rows, main)
    random = untrained_row(rows, main)
    others = [row for name in BASELINES if (row := find(rows, name, main.protocol, main.metric)) is not None]
    if random is None:
        tone, title = "unknown", "Measured, but not against random weights"
        conclusion = (
            "Random weights of the same network were not measured, so this number does not show that "
            "training helped."
        )
    else:
        tone, title, conclusion = _against_random(rows, main, random)
    ahead = [row for row in others if row.value >= main.value]
    if ahead and tone == "better":
        title += ", but a baseline without training does as well"
    near = by_neighbours(rows, main)
    if near and near[0].helped and tone == "unclear":
        title = f"Better than random weights by kNN, not shown by {read_by(main.protocol)}"
    said = (*((near[1],) if near else ()), *map(_ahead, ahead))
    said += tuple(f"{capitalised(told)}." for told in otherwise_trained(rows, main))
    numbers = _numbers(rows, main, random, others)
    known = leaks_beside(rows, main)
    return Verdict(tone, title, (numbers, *why, conclusion, *_one_draw(main), *said, *known))


def main_row(rows: Sequence[Row], subject: str) -> Row | None:
    """The accuracy by which `subject` is judged: linear first, then kNN, then others; None where there is none."""
    return next(iter(by_preference([row for row in rows if row.subject == subject])), None)


def by_preference(rows: Sequence[Row]) -> list[Row]:
    """The accuracies among `rows`, those to judge by first: linear, kNN, others as they come; top-1 before others.

    Those with few labels come last, the most labels first.
    """
    shares = [row for row in rows if row.is_share]
    protocols = list(dict.fromkeys(["linear", "knn", *(row.protocol for row in shares)]))
    metrics = ("top1", "balanced", "top5")

    def place(row: Row) -> tuple[float, ...]:
        labels = row.setting.get("labels", 0) if amount_of_labels(row.protocol) else math.inf
        return -labels, protocols.index(row.protocol), metrics.index(row.metric)

    return sorted(shares, key=place)


def by_classes(rows: Sequence[Row], main: Row) -> tuple[Row, list[str]]:
    """The row to judge by: the mean over classes, and why it is, where the test classes of `main` are uneven."""
    balanced = find(rows, main.subject, main.protocol, "balanced")
    if UNEVEN not in main.setting or balanced is None:
        return main, []
    least, most = main.setting[UNEVEN]
    told = f"The classes have from {count(least)} to {count(most)} test images, so the average over classes is judged"
    if main.setting.get(ABSENT):
        told += f", without {listed(main.setting[ABSENT])}, of which there is no test image"
    if main.metric == "top1":
        told += f"; of all images {percent(main.value)} are named right"
    return balanced, [f"{told}."]


def _one_draw(row: Row) -> list[str]:
    """What is said of an accuracy with few labels that were drawn once."""
    return [f"It rests on {row.setting['drawn']}."] if "drawn" in row.setting else []


def _numbers(rows: Sequence[Row], main: Row, random: Row | None, others: Sequence[Row]) -> str:
    who = f"{read_by(main.protocol)} {'with' if main.protocol == 'knn' else 'on'} this encoder"
    where = "test" if any(row.protocol == LEAKAGE and row.value >= 1 for row in rows) else "held-out"
    sentence = (
        f"On {where} images {who} names {_with_interval(main)} of {count(main.n)} images {RIGHT[main.metric]}"
    )
    beside = [f"random weights of the same network: {_with_interval(random)}"] if random else []
    beside += [f"{BASELINES[row.subject]}: {percent(row.value)}" for row in others]
    return f"{sentence}; {', '.join(beside)}." if beside else f"{sentence}."


def read_by(protocol: str) -> str:
    """What reads the encoder under a protocol: `knn` -> the kNN vote; `linear@1%` -> linear probe with 1 % ..."""
    return READERS.get(protocol, protocol_in_words(protocol))


def _with_interval(row: Row) -> str:
    if row.low is None or row.high is None:
        return percent(row.value)
    return f"{percent(row.value)} ({interval(row.low, row.high)})"


def paired_difference(rows: Sequence[Row], main: Row, against: str) -> Row | None:
    """The paired comparison of `main` with `against`, where it was made."""
    same = [row for row in rows if (row.subject, row.protocol) == (main.subject, main.protocol)]
    return next(
        (row for row in same if row.metric == main.metric + DIFFERENCE and row.against == against), None
    )


def shown(paired: Row) -> bool:
    """Whether a paired comparison shows a difference, either way: p < 0.05, and an interval that leaves out 0.

    The paired interval may be wider than the test knows (beside random weights it has the spread of their starts), so
    both decide; where there is no interval, the test alone.
    """
    return float(paired.setting["p"]) < SIGNIFICANT and not _holds_zero(paired)


def _holds_zero(paired: Row) -> bool:
    return paired.low is not None and paired.high is not None and paired.low <= 0 <= paired.high


def gain_over(rows: Sequence[Row], row: Row, other: Row, over: str = "random weights") -> Gain:
    """The gain of `row` over `other`, by the paired test (`shown`) or (where there is none) by the intervals."""
    paired = paired_difference(rows, row, other.subject)
    difference = paired.value if paired else row.value - other.value
    ends = paired.ends if paired else ""
    if paired and paired.setting.get("p") is not None:
        p = float(paired.setting["p"])
        told = p_value(p)
        if p < SIGNIFICANT and _holds_zero(paired):
            told += f" over the test images, but the interval is {ends} points"
        return Gain(difference, over, ends, shown(paired), told, p)
    sure = _apart(row, other)
    told = "the intervals do not overlap" if sure else "the intervals overlap"
    if not (row.ends and other.ends):
        told = UNTESTED
    return Gain(difference, over, ends, sure, told, None)


def by_neighbours(rows: Sequence[Row], main: Row) -> tuple[Gain, str] | None:
    """What kNN says beside `main`, an accuracy under another protocol: the gain over random weights, in a sentence."""
    row = find(rows, main.subject, "knn", main.metric)
    random = untrained_row(rows, row) if row else None
    if row is None or random is None or main.protocol == "knn":
        return None
    gain = gain_over(rows, row, random)
    return gain, (
        f"The kNN vote, which fits nothing to the features, names {_with_interval(row)} {RIGHT[row.metric]}: "
        f"{gain.size}, {gain.chance} ({gain.evidence})."
    )


def _against_random(rows: Sequence[Row], main: Row, random: Row) -> tuple[Tone, str, str]:
    gain = gain_over(rows, main, random)
    if not gain.sure:
        chance = "may be chance" if gain.evidence == UNTESTED else "is not larger than chance explains"
        return (
            "unclear",
            "No difference from random weights was shown",
            f"The difference of {points(gain.value)} from random weights {chance} ({gain.evidence}): on these images "
            "it has not been shown that training helped.",
        )
    if gain.helped:
        conclusion = f"That is {gain.size}, a difference larger than chance explains ({gain.evidence})."
        return "better", "Training helped", conclusion
    return (
        "worse",
        "Worse than random weights",
        f"That is {gain.size}, a difference larger than chance explains ({gain.evidence}): for this task the "
        "untrained network is the better choice.",
    )


def _apart(a: Row, b: Row) -> bool:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.low > b.high or b.low > a.high


def otherwise_trained(rows: Sequence[Row], main: Row) -> list[str]:
    """How the same network trained from labels, and weights pretrained elsewhere, do beside `main`, a clause each."""
    told = []
    for row in (row for row in rows if row.metric == main.metric):
        if row.subject.startswith(PRETRAINED) and row.protocol == main.protocol:
            who = f"{subject_in_words(row.subject)}, which learnt from other images, reach"
        elif row.subject.startswith(SUPERVISED) and row.protocol in (main.protocol, "supervised"):
            reader = f" and read by {READERS[row.protocol]}" if row.protocol in READERS else ""
            steps = f" ({count(row.setting['steps'])} steps)" if "steps" in row.setting else ""
            who = (
                f"the same network, trained from scratch with all the labels instead{steps}{reader}, reaches"
            )
        else:
            continue
        gain = gain_over(rows, main, row)
        evidence = "" if gain.p is None else f" ({gain.evidence})"
        told.append(
            f"{who} {_with_interval(row)}: {points(gain.value)} {'less' if gain.value > 0 else 'more'} than this "
            f"encoder{evidence}"
        )
    return told


def leaks_beside(rows: Sequence[Row], main: Row) -> list[str]:
    """What is said of test images that are in another set too, with the accuracy of `main` without them."""
    told = []
    name = main.protocol if main.metric == "top1" else f"{main.protocol} (mean over classes)"
    for row in (row for row in rows if row.protocol == LEAKAGE and row.value > 0):
        without = row.setting.get("without", {}).get(name)
        if without is None:
            told += leaks([row])
            continue
        others = f"{row.metric.removeprefix('in_')} images"
        told.append(
            f"{count(row.value * row.n)} of the {count(row.n)} test images are also among the {others}; without them "
            f"it is {percent(without['value'])} ({interval(without['low'], without['high'])})."
        )
    return list(dict.fromkeys(told))


def _ahead(row: Row) -> str:
    return (
        f"{capitalised(BASELINES[row.subject])}, which needs no training, does at least as well, with "
        f"{_with_interval(row)}: say so wherever you quote this encoder."
    )
