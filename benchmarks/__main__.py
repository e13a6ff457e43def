"""`python -m benchmarks [views] [training] --data cifar10.zip`: one table, and `benchmarks.json`."""

import argparse
import json
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["views", "training"], help="views, training")
    parser.add_argument("--data", default="../shared/data/cifar10.zip")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("benchmarks.json"))
    arguments = parser.parse_args()
    rows: list[Row] = []
    if "views" in arguments.what:
        from benchmarks import views

        rows += views.rows(arguments.pairs)
    if "training" in arguments.what:
        from benchmarks import training

        rows += training.rows(arguments.data, arguments.pairs)
    show(rows, Console(width=180))
    arguments.out.write_text(
        json.dumps({"machine": machine(), "rows": [r.as_dict() for r in rows]}, indent=2)
    )
    print(json.dumps(machine()))


if __name__ == "__main__":
    main()
