"""What more seeds bring to Exemplar, and what they cost: accuracy and size of the head against N, form by form."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nolabel import catalog
from nolabel.api import evaluate
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError
from nolabel.evaluation.run import ready, unmeasured
from nolabel.evaluation.statistics import wilson
from nolabel.methods.exemplar import Exemplar
from nolabel.report._text import count, listed
from nolabel.report.figures import svg_bytes
from nolabel.report.records import Row, read_table
from nolabel.runs import EVALUATION, read_description
from nolabel.seeds import generator
from nolabel.studies.run import Cell, train
from nolabel.training.restore import load_method

PROTOCOLS = ("linear", "knn")
COUNTS = (50, 100, 200, 500, 1000)
FORMS = ("softmax", "triplet", "instance")
MOST = {"train": 10_000, "test": 5_000}
"""images on which an encoder is measured"""


@dataclass(frozen=True)
class Point:
    """One run, measured."""

    form: str
    seeds: int
    linear: Row
    """top-1 of the linear probe on the best stage, on test images"""
    knn: Row
    solved: Row | None
    """share of right answers on held-out images; None where none could be held out"""
    parameters: int
    """of the head"""
    remembered: int
    """values in the memory bank"""


def cells(counts: Sequence[int], forms: Sequence[str]) -> Iterator[Cell]:
    """One run for each form and number of seeds. UsageError where there is no such form."""
    for form in forms:
        if form not in FORMS:
            raise UsageError(catalog.unknown("form", form, FORMS))
    for seeds in counts:
        for form in forms:
            yield Cell(f"{form}-{seeds}", form, str(seeds), "exemplar", {"form": form, "seeds": seeds})


def carry_out(
    counts: Sequence[int],
    forms: Sequence[str],
    images: ImageStore,
    out: Path,
    *,
    minutes: float,
    encoder: str,
    seed: int,
    labels: Path | None,
    say: Callable[[str], None],
) -> list[Point]:
    """Train and measure what `out` does not hold yet.

    Raises as `pretrain` and `evaluate`.
    """
    found, part = [], _part(images, seed)
    ready(PROTOCOLS, part, seed)
    for cell in cells(counts, forms):
        folder = out / cell.name
        train(cell, images, folder, minutes=minutes, encoder=encoder, seed=seed, labels=labels, say=say)
        if todo := unmeasured(folder, PROTOCOLS):
            evaluate(folder, part, protocols=todo, baselines=(), seed=seed)
        point = _read(folder, cell)
        found.append(point)
        say(
            f"{cell.name}: linear {point.linear.in_words} ({point.linear.ends}), kNN {point.knn.in_words} "
            f"({point.knn.ends}), {point.linear.n:,} images, {point.parameters:,} parameters"
        )
    return found


def _part(store: ImageStore, seed: int) -> ImageStore:
    """At most `MOST` images of each split of `store`."""
    parts = []
    for number, name in enumerate(store.split_names):
        rows = (store.splits == number).nonzero().flatten()
        order = torch.randperm(len(rows), generator=generator(seed, "study", name))
        parts.append(rows[order[: MOST.get(name, sum(MOST.values()))]])
    return store.subset(torch.cat(parts).sort().values)


def _read(folder: Path, cell: Cell) -> Point:
    rows = {row.protocol: row for row in read_table(folder / EVALUATION) if row.metric == "top1"}
    method = load_method(folder)
    assert isinstance(method, Exemplar)
    return Point(
        cell.row,
        int(cell.column),
        rows["linear"],
        rows["knn"],
        _solved(cell.row, read_description(folder)["final"]),
        sum(value.numel() for value in method.head.parameters()),
        0 if method.bank is None else method.bank.vectors.numel(),
    )


def _solved(form: str, final: Mapping[str, float]) -> Row | None:
    """The share of right answers at a run's end with Wilson's interval, an image counting by the share of its copies.

    Triplets have none, because many of them share a copy.
    """
    share, images = final.get("held_out/accuracy"), final.get("held_out/images")
    if share is None or images is None:
        return None
    ends = (None, None) if form == "triplet" else wilson(share * images, images)[1:]
    return Row("exemplar", "held_out", "top1", share, *ends, n=round(images))


def picture(points: Sequence[Point], title: str) -> bytes:
    """SVG: accuracy with 95 % intervals, and parameters of the head, against the number of seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 4.6), layout="constrained")
    accuracy, size = figure.subplots(1, 2)
    forms = list(dict.fromkeys(point.form for point in points))
    for form, colour, marker, wide in zip(
        forms, ("#0072b2", "#d55e00", "#009e73"), "os^", (6, 10, 6), strict=False
    ):
        own = [point for point in points if point.form == form]
        counts = [point.seeds for point in own]
        style = {"color": colour, "marker": marker, "markerfacecolor": "none", "markersize": wide}
        for name, rows, line in (
            ("linear probe", [p.linear for p in own], "-"),
            ("kNN", [p.knn for p in own], "--"),
        ):
            value, *ends = 100 * np.array([(row.value, row.low, row.high) for row in rows], float).T
            accuracy.errorbar(
                counts,
                value,
                np.abs(np.stack(ends) - value),
                capsize=3,
                linestyle=line,
                label=f"{form}, {name}",
                **style,
            )
        size.plot(counts, [p.parameters for p in own], **style)
    shown = sorted({point.seeds for point in points})
    images = listed(dict.fromkeys(count(point.linear.n) for point in points))
    for axes, label in ((accuracy, f"top-1 on {images} test images, %"), (size, "parameters of the head")):
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(shown, [f"{seeds:,}" for seeds in shown])
        axes.set_xlabel("seeds", fontsize=12)
        axes.set_ylabel(label, fontsize=12)
        axes.yaxis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside lower center", ncols=3, fontsize=11, frameon=False)
    figure.suptitle(f"{title}; bars: 95 % intervals", fontsize=13)
    return svg_bytes(figure)
