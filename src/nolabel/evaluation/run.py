"""One encoder under several protocols, beside baselines: tidy results, one number each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nolabel import catalog, runs
from nolabel.data.store import ImageStore
from nolabel.encoders._io import device_of_choice, encoder_digest, image_size, load_encoder
from nolabel.encoders.base import Encoder
from nolabel.errors import RunError, UsageError
from nolabel.evaluation import _features, _kept, _leaks
from nolabel.evaluation import baselines as _baselines
from nolabel.evaluation._features import extract, silent
from nolabel.evaluation._repeats import differences, over_seeds
from nolabel.evaluation._split import Division, divide
from nolabel.evaluation.base import Features, Progress, Protocol, Result
from nolabel.evaluation.diagnostics import dated
from nolabel.memory import keep_freed

PROTOCOLS = ("linear", "knn", "diagnostics")
UNLABELLED = ("diagnostics",)
Keep = Callable[[Protocol, list[Result]], object]
"""called with a protocol and all its results as soon as they are there"""
OfBaseline = Callable[[str], list[Features]]
"""the features of a baseline, a list of its seeds"""


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
    keep: Keep = lambda measure, results: None,
) -> list[Result]:
    """Results of an encoder and of the baselines under each protocol, and their paired differences.

    Test images that are also among the training or pretraining images are counted (protocol `leakage`).
    Without labels, label-free diagnostics alone. The encoder is in evaluation mode afterwards, else as it was.

    Args:
        source: a run folder or an encoder file, measured on `evaluation_device`; or an encoder, where it lies.
        store: labelled images; a stratified fifth is held out with `seed` where there is no test split.
        protocols: names of files of `evaluation/`, or protocols with options of their own.
        baselines: of `random`, `pixels`, `whitened` (pixels), `histogram`, `patches`, `supervised`, `timm:NAME` (its
            trained weights).
            Protocols that train or read raw maps compare with `random` alone, in one seed, or hold their own
            baselines.
        name: the subject of the results; None: the run's method, else the file's or the architecture's name.
        size: side in pixels at which images are read; None: that of the run's images, else the encoder's own.
        values: at most so many values a stage.
        progress: called with (what, images done, images in all).
        keep: called with each protocol and its results, leakage included, before the next is measured.

    Raises:
        UsageError: an unknown protocol, stage or baseline, no encoder at `source`, or one that takes no RGB.
        DataError: labels or images that allow no evaluation under one of the protocols.
        RunError: features that are not finite, or the encoder changed while it was evaluated.
    """
    keep_freed()
    encoder = source if isinstance(source, Encoder) else load_encoder(source).to(evaluation_device())
    check_channels(encoder)
    subject = name or (encoder.name if isinstance(source, Encoder) else subject_of(Path(source)))
    labelled = bool((store.labels >= 0).any())
    measures = _measures(protocols, labelled)
    for baseline in baselines:
        _baselines.check(baseline)
    division = ready(measures, store, seed) if labelled else _everything(store)
    if size is None:
        size = encoder.size if isinstance(source, Encoder) else image_size(Path(source), encoder)
    own = extract(encoder, store, division, name=subject, size=size, values=values, progress=progress)
    for measure in measures:
        own.chosen(getattr(measure.options, "stage", None))
    now = _kept.Circumstances(encoder, store, division, size, values, seed)
    leaked = _leaks.find(source, store, division) if labelled else {}
    return _each(measures, own, now, leaked, baselines, _metrics(source), keep)


def ready(protocols: Sequence[str | Protocol], store: ImageStore, seed: int) -> Division:
    """How labelled images are divided, once each protocol has checked them: before hours are spent on them.

    Raises:
        UsageError: an unknown protocol.
        DataError: labels or images that allow no evaluation under one of them.
    """
    division = divide(store, seed)
    for one in map(protocol_of, protocols):
        one.check(store, division)
    return division


def evaluation_device() -> torch.device:
    """A GPU that knows float64, which the statistics need, else the processor."""
    device = device_of_choice()
    return torch.device("cpu") if device.type == "mps" else device


def side_of(source: Path | Encoder, data: str | Path, size: int | None, baselines: Sequence[str] = ()) -> int:
    """Side in pixels to open `data` at: enough for the encoder, read at `size`, and for the baselines.

    Not below the size at which the encoder's run opened the same images, so that they are known again.
    """
    least = _baselines.least_side(baselines)
    if isinstance(source, Encoder):
        return max(source.size if size is None else size, least)
    own = image_size(source, load_encoder(source)) if size is None else size
    return max(own, runs.opened_at(source, data) or 0, least)


def _each(
    measures: Sequence[Protocol],
    own: Features,
    now: _kept.Circumstances,
    leaked: _leaks.Found,
    baselines: Sequence[str],
    metrics: Sequence[dict[str, Any]],
    keep: Keep,
) -> list[Result]:
    """The results of the encoder behind `own` under each protocol, beside the baselines."""
    labels = {} if bool((now.store.labels >= 0).any()) else {"labels": "none: label-free diagnostics only"}
    common, weights = {"data": now.store.source} | labels, encoder_digest(now.encoder)
    progress = own.network.progress if own.network else silent

    @cache
    def of_baseline(name: str) -> list[Features]:
        return list(
            _baselines.features(
                name, now.encoder, now.store, now.division, size=now.size, values=now.values, seed=now.seed,
                progress=progress,
            )
        )  # fmt: skip

    results, of_encoder, leaks = [], [], []
    for measure in measures:
        mine = dated(_run(measure, own, now, weights, common), metrics)
        if encoder_digest(now.encoder) != weights:
            raise RunError(
                f"The encoder {own.name} changed under evaluation: its results are void, report this."
            )
        compared = baselines if measure.labelled and measure.baseline_seeds else ()
        beside = _beside(compared, measure, mine, now, of_baseline, common)
        of_encoder += mine
        results += mine + beside
        leaks = _seeded(_leaks.results(leaked, own.name, now.store, now.division.test, of_encoder), now.seed)
        keep(measure, [*mine, *beside, *leaks])
    return results + leaks


def _beside(
    baselines: Sequence[str],
    measure: Protocol,
    mine: Sequence[Result],
    now: _kept.Circumstances,
    of_baseline: OfBaseline,
    common: dict[str, Any],
) -> list[Result]:
    """The baselines under a protocol, each the mean of its seeds, and the encoder's differences from them."""
    results, truth = [], now.store.labels[now.division.test].numpy()
    for baseline in baselines:
        of_seeds = _of_baseline(baseline, measure, now, of_baseline)
        if of_seeds:
            of_seeds = [[_with(row, common) for row in rows] for rows in of_seeds]
            results += over_seeds(of_seeds) + differences(mine, of_seeds, truth, now.seed)
    return _seeded(results, now.seed)


def _of_baseline(
    baseline: str, measure: Protocol, now: _kept.Circumstances, of_baseline: OfBaseline
) -> list[list[Result]]:
    """One baseline's results, a list a seed; from the cache where they are kept there."""

    def measured() -> list[list[Result]]:
        found = of_baseline(baseline)
        subjects = [one for one in found if measure.needs == "features" or one.network is not None]
        return [measure.run(one, now.seed) for one in subjects[: measure.baseline_seeds]]

    return _kept.kept(now.path(baseline, measure), measured)


def _metrics(source: str | Path | Encoder) -> list[dict[str, Any]]:
    """What the run at `source`, its folder or its encoder file, logged; nothing where it is none."""
    return [] if isinstance(source, Encoder) else runs.read_rows(runs.folder_of(Path(source)) / runs.METRICS)


def subject_of(path: Path) -> str:
    """What the results of the encoder at `path` are called: its run's method, or the file's name."""
    folder = runs.folder_of(path)
    if (folder / runs.DESCRIPTION).is_file():
        return str(runs.read_description(folder).get("method") or folder.resolve().name)
    return folder.resolve().name if path.is_dir() or path.stem == "encoder" else path.stem


def _run(
    measure: Protocol, subject: Features, now: _kept.Circumstances, weights: str, common: dict[str, Any]
) -> list[Result]:
    """The encoder's results, which say what they were measured from; and baselines that the protocol holds itself."""
    changed = measure.changed()
    common = common | ({"options": changed} if changed else {})
    mine = common | {_kept.CIRCUMSTANCES: now.of_encoder(weights, measure)}
    rows = [
        _with(row, mine if row.subject == subject.name else common) for row in measure.run(subject, now.seed)
    ]
    return _seeded(rows, now.seed)


def _seeded(rows: Sequence[Result], seed: int) -> list[Result]:
    """Rows without a seed of their own have that of the evaluation: of held-out images, choices and draws."""
    return [replace(row, seeds=row.seeds or (seed,)) for row in rows]


def _with(result: Result, common: dict[str, Any]) -> Result:
    return replace(result, setting=common | result.setting)


def unmeasured(folder: Path, protocols: Sequence[str | Protocol]) -> list[Protocol]:
    """Those of `protocols` of which the run in `folder` has no result."""
    rows = runs.read_rows(folder / runs.EVALUATION)
    return [one for one in map(protocol_of, protocols) if not any(one.owns(row["protocol"]) for row in rows)]


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
