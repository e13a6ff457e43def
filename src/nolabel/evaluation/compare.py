"""Several encoders measured on the same test images, and the paired differences between them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from nolabel.data.store import ImageStore
from nolabel.encoders._io import image_size, load_encoder
from nolabel.evaluation._cka import kernel
from nolabel.evaluation._features import POOLED, VALUES, extract, silent
from nolabel.evaluation._repeats import differences
from nolabel.evaluation._split import divide
from nolabel.evaluation._written import (
    name_of,
    read_measured,
    read_predictions,
    write_measured,
    write_predictions,
    write_results,
)
from nolabel.evaluation.base import Progress, Protocol, Result, result_of
from nolabel.evaluation.diagnostics import COMPARED, LEAST, as_row, cka_over_blocks
from nolabel.evaluation.run import evaluate_encoder, evaluation_device, protocol_of, subject_of
from nolabel.runs import EVALUATION, read_rows
from nolabel.seeds import derive


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

    Each protocol is written, and noted as measured, as soon as it is done. Predictions are kept for paired tests. A
    protocol with other options, or features with other `values`, is another measurement: nothing of the one before
    stays, neither rows of baselines nor predictions. With the same options, baselines join those that it was measured
    beside. Errors as `evaluate_encoder`.
    """
    done = read_measured(folder)
    keys = {_key(one, values): one for one in map(protocol_of, protocols)}
    todo = {
        key: one for key, one in keys.items() if not {*baselines} <= {*done.get(key, ())} or key not in done
    }
    if not todo:
        return
    beside = sorted({*baselines, *(one for key in todo for one in done.get(key, ()))})

    def keep(one: Protocol, results: Sequence[Result]) -> None:
        write_results(folder, results, one)
        own = {
            r.protocol: r.predictions for r in _top1(results, subject_of(folder)) if r.predictions is not None
        }
        write_predictions(folder, one, own)
        write_measured(folder, one, {_key(one, values): beside})

    evaluate_encoder(
        folder,
        store,
        protocols=list(todo.values()),
        baselines=beside,
        values=values,
        seed=seed,
        progress=progress,
        keep=keep,
    )


def _key(protocol: Protocol, values: int) -> str:
    """The protocol's name, and after it what is not the default."""
    changed = protocol.changed() | ({"values": values} if values != VALUES else {})
    return f"{name_of(protocol)} {json.dumps(changed)}" if changed else name_of(protocol)


def pair_up(folders: Sequence[Path], store: ImageStore, seed: int) -> None:
    """Write into every run how it differs from every other on the same images, with a paired interval and p."""
    truth = store.labels[divide(store, seed).test].numpy()
    measured = [_read(folder, store.source) for folder in folders]
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

    Of the pooled vectors of at most 1,000 test images, with an interval from 50 on; 1 for features that are equal up
    to a turn and a scale.
    Nothing where the test images are too few for it.
    """
    held = divide(store, seed)
    images = held.test[:: -(-len(held.test) // COMPARED)]
    if len(images) < LEAST["cka"]:
        return
    kernels = {}
    for folder in folders:
        encoder = load_encoder(folder).to(evaluation_device())
        subject = extract(encoder, store, held, name=subject_of(folder), size=image_size(folder, encoder))
        kernels[folder] = kernel(subject.stage(POOLED, images).float())
    draw = derive(seed, "evaluate", "likeness", "jackknife")
    rows: dict[Path, list[Result]] = {folder: [] for folder in folders}
    for first, second in combinations(folders, 2):
        alike = cka_over_blocks(kernels[first], kernels[second], draw)
        for folder, other in ((first, second), (second, first)):
            setting = {"data": store.source, "stage": POOLED, "against": subject_of(other)}
            rows[folder].append(as_row(subject_of(folder), "likeness", "cka", alike, setting))
    for folder, own in rows.items():
        write_results(folder, own)


def _read(folder: Path, data: str) -> list[Result]:
    """The run's own top-1 results on `data` with their predictions."""
    rows = [result_of(row) for row in read_rows(folder / EVALUATION) if row["setting"].get("data") == data]
    kept = read_predictions(folder)
    own = _top1(rows, subject_of(folder))
    return [replace(row, predictions=kept[row.protocol]) for row in own if row.protocol in kept]


def _top1(results: Sequence[Result], subject: str) -> list[Result]:
    return [result for result in results if (result.subject, result.metric) == (subject, "top1")]
