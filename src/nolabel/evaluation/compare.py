"""Several encoders measured on the same test images, and the paired differences between them."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nolabel.data.store import ImageStore
from nolabel.encoders._io import image_size, load_encoder
from nolabel.evaluation._features import POOLED, VALUES, extract, silent
from nolabel.evaluation._repeats import differences
from nolabel.evaluation._split import divide
from nolabel.evaluation.base import Progress, Protocol, Result, in_place, result_of, row_of
from nolabel.evaluation.diagnostics import COMPARED, LEAST, cka
from nolabel.evaluation.run import evaluate_encoder, protocol_of, subject_of, write_results
from nolabel.runs import EVALUATION, read_rows, write_atomically, write_rows

PREDICTIONS = "predictions.npz"
"""int (n,) for each protocol with a top-1: what the run's encoder says of each test image"""
MEASURED = "measured.json"
"""protocol, with its options where they are not the defaults -> the baselines that it was measured beside"""


def measure(
    folder: Path,
    store: ImageStore,
    *,
    protocols: Sequence[str | Protocol],
    baselines: Sequence[str],
    values: int = VALUES,
    seed: int,
    progress: Progress = silent,
) -> None:
    """Evaluate the run in `folder` under the protocols that it has not been measured under beside these baselines.

    Predictions are kept for paired tests. A protocol with other options, or features with other `values`, is
    another measurement: nothing of the one before stays, neither rows of baselines nor predictions. With the same
    options, baselines join those that it was measured beside. Errors as `evaluate_encoder`.
    """
    path = folder / MEASURED
    done: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    keys = {_key(one, values): one for one in protocols}
    todo = {
        key: one for key, one in keys.items() if not {*baselines} <= {*done.get(key, ())} or key not in done
    }
    if not todo:
        return
    beside = sorted({*baselines, *(one for key in todo for one in done.get(key, ()))})
    results = evaluate_encoder(
        folder,
        store,
        protocols=list(todo.values()),
        baselines=beside,
        values=values,
        seed=seed,
        progress=progress,
    )
    _replace(folder, [protocol_of(one) for one in todo.values()], store.source, results)
    names = {key.partition(" ")[0] for key in todo}
    done = {key: held for key, held in done.items() if key.partition(" ")[0] not in names}
    write_atomically(path, json.dumps(done | dict.fromkeys(todo, beside), indent=2) + "\n")


def _replace(folder: Path, protocols: Sequence[Protocol], data: str, results: Sequence[Result]) -> None:
    """Write `results` and their predictions in the place of all that the run has of these protocols on `data`."""

    def stale(name: str) -> bool:
        return any(one.owns(name) for one in protocols)

    rows = [
        row
        for row in read_rows(folder / EVALUATION)
        if row["setting"].get("data") != data or not stale(row["protocol"])
    ]
    write_rows(folder / EVALUATION, in_place(rows, [row_of(result) for result in results]))
    kept = {name: said for name, said in _predictions(folder).items() if not stale(name)}
    own = {r.protocol: r.predictions for r in _top1(results, subject_of(folder)) if r.predictions is not None}
    held = io.BytesIO()
    np.savez(held, **kept, **own)  # type: ignore[arg-type]
    write_atomically(folder / PREDICTIONS, held.getvalue())


def _key(protocol: str | Protocol, values: int) -> str:
    """The protocol's name, and after it what is not the default."""
    name = protocol if isinstance(protocol, str) else type(protocol).__module__.rsplit(".", 1)[-1]
    changed = {} if isinstance(protocol, str) else protocol.changed()
    changed |= {"values": values} if values != VALUES else {}
    return f"{name} {json.dumps(changed)}" if changed else name


def _predictions(folder: Path) -> dict[str, np.ndarray]:
    path = folder / PREDICTIONS
    if not path.is_file():
        return {}
    with np.load(path) as held:
        return {name: held[name] for name in held.files}


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


def liken(folders: Sequence[Path], store: ImageStore, seed: int) -> None:
    """Write into every run how alike its features are to every other's: linear CKA (Kornblith et al. 2019).

    Of the pooled vectors of at most 1,000 test images; 1 for features that are equal up to a turn and a scale.
    Nothing where the test images are too few for it.
    """
    held = divide(store, seed)
    images = held.test[:: -(-len(held.test) // COMPARED)]
    if len(images) < LEAST["cka"]:
        return
    vectors = {}
    for folder in folders:
        encoder = load_encoder(folder)
        subject = extract(encoder, store, held, name=subject_of(folder), size=image_size(folder, encoder))
        vectors[folder] = subject.stage(POOLED, images).float()
    for folder in folders:
        setting = {"data": store.source, "stage": POOLED}
        write_results(folder, [
            Result(
                subject=subject_of(folder), protocol="likeness", metric="cka", low=None, high=None, n=len(images),
                value=cka(vectors[folder], vectors[other]), setting=setting | {"against": subject_of(other)},
            )
            for other in folders if other is not folder
        ])  # fmt: skip


def _read(folder: Path) -> list[Result]:
    """The run's own top-1 results with their predictions."""
    rows = [result_of(row) for row in read_rows(folder / EVALUATION)]
    kept = _predictions(folder)
    own = _top1(rows, subject_of(folder))
    return [replace(row, predictions=kept[row.protocol]) for row in own if row.protocol in kept]


def _top1(results: Sequence[Result], subject: str) -> list[Result]:
    return [result for result in results if (result.subject, result.metric) == (subject, "top1")]
