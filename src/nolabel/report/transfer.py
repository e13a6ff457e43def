"""The transfer table: encoders on several data sets, each with its own metric, beside their untrained networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from nolabel.report._text import (
    capitalised,
    count,
    listed,
    number,
    p_value,
    percent,
    setting_by,
    short,
    signed,
)
from nolabel.report.accuracy import chosen_in_words
from nolabel.report.records import (
    DIFFERENCE,
    LEAKAGE,
    SUPERVISED,
    UNTRAINED,
    Record,
    Row,
    leak_in_words,
    read_table,
    subject_in_words,
    unconverged,
)
from nolabel.report.sections import part
from nolabel.report.verdict import SIGNIFICANT, shown
from nolabel.runs import TRANSFER

CHOICES = {"stage": "", "l2": "λ", "lr": "rate", "weight_decay": "decay"}
"""keys of `Row.chosen` that a table tells, and how it calls them"""
TITLES = {"transfer": "Linear probe", "finetune": "Fine-tuned"}
METRICS = {"top1": "top-1", "balanced": "mean per class", "map11": "11-point mAP"}
TIED = "*"
"""behind a value that is the best of its set or tied with it"""
UNTESTED = "†"
"""behind a value that no test compares with the best of its set"""
SHOWN = f"paired permutation test, p < {SIGNIFICANT:g}, and a 95 % interval without 0"
"""what makes a difference better or worse, and no tie"""
RIGHT_DECISIONS = "of right decisions"
"""what a difference between two mAPs is one of, since average precision does not bear a paired test"""
SETTINGS = ("size", "steps", "batch_size", "seed", "split")
"""keys of `Row.setting` that the caption tells"""


@dataclass(frozen=True)
class Line:
    """Two subjects on one data set under one protocol."""

    encoder: Row
    other: Row
    """its baseline, or another encoder"""
    difference: Row
    """first minus second; of mAP, the difference of the shares of right decisions"""
    encoder_top5: Row | None = None
    """where the classes are many"""

    @property
    def name(self) -> str:
        return set_name(self.encoder.data)

    @property
    def metric(self) -> str:
        return METRICS[self.encoder.metric]

    @property
    def ends(self) -> str:
        return self.difference.ends

    @property
    def beside_baseline(self) -> bool:
        """Whether the second subject is no encoder but what both are to be better than."""
        return self.other.is_baseline

    @property
    def says(self) -> str:
        """better, tied or worse; what is not `shown` is tied."""
        if not shown(self.difference):
            return "tied"
        return "better" if self.difference.value > 0 else "worse"

    @property
    def of_map(self) -> bool:
        return self.encoder.metric == "map11"

    @property
    def change(self) -> str:
        """The difference in points, and of what it is one where that is not the values beside it."""
        return signed(self.difference.value) + (f" {RIGHT_DECISIONS}" if self.of_map else "")

    @property
    def chosen(self) -> str:
        """The chosen stage and λ, and whether that is at an end of the 45 values; of fine-tuning rate and decay."""
        return chosen_in_words(self.encoder, CHOICES)

    @property
    def top5(self) -> str:
        """The encoder's share within five guesses with its interval; empty where the classes are few."""
        row = self.encoder_top5
        return f"top-5: {row.in_words} ({row.ends})" if row else ""


@dataclass(frozen=True)
class Board:
    """Subjects by data sets under one protocol."""

    sets: tuple[str, ...]
    """as rows have them in `data`"""
    subjects: tuple[str, ...]
    """encoders, then baselines"""
    rows: dict[tuple[str, str], Row]
    """(subject, set)"""
    best: frozenset[tuple[str, str]]
    """the best of each set, and what is tied with it"""
    untested: frozenset[tuple[str, str]]
    """what no test compares with the best of its set"""

    @property
    def legend(self) -> str:
        """What the marks mean."""
        told = f"{TIED} best of its set, or tied with the best (a difference is shown by: {SHOWN})."
        return told + (f" {UNTESTED} not compared with the best of its set." if self.untested else "")

    def cell(self, subject: str, name: str) -> str:
        """The value in per cent with its mark; empty where it was not measured."""
        row = self.rows.get((subject, name))
        if row is None:
            return ""
        place = subject, name
        mark = TIED if place in self.best else UNTESTED if place in self.untested else ""
        return percent(row.value) + mark

    @property
    def ranks(self) -> dict[str, tuple[float, float]]:
        """Subject -> (mean rank, 1 is best; mean of the logits of its values), over the sets that all have."""
        shared = [name for name in self.sets if all((one, name) in self.rows for one in self.subjects)]
        if not shared:
            return {}
        return ranks({one: [self.rows[one, name] for name in shared] for one in self.subjects})


def set_name(data: str) -> str:
    """What a person calls the images `data`."""
    return short(data).removesuffix(".zip").removesuffix(".csv")


def called(subject: str) -> str:
    """`supervised:resnet10` -> from scratch (resnet10); others as elsewhere."""
    if subject.startswith(SUPERVISED):
        start = subject_in_words(UNTRAINED + subject.removeprefix(SUPERVISED))
        return start.replace("random weights", "from scratch")
    return subject_in_words(subject)


def lines(folder: Path) -> dict[str, list[Line]]:
    """Protocol -> its comparisons, those with baselines first, else in the order in which they were measured."""
    rows = _current(read_table(folder / TRANSFER))
    of = {(row.protocol, row.data, row.subject): row for row in rows if row.metric in METRICS}
    top5 = {(row.protocol, row.data, row.subject): row for row in rows if row.metric == "top5"}
    found = []
    for row in rows:
        first, second = (of.get((row.protocol, row.data, one)) for one in (row.subject, row.against))
        if row.metric.endswith(DIFFERENCE) and first and second:
            found.append(Line(first, second, row, top5.get((row.protocol, row.data, row.subject))))
    found.sort(key=lambda line: not line.beside_baseline)
    grouped = {name: [line for line in found if line.encoder.protocol == name] for name in TITLES}
    return {name: some for name, some in grouped.items() if some}


def _current(rows: Sequence[Row]) -> list[Row]:
    """Without rows of weights that an encoder of the same name had before."""
    latest = {row.subject: row.setting["encoder"] for row in rows if "encoder" in row.setting}
    return [
        row
        for row in rows
        if row.setting.get("encoder") in (None, latest.get(row.subject)) and row.protocol != LEAKAGE
    ]


def board(of_protocol: Sequence[Line]) -> Board:
    """All subjects of one protocol's lines by all sets, and how each stands to the best on each."""
    every = [row for line in of_protocol for row in (line.encoder, line.other)]
    rows = {(row.subject, row.data): row for row in every}
    subjects = dict.fromkeys(row.subject for row in sorted(every, key=lambda row: row.is_baseline))
    sets = tuple(dict.fromkeys(row.data for row in every))
    tied = {
        (frozenset({line.encoder.subject, line.other.subject}), line.encoder.data): line.says == "tied"
        for line in of_protocol
    }
    best, untested = set(), set()
    for name in sets:
        here = [one for one in subjects if (one, name) in rows]
        top = max(here, key=lambda one: rows[one, name].value)
        for one in here:
            pair = frozenset({one, top}), name
            if one == top or tied.get(pair):
                best.add((one, name))
            elif pair not in tied:
                untested.add((one, name))
    return Board(sets, tuple(subjects), rows, frozenset(best), frozenset(untested))


def ranks(of_subjects: dict[str, list[Row]]) -> dict[str, tuple[float, float]]:
    """Subject -> (mean rank, 1 is best; mean of the logits of its values), over the same data sets.

    A bare mean over different metrics would weigh a point at 50 % as one at 95 %. Equal values share a rank.
    """
    from scipy.stats import rankdata

    values = np.array([[one.value for one in rows] for rows in of_subjects.values()])
    mean = rankdata(-values, axis=0).mean(1)
    n = np.array([[one.n for one in rows] for rows in of_subjects.values()])
    inside = values.clip(0.5 / n, 1 - 0.5 / n)
    logits = np.log(inside / (1 - inside)).mean(1)
    return {name: (float(r), float(l)) for name, r, l in zip(of_subjects, mean, logits, strict=True)}


def leaks(folder: Path) -> list[str]:
    """What is said of test images of the sets that are also among the training or the pretraining images.

    Of pretraining images it is said of each encoder, where there are several: they may have seen others.
    """
    rows = [row for row in read_table(folder / TRANSFER) if row.protocol == LEAKAGE]
    several = len({row.subject for row in rows}) > 1
    told: list[str] = []
    clean: dict[str, list[str]] = {}
    for row in rows:
        images = f"{row.metric.removeprefix('in_')} images"
        if row.value:
            told.append(f"{set_name(row.data)}, {row.subject}: {leak_in_words(row)}")
        else:
            whose = f" of {row.subject}" if several and row.metric == "in_pretraining" else ""
            clean.setdefault(images + whose, []).append(set_name(row.data))
    for images, names in clean.items():
        where = listed(dict.fromkeys(names))
        told.append(f"No test image of {where} is identical, or nearly so, to one of the {images}.")
    return told


def left_out(folder: Path) -> list[str]:
    """What is said of labels of several an image that do not count in a set's mean."""
    rows = [row for row in _current(read_table(folder / TRANSFER)) if row.setting.get("tags_left_out")]
    of_sets = {set_name(row.data): row.setting["tags_left_out"] for row in rows}
    return [
        f"{name}: left out of the mean {'are' if len(tags) > 1 else 'is'} {listed(tags)}, which all or none of its "
        f"training or test images show."
        for name, tags in of_sets.items()
    ]


def unfinished(folder: Path) -> list[str]:
    """What is said of fits that did not converge."""
    rows = _current(read_table(folder / TRANSFER))
    return unconverged(rows, lambda row: f"{called(row.subject)} on {set_name(row.data)}")


def summary(of_protocol: Sequence[Line]) -> list[str]:
    """For each encoder on how many sets it is better than its baseline, tied and worse, in a sentence."""
    told = []
    beside = [line for line in of_protocol if line.beside_baseline]
    subjects = list(dict.fromkeys(line.encoder.subject for line in beside))
    for subject in subjects:
        own = [line for line in beside if line.encoder.subject == subject]
        start = "training from scratch" if own[0].other.subject.startswith(SUPERVISED) else "random weights"
        parts = []
        for word, joined in (("better", "than"), ("tied", "with"), ("worse", "than")):
            names = [line.name for line in own if line.says == word]
            if names:
                parts.append(f"{word} {joined} {start} on {listed(names)}")
        text = listed(parts)
        whose = f"{called(subject)} is {text}" if len(subjects) > 1 else capitalised(text)
        decisions = (
            "; of mAP, the share of right decisions is compared" if any(one.of_map for one in own) else ""
        )
        told.append(f"{whose} (better and worse: {SHOWN}{decisions}).")
    return told


def transfer(record: Record, key: str = "transfer") -> Markup:
    """A table for each protocol; nothing where the encoder was not transferred."""
    body = Markup()
    for protocol, of_protocol in lines(record.folder).items():
        for sentence in summary(of_protocol):
            body += part("sentence", f"{TITLES[protocol]}: {sentence}")
        if len({line.encoder.subject for line in of_protocol}) > 1:
            body += _board(board(of_protocol), protocol)
        columns = [
            "encoder",
            "value",
            "beside",
            "its value",
            "metric",
            "difference",
            "test images",
            "chosen",
            "it is",
        ]
        rows = [{"name": line.name, "own": False, "cells": _cells(line)} for line in of_protocol]
        used = [c for c in range(len(columns)) if any(row["cells"][c]["value"] for row in rows)]
        for row in rows:
            row["cells"] = [row["cells"][c] for c in used]
        body += part("accuracies", _caption(of_protocol), [columns[c] for c in used], rows, "Data set")
    for sentence in (*left_out(record.folder), *unfinished(record.folder), *leaks(record.folder)):
        body += part("sentence", sentence)
    return part("section", key, "Transfer to other data sets", body) if body else Markup()


def _board(found: Board, protocol: str) -> Markup:
    """Encoders as rows, data sets as columns."""
    mean = found.ranks
    rows = [
        {
            "name": called(subject),
            "own": False,
            "cells": [
                *({"value": found.cell(subject, name), "detail": ""} for name in found.sets),
                *({"value": number(value), "detail": ""} for value in mean.get(subject, ())),
            ],
        }
        for subject in found.subjects
    ]
    columns = [*map(set_name, found.sets), *(["mean rank", "mean logit"] if mean else [])]
    return part("accuracies", f"{TITLES[protocol]}. {found.legend}", columns, rows, "Encoder")


def _caption(of_protocol: Sequence[Line]) -> str:
    rows = [row for line in of_protocol for row in (line.encoder, line.other)]
    told = [_setting(name, [row for row in rows if name in row.setting]) for name in SETTINGS]
    settings = "; ".join(filter(None, told))
    return (
        f"{TITLES[of_protocol[0].encoder.protocol]}{f' ({settings})' if settings else ''}. Small type: 95 % intervals, "
        "and p after Holm's correction for the number of sets. Nothing was chosen on test images."
    )


def _setting(name: str, rows: Sequence[Row]) -> str:
    """The setting by subject, by set if that tells it, else by both; empty without rows."""
    subjects, sets = [called(row.subject) for row in rows], [set_name(row.data) for row in rows]
    both = [f"{subject} on {data}" for subject, data in zip(subjects, sets, strict=True)]
    values = [row.setting[name] for row in rows]
    return setting_by(name.replace("_", " "), values, subjects, sets, both) if rows else ""


def _cells(line: Line) -> list[dict[str, str]]:
    adjusted = p_value(float(line.difference.setting["holm"]))
    return [
        {"value": called(line.encoder.subject), "detail": ""},
        {
            "value": percent(line.encoder.value),
            "detail": "; ".join(filter(None, (line.encoder.detail, line.top5))),
        },
        {"value": called(line.other.subject), "detail": ""},
        {"value": percent(line.other.value), "detail": line.other.detail},
        {"value": line.metric, "detail": ""},
        {"value": line.change, "detail": f"{line.ends}, {adjusted}"},
        {"value": count(line.encoder.n), "detail": ""},
        {"value": line.chosen, "detail": ""},
        {"value": line.says, "detail": ""},
    ]
