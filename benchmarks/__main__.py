"""`python -m benchmarks [WHAT ...] --data cifar10.zip` (`--help` lists WHAT): one table, and `benchmarks.json`."""

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.pairs import Row, machine


def show(rows: list[Row], console: Console) -> None:
    table = Table("what", "ours", "rate", "theirs", "rate", "ratio (median of pairs)", "lowest–highest")
    for r in rows:
        table.add_row(
            r.name, r.ours, f"{r.ours_rate:,.0f} {r.unit}", r.theirs, f"{r.theirs_rate:,.0f}",
            f"{r.ratio:.2f}×", f"{r.low:.2f}–{r.high:.2f}",
        )  # fmt: skip
    console.print(table)


def measured(what: list[str], data: str, pairs: int, precision: str) -> Iterator[Row]:
    """The rows asked for, each when it is done."""
    if "views" in what:
        from benchmarks import views

        yield from views.rows(pairs)
    if "training" in what:
        from benchmarks import training

        yield from training.rows(data, pairs)
    if "knn" in what:
        from benchmarks import knn

        yield from knn.rows(pairs)
    if "probe" in what:
        from benchmarks import probe

        yield from probe.rows(data, pairs)
    if "view_cost" in what:
        from benchmarks import view_cost

        yield from view_cost.rows(pairs, precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what", nargs="*", default=["views", "training"], help="views, training, knn, probe, view_cost"
    )
    parser.add_argument("--data", default="../shared/data/cifar10.zip")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--precision", default="auto", help="of view_cost: as for nolabel pretrain")
    parser.add_argument("--out", type=Path, default=Path("benchmarks.json"))
    arguments = parser.parse_args()
    warnings.filterwarnings(
        "ignore", module="torch.utils.data"
    )  # more workers than cores are tried on purpose
    rows: list[Row] = []
    for row in measured(arguments.what, arguments.data, arguments.pairs, arguments.precision):
        rows.append(row)
        print(f"{row.name}: {row.ours} {row.ratio:.2f}x {row.theirs} {row.extra}", flush=True)
    show(rows, Console(width=180))
    arguments.out.write_text(
        json.dumps({"machine": machine(), "rows": [r.as_dict() for r in rows]}, indent=2),
        encoding="utf-8",
    )
    print(json.dumps(machine()))


if __name__ == "__main__":
    main()
