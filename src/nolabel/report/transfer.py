"""The transfer table: one encoder on several data sets, each with its own metric, beside random weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from nolabel.report._text import count, in_words, listed, number, p_value, percent, short, signed
from nolabel.report.records import DIFFERENCE, Record, Row, read_table
from nolabel.report.sections import part
from nolabel.report.verdict import SIGNIFICANT
from nolabel.runs import TRANSFER

TITLES = {"transfer": "Linear probe", "finetune": "Fine-tuned"}
METRICS = {"top1": "top-1", "balanced": "mean per class", "map11": "11-point mAP"}


@dataclass(frozen=True)
class Line:
    """One data set under one protocol."""

    encoder: Row
    random: Row
    difference: Row
    """encoder minus random weights; of mAP, the difference of the shares of right decisions"""

    @property
    def name(self) -> str:
        return short(self.encoder.data).removesuffix(".zip").removesuffix(".csv")

    @property
    def metric(self) -> str:
        return METRICS[self.encoder.metric]

    @property
    def ends(self) -> str:
        return self.difference.ends

    @property
    def says(self) -> str:
        """better, tied or worse: what has p > 0.05 is tied."""
        if float(self.difference.setting["p"]) > SIGNIFICANT:
            return "tied"
        return "better" if self.difference.value > 0 else "worse"

    @property
    def l2(self) -> str:
        """The chosen λ, and whether it is at an end of the 45 values."""
        curve = self.encoder.chosen.get("l2_curve") or {}
        if "l2" not in self.encoder.chosen:
            return ""
        best = max(curve, key=curve.__getitem__, default="")
        end = " (end of the grid)" if best in (*list(curve)[:1], *list(curve)[-1:]) else ""
        return f"{number(self.encoder.chosen['l2'])}{end}"


def lines(folder: Path) -> dict[str, list[Line]]:
    """Protocol -> its lines, in the order in which they were measured."""
    found: dict[str, list[Line]] = {}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in read_table(folder / TRANSFER):
        groups.setdefault((row.protocol, row.data), []).append(row)
    for protocol in TITLES:
        of_protocol = [rows for (name, _), rows in groups.items() if name == protocol]
        if of_protocol:
            found[protocol] = [_line(rows) for rows in of_protocol]
    return found


def _line(rows: Sequence[Row]) -> Line:
    difference = next(row for row in rows if row.metric.endswith(DIFFERENCE))
    first, second = (row for row in rows if row is not difference)
    return Line(second, first, difference) if first.is_baseline else Line(first, second, difference)


def summary(of_protocol: Sequence[Line]) -> str:
    """How many sets are better, tied and worse, in a sentence."""
    told = []
    for word in ("better", "tied", "worse"):
        names = [line.name for line in of_protocol if line.says == word]
        if names:
            told.append(
                f"{'tied with' if word == 'tied' else word + ' than'} random weights on {listed(names)}"
            )
    text = listed(told)
    return f"{text[0].upper()}{text[1:]} (paired permutation test; p > 0.05 is a tie)."


def transfer(record: Record, key: str = "transfer") -> Markup:
    """A table for each protocol; nothing where the encoder was not transferred."""
    body = Markup()
    for protocol, of_protocol in lines(record.folder).items():
        columns = [
            "metric",
            record.subject,
            "random weights",
            "difference",
            "test images",
            "λ",
            "against random",
        ]
        rows = [{"name": line.name, "own": False, "cells": _cells(line)} for line in of_protocol]
        used = [c for c in range(len(columns)) if any(row["cells"][c]["value"] for row in rows)]
        for row in rows:
            row["cells"] = [row["cells"][c] for c in used]
        body += part("sentence", f"{TITLES[protocol]}: {summary(of_protocol)}")
        body += part("accuracies", _caption(of_protocol), [columns[c] for c in used], rows, "Data set")
    return part("section", key, "Transfer to other data sets", body) if body else Markup()


def _caption(of_protocol: Sequence[Line]) -> str:
    setting = of_protocol[0].encoder.setting
    told = [f"{name}: {in_words(setting[name])}" for name in ("size", "steps", "seed") if name in setting]
    return (
        f"{TITLES[of_protocol[0].encoder.protocol]} ({'; '.join(told)}). Small type: 95 % intervals, and p after "
        "Holm's correction for the number of sets. Nothing was chosen on test images."
    )


def _cells(line: Line) -> list[dict[str, str]]:
    adjusted = p_value(float(line.difference.setting["holm"]))
    return [
        {"value": line.metric, "detail": ""},
        *({"value": percent(row.value), "detail": row.ends} for row in (line.encoder, line.random)),
        {"value": signed(line.difference.value), "detail": f"{line.ends}, {adjusted}"},
        {"value": count(line.encoder.n), "detail": ""},
        {"value": line.l2, "detail": ""},
        {"value": line.says, "detail": ""},
    ]
