"""Append the downstream results of runs to `docs/results/NAME.jsonl` and draw the tables of `docs/results/NAME.md`.

`python tools/record_tables.py docs/results/downstream RUN ...`: each RUN is a run folder such as `python -m
benchmarks.tables` leaves, with an `evaluation.jsonl`, and beside it a folder `transfer-SEED` where it was transferred.
A run of the same method, data and seed is replaced. Without RUN only the tables are drawn, each between its two
marks of the page.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from record_runs import between, merged, training_of

from nolabel.report.labels_saved import LEAST, MOST
from nolabel.report.records import (
    DIFFERENCE,
    EFFICIENCY,
    LABELS_SAVED,
    SUPERVISED,
    UNTRAINED,
    Row,
    amount_of_labels,
    method_in_words,
    read_table,
)
from nolabel.report.transfer import lines
from nolabel.runs import EVALUATION, write_atomically

HEADS = {
    "linear": "linear probe, best stage",
    "knn": "kNN on the pooled vector",
    "mlp": "MLP head, best stage, frozen",
    "mlp_finetuned": "the same net and MLP head, trained on",
    "conv": "convolutional head, best stage, frozen",
    "conv_finetuned": "the same net and convolutional head, trained on",
    "finetune": "the whole net, trained on",
    "supervised": "the whole net, from random weights",
}

TRANSFERRED = ("transfer", "finetune")
"""protocols of a transfer, each a table of the page"""


def row_of(run: Path) -> dict[str, Any]:
    """What is kept of a run: how it was trained, its top-1 rows and its transfer."""
    trained = training_of(run)
    rows = [
        row
        for row in read_table(run / EVALUATION)
        if row.metric in ("top1", "top1" + DIFFERENCE, LABELS_SAVED)
    ]
    folder = run.parent / f"transfer-{trained['seed']}"
    return trained | {
        "data": Path(trained["data"]).stem,
        "measured": [_kept(row) for row in rows],
        **{protocol: _transferred(folder, protocol, trained["method"]) for protocol in TRANSFERRED},
    }


def _transferred(folder: Path, protocol: str, method: str) -> dict[str, dict[str, Any]]:
    """Data set -> what the encoder of `method` reached there, and by how much that is better than its baseline."""
    return {
        line.name: {
            "metric": line.metric, "encoder": line.encoder.value, "random": line.other.value,
            "encoder_low": line.encoder.low, "encoder_high": line.encoder.high,
            "difference": line.difference.value, "low": line.difference.low, "high": line.difference.high,
            "p": line.difference.setting["p"], "n": line.encoder.n, "says": line.says,
        }
        for line in lines(folder).get(protocol, ())
        if line.beside_baseline and line.encoder.subject == method
    }  # fmt: skip


def _kept(row: Row) -> dict[str, Any]:
    kept = {
        name: getattr(row, name) for name in ("subject", "protocol", "metric", "value", "low", "high", "n")
    }
    told = ("against", "p", "steps", "unfrozen_steps", "labels", "range")
    more = {name: row.setting[name] for name in told if name in row.setting}
    return kept | more | {name: row.chosen[name] for name in ("stage",) if name in row.chosen}


def _name(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row["data"], row["method"], row["seed"])


def _called(row: dict[str, Any]) -> str:
    return f"{method_in_words(row['method'])}, seed {row['seed']}"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    # of several draws of labels each has its own stage
    stage = f", {row['stage']}" if isinstance(row.get("stage"), str) else ""
    taken = row.get("unfrozen_steps") if row["protocol"].endswith("_finetuned") else row.get("steps")
    steps = f", {taken:,} steps" if taken else ""
    return f"{_percent(row['value'], row['low'], row['high'])}{stage}{steps}"


def _percent(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def _top1(row: dict[str, Any], protocol: str, beside: str = "") -> dict[str, Any] | None:
    """The top-1 of the run's own encoder, or of the subject beside it whose name begins with `beside`."""
    for one in row["measured"]:
        wanted = one["subject"].startswith(beside) if beside else one["subject"] == row["method"]
        if (one["protocol"], one["metric"]) == (protocol, "top1") and wanted:
            return one
    return None


def _first(rows: list[dict[str, Any]], protocol: str, beside: str = UNTRAINED) -> str:
    """What stands beside the runs, from the first of them that it was measured with."""
    return next(filter(None, (_cell(_top1(row, protocol, beside)) for row in rows)), "")


def _drawn(head: list[str], body: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *body))


def _measured(rows: list[dict[str, Any]], protocols: Iterable[str]) -> list[dict[str, Any]]:
    """The runs whose encoder was measured under one of the protocols."""
    every = list(protocols)
    return [row for row in rows if any(_top1(row, name) for name in every)]


def heads(rows: list[dict[str, Any]]) -> str:
    """RotNet's table: what is trained with labels, by the encoder; the runs share their images."""
    rows = _measured(rows, HEADS)
    body = [
        [
            HEADS[protocol],
            *(_cell(_top1(row, protocol)) for row in rows),
            _first(rows, protocol, SUPERVISED if protocol == "supervised" else UNTRAINED),
        ]
        for protocol in HEADS
    ]
    return _drawn(
        ["trained with all labels", *map(_called, rows), "random weights"],
        [line for line in body if any(line[1:])],
    )


def few(rows: list[dict[str, Any]]) -> str:
    """The number of labels by the encoder; the same number under two names stands once."""
    names = {
        (one["protocol"].partition("@")[0], one["labels"]): one["protocol"]
        for row in rows
        for one in reversed(row["measured"])
        if one["protocol"].partition("@")[0] in HEADS
        and amount_of_labels(one["protocol"])
        and "labels" in one
    }
    rows = _measured(rows, names.values())
    body = [
        [
            f"{HEADS[head]}, {labels:,} labels ({_amount(name)})",
            *(_cell(_top1(row, name)) for row in rows),
            _first(rows, name),
        ]
        for (head, labels), name in sorted(
            names.items(), key=lambda item: ([*HEADS].index(item[0][0]), item[0][1])
        )
    ]
    return _drawn(["trained with few labels", *map(_called, rows), "random weights"], body) if body else ""


def efficiency(rows: list[dict[str, Any]]) -> str:
    """The number of labels by the encoder, and how many labels another would need to be as good, less those."""
    points = {
        one["labels"]: one["protocol"]
        for row in rows
        for one in row["measured"]
        if one["protocol"].startswith(f"{EFFICIENCY}@")
    }
    rows = _measured(rows, points.values())
    body = [
        [
            f"{labels:,} ({_amount(name)})",
            *(_cell(_top1(row, name)) for row in rows),
            _first(rows, name),
            _first(rows, name, SUPERVISED),
            *(_saved(row, name, against) for row in rows for against in (UNTRAINED, SUPERVISED)),
        ]
        for labels, name in sorted(points.items())
    ]
    saved = [
        f"{_called(row)} saves over {other}"
        for row in rows
        for other in ("random weights", "training from scratch")
    ]
    head = [
        "labels",
        *(f"{_called(row)}, probe" for row in rows),
        "random weights, probe",
        "from scratch",
        *saved,
    ]
    return _drawn(head, body) if body else ""


def _saved(row: dict[str, Any], protocol: str, against: str) -> str:
    """Labels saved with their interval; "at least" where the other's curve ends below the encoder's accuracy."""
    for one in row["measured"]:
        if (one["protocol"], one["metric"]) == (protocol, LABELS_SAVED) and one["against"].startswith(
            against
        ):
            bound = {LEAST: "≥ ", MOST: "≤ "}.get(one["range"].partition(":")[0], "")
            low, high = ("…" if end is None else f"{end:,.0f}" for end in (one["low"], one["high"]))
            return f"{bound}{one['value']:,.0f} ({low} to {high})"
    return ""


def _amount(protocol: str) -> str:
    amount = amount_of_labels(protocol)
    return amount.replace("%", " %") if amount.endswith("%") else f"{amount} a class"


def transfer(rows: list[dict[str, Any]], protocol: str = "transfer") -> str:
    """Encoders by the data set they are transferred to."""
    rows = [row for row in rows if row.get(protocol)]
    names = list(dict.fromkeys(name for row in rows for name in row[protocol]))
    told = {name: f"{one['metric']}, n = {one['n']:,}" for row in rows for name, one in row[protocol].items()}
    body = []
    for row in rows:
        cells = [row[protocol].get(name) for name in names]
        body.append(
            [f"{_called(row)}, {row['data']}", *("" if one is None else _moved(one) for one in cells)]
        )
    return (
        _drawn(["encoder, pretrained on", *(f"{name} ({told[name]})" for name in names)], body)
        if body
        else ""
    )


def _moved(one: dict[str, Any]) -> str:
    reached = _percent(one["encoder"], one["encoder_low"], one["encoder_high"])
    gained = f"{100 * one['difference']:+.1f} ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
    return f"{reached}; {gained}, {one['says']}"


def draw(page: Path, rows: list[dict[str, Any]]) -> None:
    """Put each table between `<!-- NAME -->` and `<!-- end -->`."""
    text = page.read_text(encoding="utf-8")
    sets = list(dict.fromkeys(row["data"] for row in rows))
    tables = {
        f"{kind.__name__} {data}": kind([row for row in rows if row["data"] == data])
        for data in sets
        for kind in (heads, few, efficiency)
    }
    moved = {protocol: transfer(rows, protocol) for protocol in TRANSFERRED}
    for name, table in (tables | moved).items():
        mark = f"<!-- {name} -->"
        if mark in text:
            text = between(text, mark, "<!-- end -->", f"\n{table}\n\n")
    write_atomically(page, text)


def main(page: Path, runs: list[Path]) -> None:
    draw(page.with_suffix(".md"), merged(page.with_suffix(".jsonl"), [row_of(run) for run in runs], _name))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(run) for run in sys.argv[2:]])
