"""Accuracy against the number of labels: a chart for each protocol that was measured with several numbers of them."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from nolabel.report import figures
from nolabel.report.accuracy import entries_of, title_of
from nolabel.report.records import Record, Row, amount_of_labels, measured_on
from nolabel.report.sections import part

CAPTION = (
    "Each point: the top-1 accuracy on the test images with so many labelled training images, the mean over draws of "
    "them; bars are 95 % intervals. At equal height, the distance between two lines is how many labels one saves."
)


def by_labels(records: Sequence[Record], key: str = "labels") -> Markup:
    """Top-1 against labels for encoders and baselines; nothing where no protocol has two numbers of labels."""
    found: dict[str, list[figures.Line]] = {}
    for entry in entries_of(records, measured_on(records)[0]):
        points: dict[str, list[Row]] = {}
        for row in entry.rows:
            if row.metric == "top1" and amount_of_labels(row.protocol) and row.setting.get("labels"):
                points.setdefault(row.protocol.partition("@")[0], []).append(row)
        for protocol, rows in points.items():
            found.setdefault(protocol, []).append(_line(entry.label, rows))
    charts = [
        _chart(protocol, lines) for protocol, lines in found.items() if max(len(one.x) for one in lines) > 1
    ]
    if not charts:
        return Markup()
    return part("section", key, "Accuracy by number of labels", part("charts", charts))


def _line(label: str, rows: Sequence[Row]) -> figures.Line:
    rows = sorted(rows, key=lambda row: row.setting["labels"])
    x, y, *ends = np.array([(row.setting["labels"], row.value, row.low, row.high) for row in rows], float).T
    return figures.Line(label, x, y, np.stack(ends, 1))


def _chart(protocol: str, lines: Sequence[figures.Line]) -> Markup:
    title = title_of(protocol)
    alt = f"Chart: accuracy by number of labels, {title}"
    drawn = figures.curves(lines, x_label="labelled training images", alt=alt, shares=True, factors=True)
    return part("chart", title, Markup(drawn), CAPTION)
