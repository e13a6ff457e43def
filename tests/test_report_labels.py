"""The chart of accuracy against labels."""

import re
from pathlib import Path

import numpy as np

from nolabel.report import figures
from nolabel.report.labels import by_labels
from nolabel.report.page import write_report
from nolabel.report.records import read_record
from test_report import Page, row, write_run


def efficiency(subject: str, values: dict[int, float]) -> list:
    return [
        row(subject, "top1", value, 0.02, f"label_efficiency@{each}", setting={"labels": 10 * each})
        for each, value in values.items()
    ]


def test_every_subject_is_a_line_and_labels_are_apart_by_their_factor(tmp_path: Path) -> None:
    rows = efficiency("simclr", {16: 0.6, 1: 0.2, 4: 0.4})
    rows += efficiency("random:resnet10", {1: 0.15, 4: 0.3, 16: 0.4})
    rows += efficiency("supervised:resnet10", {1: 0.14, 4: 0.2, 16: 0.5})
    page = Page(write_report(write_run(tmp_path / "run", rows=rows)))
    assert "Accuracy by number of labels" in page.text
    chart = re.findall(r"<svg[^>]*accuracy by number of labels.*?</svg>", page.source, re.S)[0]
    shown = [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", chart)]
    assert {"simclr", "random weights (resnet10)", "trained from scratch (resnet10)"} <= set(shown)
    places = _places(chart)
    assert abs((places["40"] - places["10"]) - (places["160"] - places["40"])) < 0.5


def _places(chart: str) -> dict[str, float]:
    found = re.findall(r'<text[^>]*?(?: x="([\d.]+)")[^>]*>\s*([\d,]+)\s*</text>', chart)
    return {text: float(x) for x, text in found}


def test_one_number_of_labels_makes_no_chart(tmp_path: Path) -> None:
    rows = [row("simclr", "top1", 0.6), *efficiency("simclr", {4: 0.4})]
    assert not by_labels([read_record(write_run(tmp_path / "run", rows=rows))])


def test_ends_of_intervals_are_drawn() -> None:
    x, y = np.array([10.0, 40.0]), np.array([0.3, 0.5])
    bare = figures.curves([figures.Line("a", x, y)], x_label="labels", alt="", shares=True)
    ends = np.stack([y - 0.05, y + 0.05], 1)
    barred = figures.curves([figures.Line("a", x, y, ends)], x_label="labels", alt="", shares=True)
    assert barred.count("series-1") == bare.count("series-1") + 2
