"""The sections on accuracy: the table with baselines and intervals, its chart, and accuracy by stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nolabel.report import figures
from nolabel.report._text import count, in_words, interval, number, p_value, percent, readable, signed
from nolabel.report.records import (
    DIFFERENCE,
    METRICS_IN_WORDS,
    Record,
    Row,
    pooled,
    protocol_in_words,
    subject_in_words,
)
from nolabel.report.sections import part
from nolabel.report.verdict import paired_difference, untrained_row

STAGES = "stages"
"""key of `Row.chosen` that holds stage -> accuracy on the validation part"""


@dataclass(frozen=True)
class Entry:
    """One encoder or baseline with what was measured of it."""

    label: str
    is_baseline: bool
    rows: tuple[Row, ...]

    def row(self, protocol: str, metric: str) -> Row | None:
        return next((row for row in self.rows if (row.protocol, row.metric) == (protocol, metric)), None)


def accuracy(records: Sequence[Record], key: str = "accuracy") -> Markup:
    """Accuracy beside the baselines, a chart and a table for each protocol; runs on other images stand apart."""
    body = Markup()
    groups = dict.fromkeys(record.data.get("fingerprint") for record in records)
    for fingerprint in groups:
        group = [record for record in records if record.data.get("fingerprint") == fingerprint]
        if len(groups) > 1:
            body += part("subtitle", group[0].data.get("source") or "unknown images")
        body += _group(_entries(group))
    if not body:
        body = part("sentence", "Nothing has been measured on held-out images yet.")
    return part("section", key, "Accuracy on held-out images", body)


def _entries(records: Sequence[Record]) -> list[Entry]:
    encoders, baselines = [], {}
    for record, rows in zip(records, pooled(records), strict=True):
        for subject in dict.fromkeys(row.subject for row in rows):
            own = tuple(row for row in rows if row.subject == subject)
            if own[0].is_baseline:
                baselines.setdefault(subject, Entry(subject_in_words(subject), True, own))
            else:
                label = record.name if len(records) > 1 and subject == record.subject else subject
                encoders.append(Entry(label, False, own))
    return encoders + list(baselines.values())


def _group(entries: Sequence[Entry]) -> Markup:
    rows = [row for entry in entries for row in entry.rows]
    body = Markup()
    for protocol in sorted({row.protocol for row in rows}, key=lambda name: (name != "linear", name != "knn", name)):
        measured = {row.metric for row in rows if row.protocol == protocol and row.is_share}
        if measured:
            metrics = [metric for metric in METRICS_IN_WORDS if metric in measured]
            body += _chart(entries, protocol, metrics[0]) + _table(entries, protocol, metrics)
        else:
            body += _diagnostics(entries, protocol)
    return body


def _chart(entries: Sequence[Entry], protocol: str, metric: str) -> Markup:
    measured = [(entry, row) for entry in entries if (row := entry.row(protocol, metric))]
    measured.sort(key=lambda pair: (pair[0].is_baseline, -pair[1].value))
    shown = [figures.Measured(e.label, row.value, row.low, row.high, e.is_baseline) for e, row in measured]
    name = protocol_in_words(protocol)
    x_label = f"{METRICS_IN_WORDS[metric]} accuracy, {name}"
    caption = (
        "Filled dot: encoder. Hollow squares: baselines, which saw no training. The bars are 95 % intervals; where two "
        "do not overlap, the difference is larger than the choice of test images explains."
    )
    figure = Markup(figures.intervals(shown, x_label=x_label, alt=f"Chart: {x_label}"))
    return part("charts", [part("chart", name[0].upper() + name[1:] if name != "kNN" else name, figure, caption)])


def _table(entries: Sequence[Entry], protocol: str, metrics: Sequence[str]) -> Markup:
    columns = [f"{METRICS_IN_WORDS[metric]} (95 % interval)" for metric in metrics]
    columns += ["against random", "test images", "seeds", "chosen on validation"]
    lines, settings = [], ""
    for entry in entries:
        found = [entry.row(protocol, metric) for metric in metrics]
        first = next((row for row in found if row), None)
        if first is None:
            continue
        settings = settings or in_words(first.setting)
        chosen = {name: value for name, value in first.chosen.items() if name != STAGES}
        cells = [*map(_value, found), _against(entries, entry, first)]
        cells += [_cell(count(first.n)), _cell(in_words(first.seeds)), _cell(in_words(chosen))]
        lines.append({"name": entry.label, "own": not entry.is_baseline, "cells": cells})
    used = [c for c in range(len(columns)) if any(line["cells"][c]["value"] for line in lines)]
    for line in lines:
        line["cells"] = [line["cells"][c] for c in used]
    caption = f"{protocol_in_words(protocol)}: {settings}" if settings else protocol_in_words(protocol)
    return part("accuracies", caption, [columns[c] for c in used], lines)


def _cell(value: str, detail: str = "") -> dict[str, str]:
    return {"value": value, "detail": detail}


def _value(row: Row | None) -> dict[str, str]:
    if row is None:
        return _cell("")
    known = row.low is not None and row.high is not None
    return _cell(percent(row.value), interval(row.low, row.high) if known else "")  # type: ignore[arg-type]


def _against(entries: Sequence[Entry], entry: Entry, row: Row) -> dict[str, str]:
    """Points more or less than random weights, with the p-value of the paired test where one was made."""
    rows = [row for other in entries for row in other.rows]
    random = untrained_row(rows, row)
    if entry.is_baseline or random is None:
        return _cell("")
    paired = paired_difference(entry.rows, row, random.subject)
    if paired is None:
        return _cell(f"{signed(row.value - random.value)} points")
    p = paired.setting.get("p")
    return _cell(f"{signed(paired.value)} points", p_value(float(p)) if p is not None else "")


def _diagnostics(entries: Sequence[Entry], protocol: str) -> Markup:
    rows = [row for entry in entries for row in entry.rows if row.protocol == protocol]
    metrics = list(dict.fromkeys(row.metric for row in rows if not row.metric.endswith(DIFFERENCE)))
    lines = []
    for entry in entries:
        found = [entry.row(protocol, metric) for metric in metrics]
        if any(found):
            cells = [_cell(number(row.value) if row else "") for row in found]
            lines.append({"name": entry.label, "own": not entry.is_baseline, "cells": cells})
    names = [metric.replace("_", " ") for metric in metrics]
    return part("accuracies", f"{protocol_in_words(protocol)}, without labels", names, lines) if lines else Markup()


def by_stage(records: Sequence[Record], key: str = "stages") -> Markup:
    """Accuracy against depth for encoders and random weights, as the protocol chose among the stages."""
    values: dict[str, dict[str, float]] = {}
    chosen: Any = None
    entries = [entry for record in records for entry in _entries([record])]
    for entry in entries:
        row = next((row for row in entry.rows if len(row.chosen.get(STAGES) or ()) > 1), None)
        if row is not None:
            values.setdefault(readable(entry.label), row.chosen[STAGES])
            chosen = chosen or (None if entry.is_baseline else row.chosen.get("stage"))
    if not values:
        return part("section", key, "Accuracy by stage", part("sentence", "The stages were not compared."))
    caption = (
        "How well the classes can be read off after each part of the network. Measured on a part of the training "
        "images, which is where the stage was chosen"
        + (f" ({chosen})" if chosen and len(records) == 1 else "")
        + "; the test images had no say. Late stages of a good encoder are the best; those of random weights get worse."
    )
    figure = Markup(figures.stages(values, alt="Chart: accuracy by stage"))
    return part("section", key, "Accuracy by stage", part("charts", [part("chart", "", figure, caption)]))
