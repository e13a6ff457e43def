"""The transfer table on disk: `transfer.jsonl`, and beside it which test images each subject gets right."""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nolabel import runs
from nolabel.evaluation import _leaks
from nolabel.evaluation._repeats import DIFFERENCE
from nolabel.evaluation.base import Result, in_place, row_of
from nolabel.evaluation.statistics import holm

CORRECT = "transfer.npz"
"""float64 (seeds, n) for each measurement, under the name that its row's setting has as `PLACE`"""
PLACE = "correct"


def place_of(protocol: str, subject: str, setting: dict[str, Any]) -> str:
    """The name of a measurement's correctness: it changes with all that the measurement depends on."""
    text = json.dumps([protocol, subject, setting], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def correct(path: Path) -> dict[str, np.ndarray]:
    """Name -> (seeds, n), 1 for an image that is right, of the table at `path`; nothing where there is none."""
    file = path.with_name(CORRECT)
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


def stands_for(row: dict[str, Any], data: str, key: dict[str, Any]) -> bool:
    """Whether `row` was measured on `data` under the settings of `key`."""
    setting = row["setting"]
    return setting.get("data") == data and key == {name: setting.get(name) for name in key}


def add(path: Path, results: Sequence[Result], right: np.ndarray) -> None:
    """Write the results of one measurement, the first with the correctness `right` (seeds, n).

    Older rows of the same data, protocol, subject and metric go. Broken off between the two files, the
    measurement counts as not done.
    """
    new, before = [row_of(result) for result in _leaks.listed(path.parent, results)], runs.read_rows(path)
    leaked = [row for row in before if row["protocol"] == _leaks.PROTOCOL]
    same = [row for row in before if row["setting"].get("encoder") == new[0]["setting"].get("encoder")]
    rows = in_place(before, [_leaks.with_earlier(row, leaked, same) for row in new])
    named = {row["setting"].get(PLACE) for row in rows}
    arrays = correct(path) | {new[0]["setting"][PLACE]: right}
    held = io.BytesIO()
    np.savez_compressed(held, **{name: one for name, one in arrays.items() if name in named})  # type: ignore[arg-type]
    runs.write_atomically(path.with_name(CORRECT), held.getvalue())
    runs.write_rows(path, rows)


def replace_differences(path: Path, data: str, protocol: str, results: Sequence[Result]) -> None:
    """Write the paired differences on one set under one protocol in the place of older ones.

    p is adjusted anew over all sets on which the same two were compared under that protocol (Holm).
    """
    rows = [
        row
        for row in runs.read_rows(path)
        if not (
            row["metric"].endswith(DIFFERENCE)
            and (row["protocol"], row["setting"]["data"]) == (protocol, data)
        )
    ]
    rows += [row_of(result) for result in results]
    families: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["metric"].endswith(DIFFERENCE):
            pair = (row["protocol"], row["subject"], row["setting"]["against"])
            families.setdefault(pair, []).append(row)
    for family in families.values():
        for row, adjusted in zip(family, holm([row["setting"]["p"] for row in family]), strict=True):
            row["setting"]["holm"] = adjusted
    runs.write_rows(path, rows)
