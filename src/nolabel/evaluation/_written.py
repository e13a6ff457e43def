"""What a run's folder keeps of its evaluation: the rows, and what a comparison needs to pair them and to go on."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.evaluation import _leaks
from nolabel.evaluation._kept import CIRCUMSTANCES
from nolabel.evaluation.base import Protocol, Result, in_place, row_of
from nolabel.runs import EVALUATION, read_rows, write_atomically, write_rows

PREDICTIONS = "predictions.npz"
"""int (n,) for each protocol with a top-1: what the run's encoder says of each test image"""
MEASURED = "measured.json"
"""protocol, with its options where they are not the defaults -> the baselines that it was measured beside"""


def write_results(folder: str | Path, results: Sequence[Result], measure: Protocol | None = None) -> None:
    """Write `results` into `evaluation.jsonl` of a run folder, whole or not at all.

    A row of the same subject, protocol, metric, data and compared baseline is replaced. What `measure`, which gave
    the results, has there on the same images from other circumstances (encoder, images, seed, size, values, options)
    goes, baselines and differences too, and so does what a comparison keeps of it. The pairs of images that leaked are
    listed in `leakage.csv`.
    """
    folder = Path(folder)
    new = [row_of(result) for result in _leaks.listed(folder, results)]
    held, sets = read_rows(folder / EVALUATION), {_data(row) for row in new}
    leaked = [row for row in held if row["protocol"] == _leaks.PROTOCOL and _data(row) in sets]
    if any(row["protocol"] == _leaks.PROTOCOL for row in new):
        held = [row for row in held if row not in leaked]
    if measure is not None:
        old = [measure.owns(row["protocol"]) and _data(row) in sets for row in held]
        before, now = (
            {row["setting"].get(CIRCUMSTANCES) for row in rows} - {None}
            for rows in ([row for row, own in zip(held, old, strict=True) if own], new)
        )
        if any(old) and before != now:
            forget(folder, measure)
            held = [row for row, own in zip(held, old, strict=True) if not own]
    new = [_leaks.with_earlier(row, leaked, held) for row in new]
    write_rows(folder / EVALUATION, in_place(held, new))


def _data(row: Mapping[str, Any]) -> str | None:
    return row.get("setting", {}).get("data")


def name_of(measure: Protocol) -> str:
    """The name of the protocol's file."""
    return type(measure).__module__.rpartition(".")[2]


def read_measured(folder: Path) -> dict[str, list[str]]:
    """What a comparison measured of the run in `folder`, as in `MEASURED`."""
    path = folder / MEASURED
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_measured(folder: Path, measure: Protocol, entry: Mapping[str, Iterable[str]]) -> None:
    """Put `entry` in the place of what is noted of `measure`."""
    others = {
        key: held for key, held in read_measured(folder).items() if key.partition(" ")[0] != name_of(measure)
    }
    write_atomically(folder / MEASURED, json.dumps(others | dict(entry), indent=2) + "\n")


def read_predictions(folder: Path) -> dict[str, np.ndarray]:
    """Protocol -> (n,), or (draws, n): the predictions that a comparison kept of the run in `folder`."""
    path = folder / PREDICTIONS
    if not path.is_file():
        return {}
    with np.load(path) as held:
        return {name: held[name] for name in held.files}


def write_predictions(folder: Path, measure: Protocol, predictions: Mapping[str, np.ndarray]) -> None:
    """Put `predictions` in the place of those of `measure`."""
    kept = {name: said for name, said in read_predictions(folder).items() if not measure.owns(name)}
    held = io.BytesIO()
    np.savez(held, **kept, **predictions)  # type: ignore[arg-type]
    write_atomically(folder / PREDICTIONS, held.getvalue())


def forget(folder: Path, measure: Protocol) -> None:
    """Drop what a comparison keeps of `measure`, so that it measures anew when it goes on."""
    if (folder / MEASURED).is_file():
        write_measured(folder, measure, {})
    if (folder / PREDICTIONS).is_file():
        write_predictions(folder, measure, {})
