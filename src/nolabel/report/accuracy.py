"""The sections on accuracy: the table with baselines and intervals, its chart, and accuracy by stage."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from nolabel.report import figures
from nolabel.report._text import SPACE, capitalised, count, in_words, interval, listed, p_value, signed
from nolabel.report.captions import setting_in_caption, told_names
from nolabel.report.records import (
    BASELINES,
    DIFFERENCE,
    EFFICIENCY,
    GRID_END,
    LABEL_FREE,
    LEAKAGE,
    METRICS_IN_WORDS,
    PRETRAINED,
    SUPERVISED,
    UNTRAINED,
    Record,
    Row,
    amount_of_labels,
    images_in_words,
    leaks,
    measure_in_words,
    measured_on,
    pooled,
    protocol_in_words,
    subject_in_words,
    unconverged,
    untrained_row,
)
from nolabel.report.sections import part
from nolabel.report.verdict import paired_difference

STAGES = "stages"
"""key of `Row.chosen` that holds stage -> accuracy on the validation part"""
PURITY = (
    "The purest cluster stands left, and each point adds the next: which share of the images lies in these clusters, "
    "and which share of a cluster's images has its commonest class. The longer a line stays high, the more of the "
    "images lie in clusters of one class, found without labels."
)
CHOICES = {"stage": "", "l2": "L2", "k": "k", "temperature": "T"}
"""keys of `Row.chosen` that the table tells, and how it calls them"""
CURVE = "curve"
"""key of `Row.setting` that holds the purity and coverage of discovered clusters"""
OPTED = {
    "random": ("random weights", UNTRAINED),
    **{name: (told, name) for name, told in BASELINES.items()},
    "supervised": ("the same network trained from scratch with the labels", SUPERVISED),
    "timm:resnet18": ("weights that were pretrained on other images", PRETRAINED),
}
"""names of `--baselines`; what each is, and how its subjects begin"""


@dataclass(frozen=True)
class Entry:
    """One encoder or baseline with what was measured of it."""

    label: str
    is_baseline: bool
    rows: tuple[Row, ...]
    beside: tuple[Row, ...]
    """of an encoder: what its run and its baselines gave on the same images"""

    def row(self, protocol: str, metric: str) -> Row | None:
        return next((row for row in self.rows if (row.protocol, row.metric) == (protocol, metric)), None)


def accuracy(records: Sequence[Record], key: str = "accuracy") -> Markup:
    """Accuracy beside the baselines, a chart and a table for each protocol; other images stand apart."""
    body, sets = Markup(), measured_on(records)
    for data in sets:
        if len(sets) > 1:
            body += part("subtitle", f"Measured on {data or 'images without a name'}")
        body += _group(entries_of(records, data))
    if not body:
        body = part("sentence", "Nothing has been measured on held-out images yet.")
    return part("section", key, "Accuracy on held-out images", body)


def entries_of(records: Sequence[Record], data: str) -> list[Entry]:
    """Encoders, then baselines, each once."""
    encoders, baselines = [], {}
    for record, rows in zip(records, pooled(records, data), strict=True):
        for subject in dict.fromkeys(row.subject for row in rows):
            own = tuple(row for row in rows if row.subject == subject)
            if own[0].is_baseline:
                baselines.setdefault(subject, Entry(subject_in_words(subject), True, own, ()))
            else:
                label = record.name if len(records) > 1 and subject == record.subject else subject
                encoders.append(Entry(label, False, own, rows))
    return encoders + list(baselines.values())


def _group(entries: Sequence[Entry]) -> Markup:
    rows = [row for entry in entries for row in entry.rows]
    told = (*leaks(rows), *unconverged(rows), *left_out(rows))
    body = Markup().join(part("sentence", sentence) for sentence in told)
    labels = {row.protocol: row.setting.get("labels") for row in rows}
    for protocol in sorted(
        {row.protocol for row in rows if row.protocol != LEAKAGE},
        key=lambda name: _place(name, labels[name]),
    ):
        measured = {row.metric for row in rows if row.protocol == protocol and row.is_share}
        if measured:
            metrics = [metric for metric in METRICS_IN_WORDS if metric in measured]
            body += _chart(entries, protocol, metrics[0]) + _table(entries, protocol, metrics)
        if any(row.protocol == protocol and not _is_accuracy(row) for row in rows):
            body += _measures(entries, protocol) + _purity(entries, protocol)
    return body


def _place(protocol: str, labels: object) -> tuple[object, ...]:
    """Linear, kNN, then by name; those of one name by their number of labels, and numbers within names as numbers."""
    head = protocol.partition("@")[0]
    many = labels if isinstance(labels, int) and amount_of_labels(protocol) else 0
    numbers = [float(part) if part[:1].isdigit() else part for part in re.split(r"(\d+(?:\.\d+)?)", protocol)]
    return protocol != "linear", protocol != "knn", head, many, numbers


def left_out(rows: Sequence[Row]) -> list[str]:
    """Which baselines accuracies were not measured beside, and the option that adds them, in a sentence."""
    there = {row.subject for row in rows if row.is_share and row.protocol.partition("@")[0] != EFFICIENCY}
    if not any(not one.startswith(tuple(start for _, start in OPTED.values())) for one in there):
        return []
    missing = {
        name: told for name, (told, start) in OPTED.items() if not any(one.startswith(start) for one in there)
    }
    if not missing:
        return []
    return [
        f"Not measured beside it: {listed(missing.values())}. To add what you want of them: "
        f"--baselines {','.join(missing)} of nolabel evaluate, or of the same nolabel compare."
    ]


def _is_accuracy(row: Row) -> bool:
    """Whether it is an accuracy, or a difference of two."""
    return row.is_share or row.metric.endswith(DIFFERENCE)


def _ranked(entries: Sequence[Entry], protocol: str, metric: str) -> list[tuple[Entry, Row]]:
    """Encoders, then baselines, best first."""
    measured = [(entry, row) for entry in entries if (row := entry.row(protocol, metric))]
    return sorted(measured, key=lambda pair: (pair[0].is_baseline, -pair[1].value))


def _chart(entries: Sequence[Entry], protocol: str, metric: str) -> Markup:
    shown = [
        figures.Measured(entry.label, row.value, row.low, row.high, entry.is_baseline)
        for entry, row in _ranked(entries, protocol, metric)
    ]
    x_label = f"{METRICS_IN_WORDS[metric]} accuracy"
    caption = (
        "Filled dot: encoder. Hollow squares: baselines, for which nothing was pretrained here. Bars: 95 % "
        "intervals; where two do not overlap, the difference is larger than the choice of test images "
        "explains."
    )
    figure = Markup(figures.intervals(shown, x_label=x_label, alt=f"Chart: {x_label}, {protocol}"))
    return part("charts", [part("chart", title_of(protocol), figure, caption)])


def title_of(protocol: str) -> str:
    """`linear` -> Linear probe, as a heading."""
    name = protocol_in_words(protocol)
    return name if name == "kNN" else capitalised(name)


def _table(entries: Sequence[Entry], protocol: str, metrics: Sequence[str]) -> Markup:
    columns = [METRICS_IN_WORDS[metric] for metric in metrics]
    columns += ["against random", "test images", "seeds", "chosen on validation"]
    ranked = _ranked(entries, protocol, metrics[0])
    lines = []
    for entry, first in ranked:
        cells = [*(_value(entry.row(protocol, metric)) for metric in metrics), _against(entry, first)]
        cells += [_cell(count(first.n)), _cell(in_words(first.seeds)), _cell(chosen_in_words(first))]
        lines.append({"name": entry.label, "own": not entry.is_baseline, "cells": cells})
    used = [c for c in range(len(columns)) if any(line["cells"][c]["value"] for line in lines)]
    for line in lines:
        line["cells"] = [line["cells"][c] for c in used]
    told = _settings(ranked)
    protocol_told = f"{title_of(protocol)} ({'; '.join(told)})" if told else title_of(protocol)
    caption = f"{protocol_told}. Small type: 95{SPACE}% interval. Nothing was chosen on test images."
    return part("accuracies", caption, [columns[c] for c in used], lines)


def chosen_in_words(row: Row, names: Mapping[str, str] = CHOICES) -> str:
    """What was chosen on validation images, of the keys of `names`: `stage2, L2 0.01 (end of the grid)`."""
    return ", ".join(
        f"{name} {in_words(row.chosen[key])}".strip() + GRID_END * (key == "l2" and row.at_grid_end)
        for key, name in names.items()
        if row.chosen.get(key) is not None
    )


def _settings(measured: Sequence[tuple[Entry, Row]]) -> list[str]:
    """How it was measured, each setting of the rows that have it; where these differ, by entry, measure or both."""
    names = told_names([row.setting for _, row in measured])
    return [_setting(name, [one for one in measured if name in one[1].setting]) for name in names]


def _setting(name: str, measured: Sequence[tuple[Entry, Row]]) -> str:
    entries = [entry.label for entry, _ in measured]
    measures = [measure_in_words(row.metric, row.against) for _, row in measured]
    both = [f"{measure} of {entry}" for measure, entry in zip(measures, entries, strict=True)]
    return setting_in_caption(name, [row.setting[name] for _, row in measured], entries, measures, both)


def _cell(value: str, detail: str = "") -> dict[str, str]:
    return {"value": value, "detail": detail}


def _value(row: Row | None) -> dict[str, str]:
    if row is None:
        return _cell("")
    return _cell(row.in_words, row.detail)


def _against(entry: Entry, row: Row) -> dict[str, str]:
    """Points more or less than random weights, with the p-value of the paired test where one was made."""
    random = untrained_row(entry.beside, row)
    if random is None:
        return _cell("")
    paired = paired_difference(entry.rows, row, random.subject)
    if paired is None:
        return _cell(f"{signed(row.value - random.value)} points")
    known = paired.low is not None and paired.high is not None
    told = [interval(paired.low, paired.high)] if known else []  # type: ignore[arg-type]
    told += [p_value(float(paired.setting["p"]))] if paired.setting.get("p") is not None else []
    return _cell(f"{signed(paired.value)} points", ", ".join(told))


def _measures(entries: Sequence[Entry], protocol: str) -> Markup:
    rows = [row for entry in entries for row in entry.rows if row.protocol == protocol]
    metrics = dict.fromkeys((row.metric, row.against) for row in rows if not _is_accuracy(row))
    lines = []
    for entry in entries:
        own = {(row.metric, row.against): row for row in entry.rows if row.protocol == protocol}
        found = [own.get(metric) for metric in metrics]
        if any(found):
            cells = [_value(row) for row in found]
            cells.append(_cell(images_in_words([row for row in found if row])))
            lines.append({"name": entry.label, "own": not entry.is_baseline, "cells": cells})
    names = [measure_in_words(*metric) for metric in metrics]
    told = dict.fromkeys(
        f"{row.subject}: {row.setting['verdict']}" for row in rows if "verdict" in row.setting
    )
    title = "What the features look like, labels aside" if protocol == LABEL_FREE else title_of(protocol)
    body = part("subtitle", title) + Markup().join(part("sentence", t) for t in told)
    measured = [(entry, row) for entry in entries for row in entry.rows if row.protocol == protocol]
    told = "; ".join(_settings([one for one in measured if not _is_accuracy(one[1])]))
    caption = f"{told}{'. ' * bool(told)}Small type: 95{SPACE}% interval."
    return body + part("accuracies", caption, [*names, "images"], lines)


def _purity(entries: Sequence[Entry], protocol: str) -> Markup:
    """Purity against coverage of the clusters that were discovered; nothing where there are none."""
    lines = []
    for entry in entries:
        held = [row.setting[CURVE] for row in entry.rows if row.protocol == protocol and CURVE in row.setting]
        lines += [
            figures.Line(entry.label, 100 * np.array(one["coverage"]), np.array(one["purity"]))
            for one in held
            if one["purity"]
        ]
    if not lines:
        return Markup()
    alt = "Chart: purity against coverage of the discovered clusters"
    drawn = figures.curves(lines, x_label="coverage in % of the images", alt=alt, shares=True)
    return part("charts", [part("chart", "Purity by coverage", Markup(drawn), PURITY)])


def by_stage(records: Sequence[Record], key: str = "stages") -> Markup:
    """Accuracy against depth for encoders and random weights, as the protocol chose among the stages."""
    values: dict[str, dict[str, float]] = {}
    chosen: Any = None
    entries = entries_of(records, measured_on(records)[0])
    for entry in entries:
        row = next((row for row in entry.rows if len(row.chosen.get(STAGES) or ()) > 1), None)
        if row is not None:
            values.setdefault(entry.label, row.chosen[STAGES])
            chosen = chosen or (None if entry.is_baseline else row.chosen.get("stage"))
    if not values:
        return part("section", key, "Accuracy by stage", part("sentence", "The stages were not compared."))
    where = f" ({chosen})" if chosen and len(records) == 1 else ""
    caption = (
        "How well the classes can be read off after each part of the network. Measured on a part of the "
        f"training images, which is where the stage was chosen{where}; the test images had no say. Random "
        "weights usually lose accuracy with depth, so what training gave shows in the late stages."
    )
    figure = Markup(figures.stages(values, alt="Chart: accuracy by stage"))
    return part("section", key, "Accuracy by stage", part("charts", [part("chart", "", figure, caption)]))
