"""`nolabel methods`: what there is to pretrain with, and published numbers; reads files only, imports no torch."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from nolabel import catalog
from nolabel.cli import _numbers, _screen
from nolabel.errors import UsageError
from nolabel.published import Published, measured, placed, tables

HEADINGS = ("published as", "encoder", "data set", "protocol", "metric", "value", "source")
RUNS = (
    "method", "encoder", "data set", "px", "length", "seed", "the task, on held-out images", "linear probe, top-1",
    "kNN, top-1", "machine", "date",
)  # fmt: skip
"""headings of what was measured here"""


def methods(
    method: str | None = None,
    /,
    *,
    published: Annotated[
        str | None,
        Parameter(
            help="show whole published tables instead: a name such as 'SimCLR Table 8' or a part of it; all"
        ),
    ] = None,
) -> None:
    """List the methods, with published numbers of each and what was measured here.

    Numbers compare only where data set, encoder and protocol are the same.

    Parameters
    ----------
    method
        Show all published numbers of this method, beside the others of their tables.
    """
    known = catalog.names("methods")
    if published is not None:
        if method is not None:
            raise UsageError(
                "--published shows whole tables, not those of one method: leave out one of the two."
            )
        return _numbers.published(_tables(published))
    if method is None:
        _screen.table(
            ("method", "idea"), [(_shown(name), catalog.summary("methods", name)) for name in known]
        )
        _screen.line()
        rows = [(_shown(row.implements), *_cells(row)) for row in _published(known) if row.headline]
        _screen.line("Published")
        _screen.table(("method", *HEADINGS), rows, right=("value",))
        _measured(known)
        _screen.line(
            "nolabel methods METHOD shows all numbers of one method, nolabel pretrain METHOD --help its options; "
            "there METHOD may be a dotted path or a .py file too. --published all shows every published table."
        )
        return
    name = method.replace("-", "_")
    if name not in known:
        raise UsageError(catalog.unknown("method", method, tuple(map(_shown, known))))
    _screen.line(catalog.summary("methods", name))
    _measured((name,))
    _screen.line("Published")
    _numbers.published(placed(_published((name,))))


def _measured(names: Sequence[str]) -> None:
    """What was measured here of the methods `names`, a run a line."""
    runs = measured(lambda run: run.method in names)
    _screen.line("\nMeasured here, with the methods' own options (docs/results says how)")
    if not runs:
        return _screen.line("Not run.\n")
    rows = [
        (_shown(run.method), run.encoder, run.data, run.size, run.length, run.seed, run.task, run.linear, run.knn,
         run.machine, run.date)
        for run in runs
    ]  # fmt: skip
    _screen.table(RUNS, rows)
    _screen.line()


def _tables(wanted: str) -> tuple[Published, ...]:
    """The tables whose names hold `wanted`, in capitals or not; every one for `all`."""
    part = wanted.lower()
    rows = tables(lambda row: part == "all" or part in row.table.lower())
    if not rows:
        known = tuple(dict.fromkeys(row.table for row in tables()))
        raise UsageError(catalog.unknown("published table", wanted, known))
    return rows


def _published(names: Sequence[str]) -> list[Published]:
    """The rows of the methods `names`, method by method."""
    rows = tables(lambda row: row.implements in names)
    return sorted(rows, key=lambda row: names.index(row.implements))


def _cells(row: Published) -> tuple[str, ...]:
    return (row.method, row.encoder, row.dataset, row.protocol, row.metric, row.shown, row.table)


def _shown(name: str) -> str:
    return name.replace("_", "-")
