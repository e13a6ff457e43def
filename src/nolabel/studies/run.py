"""The studies of SimCLR's paper: runs of a grid, each of them resumable, and the table they give."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from nolabel.api import evaluate, pretrain
from nolabel.data.store import ImageStore
from nolabel.evaluation.run import ready, unmeasured
from nolabel.report.records import Row, read_table
from nolabel.runs import EVALUATION, status_of, write_rows
from nolabel.studies.composition import OPERATIONS
from nolabel.training.ensure import ensure

HEADS = ("none", "linear", "mlp2")
"""section 4.2, figure 8: no head, a linear one, the paper's"""
PROTOCOLS = ("linear",)
TABLE = "study.jsonl"
"""in the study's folder: a line a run, its row and column and the row of its `evaluation.jsonl`"""


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    name: str
    """its folder"""
    row: str
    column: str
    method: str
    options: dict[str, Any]


def augmentations() -> Iterator[Cell]:
    """Figure 5: seven operations alone (the diagonal) and in ordered pairs, 49 runs; the single ones come first."""
    pairs = sorted(product(OPERATIONS, OPERATIONS), key=lambda pair: pair[0] != pair[1])
    for first, second in pairs:
        options = {"first": first, "second": second}
        yield Cell(f"{first}-{second}", first, second, "nolabel.studies.composition", options)


def heads() -> Iterator[Cell]:
    """Figure 8: the projection head; each encoder h is measured, and what the head makes of it, g(h)."""
    for head in HEADS:
        yield Cell(f"head-{head}", head, "h", "simclr", {"head": head})


def carry_out(
    cells: Iterator[Cell],
    images: ImageStore,
    out: Path,
    *,
    minutes: float,
    encoder: str,
    seed: int,
    labels: Path | None,
    say: Callable[[str], None],
) -> dict[tuple[str, str], Row]:
    """Train and measure what `out` does not hold yet: (row, column) -> top-1 of the linear probe on test images.

    The rows are in `TABLE` too, as soon as each run is measured.

    Raises as `pretrain` and `evaluate`.
    """
    found, table = {}, []
    ready(PROTOCOLS, images, seed)
    for cell in cells:
        folder = out / cell.name
        train(cell, images, folder, minutes=minutes, encoder=encoder, seed=seed, labels=labels, say=say)
        if todo := unmeasured(folder, PROTOCOLS):
            evaluate(folder, images, protocols=todo, baselines=(), seed=seed)
        row = next(row for row in read_table(folder / EVALUATION) if row.metric == "top1")
        found[cell.row, cell.column] = row
        table.append({"row": cell.row, "column": cell.column, **asdict(row)})
        write_rows(out / TABLE, table)
        say(f"{cell.name}: {row.in_words} ({row.ends}, {row.n:,} images)")
    return found


def train(
    cell: Cell,
    images: ImageStore,
    folder: Path,
    *,
    minutes: float,
    encoder: str,
    seed: int,
    labels: Path | None,
    say: Callable[[str], None],
) -> None:
    """Begin or end the run of `cell` in `folder`; nothing where it is finished. Raises as `ensure`."""
    if status_of(folder) != "finished":
        say(f"{cell.name}: training for {minutes:g} min ...")
    ensure(pretrain, folder, cell.method, images, encoder=encoder, seed=seed, length={"minutes": minutes},
           options=cell.options, labels=labels, progress=False)  # fmt: skip
