"""Encoders and their starts on the targets of a transfer table: rows that are added to a file set by set.

Under the linear transfer of `evaluation.transfer` beside random weights in three starts, and fine-tuned, where
asked, beside the same network trained from scratch with the settings of `evaluation.supervised`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from nolabel import runs
from nolabel.data._official import IGNORED, SEVERAL
from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.errors import DataError
from nolabel.evaluation import _leaks, baselines
from nolabel.evaluation import _transfer_table as table
from nolabel.evaluation._features import extract, silent
from nolabel.evaluation._ranges import COUNT, hold
from nolabel.evaluation._repeats import DIFFERENCE, over_seeds
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features, Progress, Result, result_of
from nolabel.evaluation.finetune import Finetune, FinetuneOptions
from nolabel.evaluation.statistics import Interval, mean_of_seeds
from nolabel.evaluation.supervised import SCRATCH, Supervised, SupervisedOptions
from nolabel.evaluation.transfer import (
    PROTOCOL,
    Target,
    Transferred,
    compare,
    divided,
    metric_of,
    of_features,
    scored,
)

FINETUNE = "finetune"
PROTOCOLS = {PROTOCOL: "linear probe", FINETUNE: "fine-tuning"}


@dataclass(frozen=True, eq=False)
class Candidate:
    """An encoder that is measured."""

    name: str
    """subject of its results"""
    encoder: Encoder
    digest: str
    """of its weights"""
    source: Path
    """its run or file, which says what it was pretrained on"""


@dataclass(frozen=True)
class Wanted:
    """How it is measured on each target."""

    size: int
    """side in pixels at which images are read"""
    seed: int
    finetune: bool = False
    steps: int = FinetuneOptions.steps
    """of each setting of fine-tuning; from scratch twice as many, as in the paper (20,000 and 40,000)"""
    batch_size: int = FinetuneOptions.batch_size
    """images a step of fine-tuning; the paper: 256"""
    grid: Literal["small", "paper"] = "small"
    """settings of fine-tuning and from scratch: 6, or 56 each"""

    def __post_init__(self) -> None:
        hold(self, size=COUNT, steps=COUNT, batch_size=COUNT)

    @property
    def tuning(self) -> FinetuneOptions:
        """Options of fine-tuning."""
        return FinetuneOptions(steps=self.steps, batch_size=self.batch_size, grid=self.grid)

    @property
    def scratch(self) -> SupervisedOptions:
        """Options of the training from scratch; under the paper's grid each setting is tried at full length."""
        tried = 2 * self.steps if self.grid == "paper" else self.steps
        return SupervisedOptions(2 * self.steps, tried, self.batch_size, self.grid)

    def key(self, target: Target, protocol: str) -> dict[str, Any]:
        """What must be the same for a row to stand for this measurement."""
        key: dict[str, Any] = {"fingerprint": target.store.fingerprint, "size": self.size, "seed": self.seed}
        if protocol == FINETUNE:
            key["asked"] = {"steps": self.steps, "batch_size": self.batch_size, "grid": self.grid}
            key |= {"chosen_by": "balanced"} if target.metric == "balanced" else {}
        return key

    def protocols(self, target: Target) -> tuple[str, ...]:
        """Fine-tuning knows one class an image, so a set with several has the linear transfer alone."""
        return (PROTOCOL, FINETUNE) if self.finetune and target.tags is None else (PROTOCOL,)


@dataclass(frozen=True, eq=False)
class Job:
    """One measurement: of an encoder, or of what it is compared with."""

    protocol: str
    subject: str
    candidate: Candidate
    """the encoder, or one whose architecture the baseline has"""
    key: dict[str, Any]
    """of its row; `encoder` is in it where it is no baseline"""

    def __str__(self) -> str:
        return (
            f"{PROTOCOLS[self.protocol]} of {self.subject}"
            if "encoder" in self.key
            else f"{self.subject} beside it"
        )


def target_of(store: ImageStore) -> Target:
    """The images as a target, with the metric of their name; several labels an image (`cat;dog`) as tags.

    A label that begins with `?` counts neither as shown nor as absent.

    Raises:
        DataError: a set that is measured by mean average precision has one label an image, or has no labels.
    """
    several = any(SEVERAL in name or name.startswith(IGNORED) for name in store.class_names)
    if not several:
        metric = metric_of(store.source)
        if metric == "map11":
            raise DataError(
                f"{store.source} is measured by mean average precision, and no image has several labels: give a "
                f"CSV with lines such as images/1.jpg,cat{SEVERAL}dog."
            )
        return Target(store.source, store, metric)
    shown = [frozenset(filter(None, map(str.strip, name.split(SEVERAL)))) for name in store.class_names]
    names = tuple(sorted({label.removeprefix(IGNORED) for of_class in shown for label in of_class}))
    marks = [
        [1 if name in of_class else -(IGNORED + name in of_class) for name in names] for of_class in shown
    ]
    without = [-1] * len(names)
    tags = torch.tensor([*marks, without], dtype=torch.int8)  # the last is that of label -1
    return Target(store.source, replace(store, class_names=names), "map11", tags[store.labels])


def baseline_of(encoder: Encoder, size: int, protocol: str) -> str:
    """Subject of what an encoder is compared with: random weights, or the same network trained from scratch."""
    name = baselines.random_name(encoder, size)
    return name if protocol == PROTOCOL else SCRATCH + name.partition(":")[2]


def jobs(candidates: Sequence[Candidate], target: Target, wanted: Wanted) -> list[Job]:
    """What is measured on a target; encoders of one architecture share a baseline."""
    found: dict[tuple[str, str], Job] = {}
    for protocol in wanted.protocols(target):
        key = wanted.key(target, protocol)
        for one in candidates:
            beside = baseline_of(one.encoder, wanted.size, protocol)
            own = key | {"encoder": one.digest, "baseline": beside}
            found[protocol, one.name] = Job(protocol, one.name, one, own)
            found.setdefault((protocol, beside), Job(protocol, beside, one, key))
    return list(found.values())


def missing(path: Path, target: Target, candidates: Sequence[Candidate], wanted: Wanted) -> list[Job]:
    """The jobs that the table at `path` does not hold yet for this target."""
    held, right = runs.read_rows(path), table.correct(path)
    return [
        job
        for job in jobs(candidates, target, wanted)
        if not any(
            (row["subject"], row["protocol"]) == (job.subject, job.protocol)
            and table.stands_for(row, target.name, job.key)
            and row["setting"].get(table.PLACE) in right
            for row in held
        )
    ]


def measure(
    job: Job, target: Target, division: Division, wanted: Wanted, progress: Progress = silent
) -> tuple[list[Result], np.ndarray]:
    """(results, correctness (seeds, n)) of one job; of an encoder also which test images it saw before.

    Raises:
        RunError: features that are not finite, or fine-tuning diverged.
    """
    found = _transferred(job, target, division, wanted, progress)
    setting = {"data": target.name} | job.key
    result, *others = (
        replace(row, setting=row.setting | setting)
        for row in over_seeds([[one.result, *one.others] for one in found])
    )
    place = table.place_of(job.protocol, job.subject, setting)
    rows = [replace(result, setting=result.setting | {table.PLACE: place}), *others]
    if "encoder" in job.key:
        one = job.candidate
        rows += _leaks.check(one.source, one.name, target.store, division, [result])
    rows = [replace(row, seeds=row.seeds or (wanted.seed,)) for row in rows]
    return rows, np.stack([one.correct for one in found])


def _transferred(
    job: Job, target: Target, division: Division, wanted: Wanted, progress: Progress
) -> list[Transferred]:
    encoder, store = job.candidate.encoder, target.store
    if job.protocol == PROTOCOL and "encoder" not in job.key:
        seeds = range(wanted.seed, wanted.seed + baselines.RANDOM_SEEDS)
        starts = (
            baselines.random_features(
                encoder, store, division, size=wanted.size, seed=seed, progress=progress
            )
            for seed in seeds
        )
        return [of_features(features, target, wanted.seed) for features in starts]
    own = extract(encoder, store, division, name=job.subject, size=wanted.size, progress=progress)
    if job.protocol == PROTOCOL:
        return [of_features(own, target, wanted.seed)]
    return [_trained(job, own, target, wanted)]


def _trained(job: Job, own: Features, target: Target, wanted: Wanted) -> Transferred:
    """Fine-tuned, or trained from scratch where the job is that of a baseline."""
    chosen: dict[str, Any] = {"choose_by": target.metric}
    tuned = "encoder" in job.key
    protocol = (
        Finetune(replace(wanted.tuning, **chosen)) if tuned else Supervised(replace(wanted.scratch, **chosen))
    )
    results = [replace(row, subject=job.subject) for row in protocol.run(own, wanted.seed)]
    return scored(results, own, target, FINETUNE)


def pair_up(path: Path, target: Target, division: Division, protocol: str, wanted: Wanted) -> None:
    """Write how the encoders of the table at `path` differ from their baselines and from each other on a target."""
    right, key = table.correct(path), wanted.key(target, protocol)
    rows = [
        row
        for row in runs.read_rows(path)
        if row["protocol"] == protocol
        and table.stands_for(row, target.name, key)
        and row["setting"].get(table.PLACE) in right
    ]
    labels = target.store.labels[division.test].numpy() if target.metric == "balanced" else None
    of_subject = {
        row["subject"]: [
            Transferred(target.name, result_of(row), one, labels)
            for one in right[row["setting"][table.PLACE]]
        ]
        for row in rows
    }
    encoders = [row for row in rows if "encoder" in row["setting"]]
    found = []
    for number, row in enumerate(encoders, 1):
        (mine,) = of_subject[row["subject"]]
        others = (row["setting"]["baseline"], *(other["subject"] for other in encoders[number:]))
        found += [
            _difference(mine, of_subject[other], wanted.seed) for other in others if other in of_subject
        ]
    table.replace_differences(path, target.name, protocol, found)


def _difference(mine: Transferred, others: Sequence[Transferred], seed: int) -> Result:
    """The mean over the seeds of what it is compared with, and the largest of their p."""
    pairs = [compare([mine], [other], seed)[0] for other in others]
    interval = mean_of_seeds([Interval(one.value, one.low, one.high) for one in pairs], least=-1.0)
    of_what = "share of right decisions" if mine.result.metric == "map11" else mine.result.metric
    test = f"paired permutation of the {of_what}"
    test += f", the largest p of {len(pairs)} seeds" if len(pairs) > 1 else ""
    p = max(one.p for one in pairs)
    setting = {"data": mine.data, "against": others[0].result.subject, "p": p, "holm": p, "test": test}
    return replace(
        mine.result,
        metric=mine.result.metric + DIFFERENCE,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        chosen={},
        per_class={},
        predictions=None,
        setting=setting,
    )


def transfer_all(
    candidates: Sequence[Candidate],
    stores: Sequence[ImageStore],
    path: Path,
    wanted: Wanted,
    *,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Every set that the table at `path` does not hold yet; each measurement is in it as soon as it is done.

    Args:
        say: told what is being measured, a line each.

    Raises:
        UsageError: there is a file in the place of the table's folder.
        DataError: labels of any set that allow no evaluation, before the first is measured; else as `measure`.
    """
    targets = [target_of(store) for store in stores]
    divisions = [divided(target, wanted.seed) for target in targets]
    runs.make_folder(path.parent)
    for target, division in zip(targets, divisions, strict=True):
        todo = missing(path, target, candidates, wanted)
        if not todo:
            say(f"{target.name}: measured already")
        if wanted.finetune and FINETUNE not in wanted.protocols(target):
            say(f"{target.name}: no fine-tuning, because its images have several labels each")
        for job in todo:
            say(f"{target.name}: {job}")
            results, correct = measure(job, target, division, wanted, progress)
            table.add(path, results, correct)
        for protocol in wanted.protocols(target):
            pair_up(path, target, division, protocol, wanted)
