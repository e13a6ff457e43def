"""Several encoders measured on the same test images, and the paired differences between them."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nolabel.data.store import ImageStore
from nolabel.evaluation._features import silent
from nolabel.evaluation._repeats import differences
from nolabel.evaluation._split import divide
from nolabel.evaluation.base import Progress, Result, result_of
from nolabel.evaluation.run import evaluate_encoder, subject_of, write_results
from nolabel.runs import EVALUATION, read_rows, write_atomically

PREDICTIONS = "predictions.npz"
"""int (n,) for each protocol with a top-1: what the run's encoder says of each test image"""


def measure(
    folder: Path,
    store: ImageStore,
    *,
    protocols: Sequence[str],
    baselines: Sequence[str],
    seed: int,
    progress: Progress = silent,
) -> None:
    """Evaluate the run in `folder` unless that was done, and keep its predictions for paired tests.

    Errors as `evaluate_encoder`.
    """
    if (folder / PREDICTIONS).is_file() and read_rows(folder / EVALUATION):
        return
    results = evaluate_encoder(
        folder, store, protocols=protocols, baselines=baselines, seed=seed, progress=progress
    )
    write_results(folder, results)
    own = {r.protocol: r.predictions for r in _top1(results, subject_of(folder)) if r.predictions is not None}
    held = io.BytesIO()
    np.savez(held, **own)  # type: ignore[arg-type]
    write_atomically(folder / PREDICTIONS, held.getvalue())


def pair_up(folders: Sequence[Path], store: ImageStore, seed: int) -> None:
    """Write into every run how it differs from every other on the same images, with a paired interval and p."""
    truth = store.labels[divide(store, seed).test].numpy()
    measured = [_read(folder) for folder in folders]
    for folder, mine in zip(folders, measured, strict=True):
        rows = [
            row
            for other in measured
            if other is not mine
            for result in mine
            for against in other
            if against.protocol == result.protocol
            for row in differences([result], [[against]], truth, seed)
        ]
        write_results(folder, rows)


def _read(folder: Path) -> list[Result]:
    """The run's own top-1 results with their predictions."""
    rows = [result_of(row) for row in read_rows(folder / EVALUATION)]
    with np.load(folder / PREDICTIONS) as held:
        kept = {name: held[name] for name in held.files}
    own = _top1(rows, subject_of(folder))
    return [replace(row, predictions=kept[row.protocol]) for row in own if row.protocol in kept]


def _top1(results: Sequence[Result], subject: str) -> list[Result]:
    return [result for result in results if (result.subject, result.metric) == (subject, "top1")]
