"""Append measured runs to `docs/results/NAME.jsonl` and draw the table of `docs/results/NAME.md` from it.

`python tools/record_runs.py docs/results/cifar10 RUN ...`: each RUN is a run folder with an `evaluation.jsonl`. A run
of the same method, seed and budget is replaced, so that a table can grow over as many sittings as it needs. Without
RUN only the table is drawn. It stands between the two marks of the page.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nolabel.runs import EVALUATION, held_out, read_description, read_rows, write_atomically, write_rows

FIRST, LAST = "<!-- runs: made by tools/record_runs.py -->", "<!-- end of runs -->"
COLUMNS = (
    "method", "seed", "steps", "images seen", "the task itself, on held-out images", "linear, best stage",
    "over random", "kNN", "over random", "machine",
)  # fmt: skip
TELLING = (
    "loss", "constant_loss", "visible_loss", "kl", "accuracy", "acc_all", "psnr", "constant_psnr", "ab_error", "active",
    "ratio",
)  # fmt: skip
"""what the table shows of the task's answers; the rows hold all of them"""


def training_of(run: Path) -> dict[str, Any]:
    """How a run was trained."""
    about = read_description(run)
    return {
        "method": about["method"],
        "seed": about["seed"],
        "asked": about["budget"]["asked"],
        "encoder": about["encoder"],
        "size": about["size"],
        "data": Path(about["data"]["source"]).name,
        "images": round(about["budget"]["epochs"] * about["data"]["trained_on"]),
        "started": about["started"],
        "processor": about["machine"]["processor"],
        "threads": about["threads"],
        "precision": about["numerics"]["precision"],
    }


def row_of(run: Path) -> dict[str, Any]:
    """What is kept of a run: how it was trained, how well it solved its task, and its top-1 rows."""
    about = read_description(run)
    final = about["final"]
    measured = [
        {key: row[key] for key in ("protocol", "metric", "value", "low", "high", "n", "chosen")}
        | {key: row["setting"][key] for key in ("against", "p", "test") if key in row["setting"]}
        for row in read_rows(run / EVALUATION)
        if row["subject"] == about["method"] and row["metric"] in ("top1", "top1_difference")
    ]
    return training_of(run) | {
        "steps": about["budget"]["steps"],
        "seconds": about["seconds"],
        "chance": about["chance"],
        "held_out": held_out(final),
        "repeat": about["repeat"],
        "measured": measured,
    }


def machine_in_words(row: dict[str, Any]) -> str:
    """The processor, the number of threads and, where it is not float32, the number format of a row's training."""
    low = {"bf16-mixed": ", bfloat16", "16-mixed": ", float16"}.get(row.get("precision", ""), "")
    return f"{row['processor']}, {row['threads']} thread{'s' * (row['threads'] > 1)}{low}"


def _name(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["method"], row["seed"], row["encoder"], row["size"], row["data"], json.dumps(row["asked"]))


def task_in_words(row: dict[str, Any]) -> str:
    """The task's own answers in words: numbers as they were logged, chance in brackets where there is one."""
    said = []
    for name, value in row["held_out"].items():
        if name in TELLING:
            chance = (row["chance"] or {}).get(name)
            said.append(f"{name} {value:.4g}" + (f" (chance {chance:.3g})" if chance is not None else ""))
    return ", ".join(said)


def accuracy_in_words(row: dict[str, Any], protocol: str) -> str:
    """Top-1 in per cent with its interval and stage, or `not measured`."""
    for r in row["measured"]:
        if (r["protocol"], r["metric"]) == (protocol, "top1"):
            stage = f", {r['chosen']['stage']}" if "stage" in r["chosen"] else ""
            return f"{100 * r['value']:.1f} ({100 * r['low']:.1f}–{100 * r['high']:.1f}){stage}"
    return "not measured"


def over_random_in_words(row: dict[str, Any], protocol: str) -> str:
    """Points over random weights with their interval and p; "" where they were not measured beside."""
    for r in row["measured"]:
        if (r["protocol"], r["metric"]) == (protocol, "top1_difference") and "random" in r["against"]:
            p = "p < 0.001" if r["p"] < 0.001 else f"p = {r['p']:.3f}"
            return f"{100 * r['value']:+.1f} ({100 * r['low']:.1f} to {100 * r['high']:.1f}), {p}"
    return ""


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| {row['method'].replace('_', ' ')} | {row['seed']} | {row['steps']:,} | {row['images']:,} | "
        + f"{task_in_words(row)} | "
        + " | ".join(
            f"{accuracy_in_words(row, p)} | {over_random_in_words(row, p)}" for p in ("linear", "knn")
        )
        + f" | {machine_in_words(row)} |"
        for row in rows
    ]
    head = [f"| {' | '.join(cells)} |" for cells in (COLUMNS, ("---",) * len(COLUMNS))]
    return "\n".join(["", *head, *lines, ""])


def merged(
    kept: Path, runs: list[dict[str, Any]], name: Callable[[dict[str, Any]], Any]
) -> list[dict[str, Any]]:
    """The rows of the file `kept` with those of `runs` in the place of the same `name`, in its order; written back."""
    names = {name(row) for row in runs}
    rows = sorted([row for row in read_rows(kept) if name(row) not in names] + runs, key=name)
    write_rows(kept, rows)
    return rows


def between(text: str, first: str, last: str, body: str) -> str:
    """`text` with `body` between the two marks."""
    before, _, rest = text.partition(first)
    return f"{before}{first}\n{body}{last}{rest.partition(last)[2]}"


def main(page: Path, runs: list[Path]) -> None:
    rows = merged(page.with_suffix(".jsonl"), [row_of(run) for run in runs], _name)
    written = page.with_suffix(".md")
    write_atomically(written, between(written.read_text(encoding="utf-8"), FIRST, LAST, table(rows)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(run) for run in sys.argv[2:]])
