"""What a run folder holds, read for the report."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import Any

from nolabel.catalog import short_name
from nolabel.report._text import SPACE, count, hundredths, interval, listed, number, percent, points
from nolabel.report.labels_saved import ends_in_words, saved_in_words
from nolabel.runs import EVALUATION, METRICS, read_description, read_rows

SKIPPED = "skipped.csv"
UNTRAINED = "random:"
PRETRAINED = "pretrained:"
SUPERVISED = "supervised:"
BASELINES = {
    "pixels": "raw pixels",
    "whitened": "PCA-whitened pixels",
    "histogram": "a colour histogram",
    "patches": "patch k-means",
}
"""baselines without a network, and how the report calls them"""
LABEL_FREE = "diagnostics"
EFFICIENCY = "label_efficiency"
LIKENESS = "likeness"
"""protocol of rows that compare the features of two runs"""
PROTOCOLS = {
    "linear": "linear probe",
    "knn": "kNN",
    "finetune": "fine-tuning",
    "conv": "convolutional head",
    "mlp": "MLP head",
    "svm": "linear SVM",
    "retrieval": "retrieval",
    "clustering": "clustering",
    "discovery": "object discovery",
    "supervised": "training from scratch",
    EFFICIENCY: "label efficiency",
    LIKENESS: "likeness of features",
}
METRICS_IN_WORDS = {"top1": "top-1", "top5": "top-5", "balanced": "balanced"}
MEASURES = {
    "map": "mAP",
    "r_precision": "R-precision",
    "nmi": "NMI",
    "ari": "ARI",
    "matched": "Hungarian accuracy",
    "purity": "purity",
    "area": "area under purity and coverage",
    "area_half": "area up to half coverage",
    "verified": "verified matches",
    "labels_saved": "labels saved",
    "rankme": "RankMe",
    "alpha_req": "α-ReQ",
    "lidar": "LiDAR",
    "cka": "CKA",
}
"""metrics that are no accuracy, and how they are called"""
SHARES = ("map", "map11", "r_precision", "matched", "purity", "verified")
"""measures that are shares of images, as recall@k is"""
LABELS_SAVED = "labels_saved"
GRID_END = " (end of the grid)"
"""behind an L2 that is the first or the last that was tried"""
DIFFERENCE = "_difference"
LEAKAGE = "leakage"
"""protocol of rows whose `setting["sentence"]` says how many test images are in another set"""


@dataclass(frozen=True)
class Row:
    """One row of `evaluation.jsonl`: one number (see `nolabel.evaluation.base.Result`, which needs torch).

    A row whose metric ends in `_difference` (`top1_difference`) is a paired comparison on the same images:
    `value` is the subject minus `setting["against"]`, `setting["p"]` the p-value of `setting["test"]`.
    """

    subject: str
    protocol: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    seeds: tuple[int, ...] = ()
    chosen: dict[str, Any] = field(default_factory=dict)
    setting: dict[str, Any] = field(default_factory=dict)

    @property
    def is_baseline(self) -> bool:
        return self.subject.startswith((UNTRAINED, PRETRAINED, SUPERVISED)) or self.subject in BASELINES

    @property
    def data(self) -> str:
        """The images it was measured on."""
        return str(self.setting.get("data", ""))

    @property
    def against(self) -> str:
        """What a paired comparison compares with."""
        return str(self.setting.get("against", ""))

    @property
    def is_share(self) -> bool:
        """Whether the value is an accuracy in [0, 1]."""
        return self.metric in METRICS_IN_WORDS

    @property
    def is_measure(self) -> bool:
        """Whether it is one of labelled images but no accuracy: of retrieval, clustering, discovery."""
        return not (
            self.is_share or self.protocol in (LABEL_FREE, LEAKAGE) or self.metric.endswith(DIFFERENCE)
        )

    @property
    def in_words(self) -> str:
        """The value as a person reads it: 41.2 % for shares of images, about 12 for labels saved, else 0.413."""
        if self.metric == LABELS_SAVED:
            return saved_in_words(self.value, self.setting)
        return percent(self.value) if self._in_percent else number(self.value)

    @property
    def ends(self) -> str:
        """The interval's ends in the unit of `in_words`; empty where there is none."""
        if self.metric == LABELS_SAVED:
            return ends_in_words(self.low, self.high)
        if self.low is None or self.high is None:
            return ""
        return (
            interval(self.low, self.high)
            if self._in_percent
            else f"{number(self.low)} to {number(self.high)}"
        )

    @property
    def spread(self) -> str:
        """Standard deviation and each value over seeds, draws or folds; empty where it was measured once."""
        values = self.setting.get("of_seeds") or ()
        if len(values) < 2:
            return ""
        deviation = stdev(values)
        size = points(deviation) if self._in_percent else number(deviation)
        each = (hundredths(value) if self._in_percent else number(value) for value in values)
        return f"standard deviation {size} of {', '.join(each)}"

    @property
    def detail(self) -> str:
        """The interval's ends, and the spread where there is one: the small type of a table."""
        return "; ".join(filter(None, (self.ends, self.spread)))

    @property
    def at_grid_end(self) -> bool:
        """Whether the chosen L2 is the first or the last that was tried."""
        curve = self.chosen.get("l2_curve") or {}
        best = max(curve, key=curve.__getitem__, default=None)
        return best in (*list(curve)[:1], *list(curve)[-1:])

    @property
    def _in_percent(self) -> bool:
        return (
            self.is_share or self.metric in SHARES or self.metric.startswith("recall@") or self._is_difference
        )

    @property
    def _is_difference(self) -> bool:
        return self.metric.endswith(DIFFERENCE)


@dataclass(frozen=True)
class Record:
    """One run as its files tell it."""

    folder: Path
    info: dict[str, Any]
    """`run.json`"""
    metrics: list[dict[str, Any]]
    """rows of `metrics.jsonl`"""
    rows: tuple[Row, ...]
    """rows of `evaluation.jsonl`; of two that measure the same the later one"""
    skipped: tuple[tuple[str, str], ...]
    """path and reason of each file that could not be read"""

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def method(self) -> str:
        return str(self.info.get("method") or "encoder")

    @property
    def method_in_words(self) -> str:
        """`context_prediction` -> context prediction; `simclr` -> SimCLR."""
        return method_in_words(self.method)

    @property
    def subject(self) -> str:
        """How the rows call this run's encoder."""
        own = [row.subject for row in self.rows if not row.is_baseline]
        return self.method if self.method in own or not own else own[0]

    @property
    def data(self) -> dict[str, Any]:
        return self.info.get("data") or {}


def read_record(folder: str | Path) -> Record:
    """The run in `folder`; files that it does not have yet are empty.

    Raises:
        UsageError: there is no run in `folder`.
        FileFormatError: a file is damaged or of an unknown format version.
    """
    folder = Path(folder)
    rows = read_table(folder / EVALUATION)
    latest = {(row.subject, row.protocol, row.metric, row.data, row.against): row for row in rows}
    return Record(
        folder,
        read_description(folder),
        read_rows(folder / METRICS),
        tuple(latest.values()),
        _skipped(folder / SKIPPED),
    )


def read_table(path: Path) -> tuple[Row, ...]:
    """The rows of a `.jsonl` file of results; none where there is no file."""
    return tuple(map(_row, read_rows(path)))


def _row(held: dict[str, Any]) -> Row:
    known = {name: held[name] for name in Row.__dataclass_fields__ if name in held}
    return Row(**{**known, "seeds": tuple(held.get("seeds", ()))})


def _skipped(path: Path) -> tuple[tuple[str, str], ...]:
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) >= 2]
    return tuple((row[0], row[1]) for row in rows if row[:2] != ["path", "reason"])


def leaks(rows: Sequence[Row]) -> list[str]:
    """What is said of test images that are also in another set: what all runs say once, else under their names."""
    leaked = [row for row in rows if row.protocol == LEAKAGE]
    found = dict.fromkeys(row.metric for row in leaked)
    clean = [name for name in found if not any(row.value for row in leaked if row.metric == name)]
    if len(clean) > 1:
        sets = " or the ".join(name.removeprefix("in_") for name in clean)
        told = leaks([row for row in leaked if row.metric not in clean])
        return [*told, f"No test image is identical, or nearly so, to one of the {sets} images."]
    said: dict[str, dict[str, list[str]]] = {}
    for row in leaked:
        said.setdefault(row.metric, {}).setdefault(leak_in_words(row), []).append(row.subject)
    return [
        sentence if len(of_metric) == 1 else f"{listed(map(method_in_words, subjects))}: {sentence}"
        for of_metric in said.values()
        for sentence, subjects in of_metric.items()
    ]


def leak_in_words(row: Row) -> str:
    """What is said of test images that are also in another set, and where they are listed."""
    listed_in = row.setting.get("listed")
    return str(row.setting["sentence"]) + (
        f" They are listed in {listed_in} beside the results." if listed_in else ""
    )


def fit_in_words(row: Row) -> str:
    """What was fitted: `linear probe of simclr`."""
    return f"{protocol_in_words(row.protocol)} of {subject_in_words(row.subject)}"


def unconverged(rows: Sequence[Row], named: Callable[[Row], str] = fit_in_words) -> list[str]:
    """A sentence on the fits that did not end at their minimum, each as `named`; nothing where all did."""
    names = dict.fromkeys(named(row) for row in rows if row.setting.get("converged") is False)
    if not names:
        return []
    return [f"Broken off before the fit reached its minimum, so read with care: {listed(names)}."]


def images_in_words(rows: Sequence[Row]) -> str:
    """How many test images measures have: `500`, or where they differ `RankMe 2,000, LiDAR 500`."""
    counts = {measure_in_words(row.metric, row.against): count(row.n) for row in rows}
    if len(set(counts.values())) == 1:
        return next(iter(counts.values()))
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def find(rows: Sequence[Row], subject: str, protocol: str, metric: str) -> Row | None:
    """The row with that subject, protocol and metric."""
    wanted = (subject, protocol, metric)
    return next((row for row in rows if (row.subject, row.protocol, row.metric) == wanted), None)


def untrained_row(rows: Sequence[Row], main: Row) -> Row | None:
    """Random weights of a network, measured as `main` was."""
    same = [row for row in rows if (row.protocol, row.metric) == (main.protocol, main.metric)]
    return next((row for row in same if row.subject.startswith(UNTRAINED)), None)


def measured_on(records: Sequence[Record]) -> list[str]:
    """The sets of images that runs were evaluated on; one nameless set where none was."""
    return list(dict.fromkeys(row.data for record in records for row in record.rows)) or [""]


def pooled(records: Sequence[Record], data: str) -> list[tuple[Row, ...]]:
    """For each run its rows on the images `data`, and the baselines there that only another run holds.

    Of two protocols that differ by the name of their number of labels alone, one (`without_twins`).
    """
    of_runs = [without_twins([row for row in record.rows if row.data == data]) for record in records]
    baselines = {
        (row.subject, row.protocol, row.metric): row for rows in of_runs for row in rows if row.is_baseline
    }
    shared = []
    for rows in of_runs:
        own = {(row.subject, row.protocol, row.metric) for row in rows}
        shared.append(rows + tuple(row for name, row in baselines.items() if rows and name not in own))
    return shared


def method_in_words(method: str) -> str:
    """`context_prediction` -> context prediction; `simclr` -> SimCLR; a path is its file's name."""
    return {"simclr": "SimCLR"}.get(method, short_name(method).replace("_", " "))


def subject_in_words(subject: str) -> str:
    """`random:resnet10+whitened` -> random weights (resnet10, whitened stem); encoders keep their name."""
    if subject.startswith(UNTRAINED):
        net, _, tile = subject.removeprefix(UNTRAINED).partition("@")
        net = net.replace("+whitened", ", whitened stem")
        return f"random weights ({net}{f', for tiles of {tile} px' if tile else ''})"
    if subject.startswith(PRETRAINED):
        return f"pretrained weights ({subject.removeprefix(PRETRAINED)})"
    if subject.startswith(SUPERVISED):
        return f"trained from scratch ({subject.removeprefix(SUPERVISED)})"
    return BASELINES.get(subject, subject)


def protocol_in_words(protocol: str) -> str:
    """`linear@1%` -> linear probe with 1 % of the labels; `linear@stage2` -> linear probe on stage2; `knn` -> kNN."""
    name, _, stage = protocol.partition("@")
    name, amount = PROTOCOLS.get(name, name), amount_of_labels(protocol)
    return f"{name} with {labels_in_words(amount)}" if amount else f"{name} on {stage}" if stage else name


def amount_of_labels(protocol: str) -> str:
    """`linear@1%` -> 1%, `finetune@10` -> 10; "" where what follows the @, if anything, is a stage."""
    amount = protocol.partition("@")[2]
    return amount if amount[:1].isdigit() else ""


def without_twins(rows: Sequence[Row]) -> tuple[Row, ...]:
    """`rows` without those of a share of the labels where as many a class were measured: `linear@1%` for `linear@10`.

    Sets of labels are balanced and nested, so that as many labels are the same images.
    """
    named: dict[tuple[str, int], str] = {}
    for row in rows:
        amount, labels = amount_of_labels(row.protocol), row.setting.get("labels")
        if amount and labels and not amount.endswith("%"):
            named[row.protocol.partition("@")[0], int(labels)] = row.protocol
    twins = {
        row.protocol
        for row in rows
        if row.protocol.endswith("%") and (row.protocol.partition("@")[0], row.setting.get("labels")) in named
    }
    return tuple(row for row in rows if row.protocol not in twins)


def labels_in_words(amount: str) -> str:
    """How many labels a protocol used: `1%` -> 1 % of the labels; `10` -> 10 labels per class."""
    if amount.endswith("%"):
        return f"{amount[:-1]}{SPACE}% of the labels"
    return f"{amount} label{'s' * (amount != '1')} per class"


def measure_in_words(metric: str, against: str = "") -> str:
    """`nmi` -> NMI; `feature_std` -> feature std; with what it compares with, where it does."""
    name = MEASURES.get(metric, metric.replace("_", " "))
    joined = "with" if metric == "cka" else "against"
    return f"{name} {joined} {subject_in_words(against)}" if against else name
