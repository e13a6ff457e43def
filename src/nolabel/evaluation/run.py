"""One encoder under several protocols, beside baselines: tidy results, one number each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nolabel import catalog, runs
from nolabel.data.store import ImageStore
from nolabel.encoders._io import encoder_digest, image_size, load_encoder
from nolabel.encoders.base import Encoder
from nolabel.errors import RunError, UsageError
from nolabel.evaluation import _features, _kept, _leaks
from nolabel.evaluation import baselines as _baselines
from nolabel.evaluation._features import extract, silent
from nolabel.evaluation._repeats import differences, over_seeds
from nolabel.evaluation._split import Division, divide
from nolabel.evaluation.base import Features, Progress, Protocol, Result, in_place, row_of
from nolabel.evaluation.diagnostics import dated
from nolabel.memory import keep_freed

PROTOCOLS = ("linear", "knn", "diagnostics")
UNLABELLED = ("diagnostics",)


def evaluate_encoder(
    source: str | Path | Encoder,
    store: ImageStore,
    *,
    protocols: Sequence[str | Protocol] = PROTOCOLS,
    baselines: Sequence[str] = _baselines.DEFAULT,
    name: str | None = None,
    size: int | None = None,
    values: int = _features.VALUES,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Result]:
    """Results of an encoder and of the baselines under each protocol, and their paired differences.

    Test images that are also among the training or pretraining images are counted (protocol `leakage`).
    Without labels, label-free diagnostics alone. The encoder is in evaluation mode afterwards, else as it was.

    Args:
        source: a run folder, an encoder file, or an encoder.
        store: labelled images; a stratified fifth is held out with `seed` where there is no test split.
        protocols: names of files of `evaluation/`, or protocols with options of their own.
        baselines: of `random`, `pixels`, `histogram`, `patches`, `supervised`, `timm:NAME` (its trained weights).
            Protocols that train or read raw maps compare with `random` alone, in one seed, or hold their own
            baselines.
        name: the subject of the results; None: the run's method, else the file's or the architecture's name.
        size: side in pixels at which images are read; None: that of the run's images, else the encoder's own.
        values: at most so many values a stage.
        progress: called with (what, images done, images in all).

    Raises:
        UsageError: an unknown protocol, stage or baseline, no encoder at `source`, or one that takes no RGB.
        DataError: labels that allow no evaluation, or features that are not finite.
        RunError: the encoder changed while it was evaluated.
    """
    keep_freed()
    encoder = source if isinstance(source, Encoder) else load_encoder(source)
    check_channels(encoder)
    subject = name or (encoder.name if isinstance(source, Encoder) else subject_of(Path(source)))
    labelled = bool((store.labels >= 0).any())
    measures = _measures(protocols, labelled)
    for baseline in baselines:
        _baselines.check(baseline)
    division = divide(store, seed) if labelled else _everything(store)
    before = encoder_digest(encoder)
    size = size or (encoder.size if isinstance(source, Encoder) else image_size(Path(source), encoder))
    own = extract(encoder, store, division, name=subject, size=size, values=values, progress=progress)
    for measure in measures:
        own.chosen(getattr(measure.options, "stage", None))
    common = {"data": store.source} | ({} if labelled else {"labels": "none: label-free diagnostics only"})
    own_results = [_run(measure, own, seed, common) for measure in measures]
    if encoder_digest(encoder) != before:
        raise RunError(f"The encoder {subject} changed under evaluation: its results are void, report this.")
    results = dated([row for rows in own_results for row in rows], _metrics(source))
    if labelled:
        results += _leaks.check(source, subject, store, division, results)
    pairs = zip(measures, own_results, strict=True)
    compared = [(m, rows) for m, rows in pairs if m.labelled and m.baseline_seeds]
    now = _kept.Circumstances(encoder, store, division, size, values, seed)
    return results + _beside(baselines, compared, now, common, progress)


def _beside(
    baselines: Sequence[str],
    compared: Sequence[tuple[Protocol, list[Result]]],
    now: _kept.Circumstances,
    common: dict[str, Any],
    progress: Progress,
) -> list[Result]:
    """The baselines, each the mean of its seeds, under each protocol, and the encoder's differences from them."""
    results, truth = [], now.store.labels[now.division.test].numpy()
    for baseline in baselines if compared else ():
        beside = _of_baseline(baseline, [measure for measure, _ in compared], now, progress)
        for (_, mine), of_seeds in zip(compared, beside, strict=True):
            if of_seeds:
                of_seeds = [[_with(row, common) for row in rows] for rows in of_seeds]
                results += over_seeds(of_seeds) + differences(mine, of_seeds, truth, now.seed)
    return results


def _of_baseline(
    baseline: str, measures: Sequence[Protocol], now: _kept.Circumstances, progress: Progress
) -> list[list[list[Result]]]:
    """For each measure one baseline's results, a list a seed; from the cache where they are kept there."""
    paths = [now.path(baseline, measure) for measure in measures]
    held = [_kept.load(path) for path in paths]
    if all(one is not None for one in held):
        return [one for one in held if one is not None]
    found = list(
        _baselines.features(
            baseline, now.encoder, now.store, now.division, size=now.size, values=now.values, seed=now.seed,
            progress=progress,
        )
    )  # fmt: skip
    results = []
    for measure, path, kept in zip(measures, paths, held, strict=True):
        if kept is None:
            subjects = [one for one in found if measure.needs == "features" or one.network is not None]
            kept = [measure.run(one, now.seed) for one in subjects[: measure.baseline_seeds]]
            _kept.keep(path, kept)
        results.append(kept)
    return results


def _metrics(source: str | Path | Encoder) -> list[dict[str, Any]]:
    """What the run at `source` logged; nothing where it is no run's folder."""
    return [] if isinstance(source, Encoder) else runs.read_rows(Path(source) / runs.METRICS)


def subject_of(path: Path) -> str:
    """What the results of the encoder at `path` are called: its run's method, or the file's name."""
    folder = path if path.is_dir() else path.parent
    if (folder / runs.DESCRIPTION).is_file():
        return str(runs.read_description(folder).get("method") or folder.resolve().name)
    return folder.resolve().name if path.is_dir() or path.stem == "encoder" else path.stem


def write_results(folder: str | Path, results: Sequence[Result]) -> None:
    """Write `results` into `evaluation.jsonl` of a run folder, whole or not at all.

    A row of the same subject, protocol, metric, data and compared baseline is replaced, others stay.
    """
    path = Path(folder) / runs.EVALUATION
    runs.write_rows(path, in_place(runs.read_rows(path), [row_of(result) for result in results]))


def _run(measure: Protocol, subject: Features, seed: int, common: dict[str, Any]) -> list[Result]:
    """Rows without a seed of their own have that of the evaluation: of held-out images, choices and draws."""
    changed = measure.changed()
    common = common | ({"options": changed} if changed else {})
    rows = [_with(result, common) for result in measure.run(subject, seed)]
    return [replace(row, seeds=row.seeds or (seed,)) for row in rows]


def _with(result: Result, common: dict[str, Any]) -> Result:
    return replace(result, setting=common | result.setting)


def check_channels(encoder: Encoder) -> None:
    """Raise UsageError where `encoder` takes no RGB."""
    channels = encoder.stem.in_channels
    if channels != 3:
        raise UsageError(
            f"The encoder {encoder.name} takes images of {channels} channel{'s' * (channels > 1)} and these are "
            f"RGB: give an encoder whose first convolution takes 3 channels."
        )


def _everything(store: ImageStore) -> Division:
    none = torch.zeros(0, dtype=torch.int64)
    return Division(none, torch.arange(len(store)), "no labels: all images")


def _measures(protocols: Sequence[str | Protocol], labelled: bool) -> list[Protocol]:
    """The protocols, those given by name with their defaults; without labels, those that need none."""
    asked = [protocol_of(one) for one in protocols]
    if labelled:
        return asked
    return [one for one in asked if not one.labelled] or [protocol_of(name) for name in UNLABELLED]


def protocol_of(one: str | Protocol) -> Protocol:
    """The protocol itself, or the one of that name with its defaults.

    Raises:
        UsageError: an unknown name.
    """
    if isinstance(one, Protocol):
        return one
    measure = catalog.load("evaluation", one, Protocol)
    return measure(measure.Options())
