"""The lecture's and the papers' tables as data: one number, one row, with what it was measured on and how.

`tables.csv` holds the tables that the lecture shows, the papers' own other tables, and figures that today's
libraries publish for small data sets. A value is as its source prints it; `note` says where it comes from
second hand. Numbers of different data sets, encoders or protocols do not compare, so no reader may drop those
columns.

`measured.csv` is what was measured here, a run a row: `tools/method_pages.py` writes it from `docs/results`.
"""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("tables.csv")
MEASURED = Path(__file__).with_name("measured.csv")
PUBLISHED_ONLY = "published only"
NOT_BUILT = ("RevNet-50", "Custom-ResNet", "ResNet-161")
"""beginnings of the networks that `encoders/` does not build"""


@dataclass(frozen=True)
class Published:
    """One published number."""

    table: str
    """such as `SimCLR Table 6`"""
    source: str
    """authors, place and year, or a library's page"""
    method: str
    """as the source calls it"""
    implements: str
    """the file of `methods/` that builds this method; "" where none does"""
    encoder: str
    """"" where the source does not say"""
    dataset: str
    protocol: str
    """such as `linear classifier on frozen features`"""
    metric: str
    """such as `top-1`, in per cent unless it names a unit"""
    value: float
    sd: float | None
    """standard deviation over repeats, where it is printed"""
    note: str
    headline: bool
    """whether an overview shows it"""

    @property
    def shown(self) -> str:
        """The value and its standard deviation: 75.4 ± 0.3."""
        return f"{self.value:g}" + ("" if self.sd is None else f" ± {self.sd:g}")

    @property
    def setting(self) -> str:
        """What it was measured on and how: numbers of two settings do not compare."""
        return "; ".join(filter(None, (f"{self.dataset}, {self.metric}", self.encoder, self.protocol)))

    @property
    def here(self) -> str:
        """The method that this is here; `published only` where none is, or its network is not built here."""
        built = self.implements and not self.encoder.startswith(NOT_BUILT)
        return self.implements.replace("_", "-") if built else PUBLISHED_ONLY


def tables(keep: Callable[[Published], bool] = lambda row: True) -> tuple[Published, ...]:
    """The rows that `keep` is true of, in the order of the file; reads one file, needs no torch."""
    with FILE.open(newline="", encoding="utf-8") as file:
        rows = tuple(_row(row) for row in csv.DictReader(file))
    return tuple(row for row in rows if keep(row))


def placed(rows: Iterable[Published]) -> tuple[Published, ...]:
    """`rows` with all that their tables print of the same data sets, by which a reader places them."""
    near = {(row.table, row.dataset) for row in rows}
    return tables(lambda row: (row.table, row.dataset) in near)


def grouped(rows: Iterable[Published]) -> dict[str, dict[str, list[Published]]]:
    """Published table with its source -> setting -> rows, all in the order in which they come."""
    found: dict[str, dict[str, list[Published]]] = {}
    for row in rows:
        found.setdefault(f"{row.table} ({row.source})", {}).setdefault(row.setting, []).append(row)
    return found


@dataclass(frozen=True)
class Measured:
    """One run that was trained and measured here, with the method's own options."""

    method: str
    """its file in `methods/`"""
    encoder: str
    size: int
    """side of the training images in pixels"""
    data: str
    """the data set's file, without its ending"""
    length: str
    """as asked for, such as `10 minutes`"""
    seed: int
    task: str
    """how well the task itself was solved on held-out images, in words"""
    linear: str
    """top-1 of the linear probe in per cent, interval and stage; or `not measured`"""
    linear_gain: str
    """points over random weights with the same stem, interval and p; "" where not measured"""
    knn: str
    knn_gain: str
    """as `linear` and `linear_gain`, of kNN on the pooled vector"""
    machine: str
    date: str
    page: str
    """of `docs/results`, which tells how it was measured"""


def measured(keep: Callable[[Measured], bool] = lambda row: True) -> tuple[Measured, ...]:
    """The rows that `keep` is true of, in the order of the file; reads one file, needs no torch."""
    with MEASURED.open(newline="", encoding="utf-8") as file:
        rows = tuple(
            Measured(**row | {"size": int(row["size"]), "seed": int(row["seed"])})  # type: ignore[arg-type]
            for row in csv.DictReader(file)
        )
    return tuple(row for row in rows if keep(row))


def _row(row: dict[str, str]) -> Published:
    texts = {name: text for name, text in row.items() if name not in ("value", "sd", "headline")}
    return Published(
        **texts,
        value=float(row["value"]),
        sd=float(row["sd"]) if row["sd"] else None,
        headline=row["headline"] == "yes",
    )
