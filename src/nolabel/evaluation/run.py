"""One encoder under several protocols, beside baselines: tidy results, one number each."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nolabel import catalog, runs
from nolabel.data.store import ImageStore
from nolabel.encoders._io import encoder_digest, load_encoder
from nolabel.encoders.base import Encoder
from nolabel.errors import RunError, UsageError
from nolabel.evaluation import _features
from nolabel.evaluation import baselines as _baselines
from nolabel.evaluation._features import Progress, extract, silent
from nolabel.evaluation._split import Division, divide
from nolabel.evaluation.base import Protocol, Result
from nolabel.evaluation.statistics import Interval, bootstrap_difference, mcnemar_of, mean_of_seeds
from nolabel.memory import keep_freed
from nolabel.seeds import derive

PROTOCOLS = ("linear", "knn", "diagnostics")
UNLABELLED = ("diagnostics",)
DIFFERENCE = "_difference"


def evaluate_encoder(
    source: str | Path | Encoder,
    store: ImageStore,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    baselines: Sequence[str] = _baselines.DEFAULT,
    name: str | None = None,
    size: int | None = None,
    values: int = _features.VALUES,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Result]:
    """Results of an encoder and of the baselines under each protocol, and their paired differences.

    Without labels, label-free diagnostics alone (`setting["labels"]` says so). The encoder is in evaluation
    mode afterwards, and otherwise as it was.

    Args:
        source: a run folder, an encoder file, or an encoder.
        store: labelled images; a stratified fifth is held out with `seed` where there is no test split.
        protocols: names of files of `evaluation/`.
        baselines: of `random`, `pixels`, `histogram`, `patches`.
        name: the subject of the results; None: the run's method, else the file's or the architecture's name.
        size: side in pixels at which images are read; None: the encoder's own.
        values: at most so many values a stage.
        progress: called with (what, images done, images in all).

    Raises:
        UsageError: an unknown protocol or baseline, or no encoder at `source`.
        DataError: labels that allow no evaluation, or features that are not finite.
        RunError: the encoder changed while it was evaluated.
    """
    keep_freed()
    encoder = source if isinstance(source, Encoder) else load_encoder(source)
    subject = name or (encoder.name if isinstance(source, Encoder) else subject_of(Path(source)))
    labelled = bool((store.labels >= 0).any())
    measures = [_protocol(one) for one in (protocols if labelled else UNLABELLED)]
    for baseline in baselines:
        if baseline not in _baselines.NAMES:
            raise UsageError(catalog.unknown("baseline", baseline, _baselines.NAMES))
    division = divide(store, seed) if labelled else _everything(store)
    before = encoder_digest(encoder)
    own = extract(encoder, store, division, name=subject, size=size, values=values, progress=progress)
    common = {"data": store.source} | ({} if labelled else {"labels": "none: label-free diagnostics only"})
    own_results = [_with(result, common) for measure in measures for result in measure.run(own, seed)]
    if encoder_digest(encoder) != before:
        raise RunError(
            f"The encoder {subject} changed while it was evaluated, so its results are void: report this."
        )
    measures = [measure for measure in measures if measure.labelled]
    results, truth = list(own_results), store.labels[division.test].numpy()
    side = own.setting["size"]
    for baseline in baselines if measures else ():
        found = _baselines.features(
            baseline, encoder, store, division, size=side, values=values, seed=seed, progress=progress
        )
        of_seeds = [[_with(r, common) for m in measures for r in m.run(one, seed)] for one in found]
        results += over_seeds(of_seeds) + differences(own_results, of_seeds, truth, seed)
    return results


def subject_of(path: Path) -> str:
    """What the results of the encoder at `path` are called: its run's method, or the file's name."""
    folder = path if path.is_dir() else path.parent
    if (folder / runs.DESCRIPTION).is_file():
        return str(runs.read_description(folder).get("method") or folder.resolve().name)
    return folder.resolve().name if path.is_dir() or path.stem == "encoder" else path.stem


def over_seeds(of_seeds: Sequence[Sequence[Result]]) -> list[Result]:
    """Results of several seeds, number by number, as their mean; `setting["of_seeds"]`: the single values."""
    if len(of_seeds) == 1:
        return list(of_seeds[0])
    return [_mean(results) for results in zip(*of_seeds, strict=True)]


def _mean(results: Sequence[Result]) -> Result:
    first = results[0]
    interval = mean_of_seeds([_interval(result) for result in results])
    names = {name for result in results for name in result.per_class}
    return replace(
        first,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        seeds=tuple(seed for result in results for seed in result.seeds),
        chosen={key: _merged([result.chosen[key] for result in results]) for key in first.chosen},
        setting=first.setting | {"of_seeds": [result.value for result in results]},
        per_class={c: float(np.mean([result.per_class[c] for result in results])) for c in sorted(names)},
        predictions=None,
    )


def _merged(values: Sequence[Any]) -> Any:
    """What seeds chose: the value that all share, the mean of what was measured, else the list of values."""
    if all(value == values[0] for value in values):
        return values[0]
    if all(isinstance(value, dict) for value in values):
        shared = [key for key in values[0] if all(key in value for value in values)]
        return {key: float(np.mean([value[key] for value in values])) for key in shared}
    return list(values)


def differences(
    own: Sequence[Result], of_seeds: Sequence[Sequence[Result]], truth: np.ndarray, seed: int
) -> list[Result]:
    """Top-1 of the encoder minus that of a baseline, on the same test images, for each protocol.

    With a paired bootstrap interval and McNemar's exact p. Of a baseline with several seeds: their mean, and
    the largest of their p.

    Args:
        own: the encoder's results.
        of_seeds: for each seed the baseline's results.
        truth: int (n,), the labels of the test images.
    """
    rows = []
    for mine in (result for result in own if result.metric == "top1"):
        others = [
            r for results in of_seeds for r in results if (r.protocol, r.metric) == (mine.protocol, "top1")
        ]
        hits = mine.predictions == truth
        draw = derive(seed, "evaluate", mine.protocol, "difference")
        pairs = [
            (
                bootstrap_difference(hits, r.predictions == truth, draw),
                mcnemar_of(hits, r.predictions == truth),
            )
            for r in others
        ]
        interval = mean_of_seeds([difference for difference, _ in pairs], least=-1.0)
        setting = {
            "against": others[0].subject,
            "p": max(p for _, p in pairs),
            "test": "exact McNemar" + (f", the largest p of {len(pairs)} seeds" if len(pairs) > 1 else ""),
        }
        rows.append(
            replace(
                mine,
                metric=f"{mine.metric}{DIFFERENCE}",
                value=interval.value,
                low=interval.low,
                high=interval.high,
                setting={"data": mine.setting.get("data")} | setting,
                chosen={},
                predictions=None,
            )
        )
    return rows


def row_of(result: Result) -> dict[str, Any]:
    """The row of `evaluation.jsonl`: every field but the predictions."""
    return {f.name: getattr(result, f.name) for f in fields(result) if f.name != "predictions"}


def write_results(folder: str | Path, results: Sequence[Result]) -> None:
    """Write `results` into `evaluation.jsonl` of a run folder, whole or not at all.

    A row of the same subject, protocol, metric, data and compared baseline is replaced, others stay.
    """
    path = Path(folder) / runs.EVALUATION
    new = [row_of(result) for result in results]
    names = {_name(row) for row in new}
    runs.write_rows(path, [row for row in runs.read_rows(path) if _name(row) not in names] + new)


def _name(row: dict[str, Any]) -> tuple[Any, ...]:
    setting = row.get("setting", {})
    return (row["subject"], row["protocol"], row["metric"], setting.get("data"), setting.get("against"))


def _interval(result: Result) -> Interval:
    assert result.low is not None
    assert result.high is not None
    return Interval(result.value, result.low, result.high)


def _with(result: Result, common: dict[str, Any]) -> Result:
    return replace(result, setting=common | result.setting)


def _everything(store: ImageStore) -> Division:
    none = torch.zeros(0, dtype=torch.int64)
    return Division(none, torch.arange(len(store)), "no labels: all images")


def _protocol(name: str) -> Protocol:
    measure = catalog.load("evaluation", name, Protocol)
    return measure(measure.Options())
