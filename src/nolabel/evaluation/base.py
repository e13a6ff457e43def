"""The contract of a protocol, the features it reads, and the result that each one gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nolabel.catalog import checked, unknown
from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.errors import RunError, UsageError
from nolabel.evaluation._split import Division, held_out

POOLED = "pooled"
"""the stage that is the global average of the last map"""

Compute = Callable[[Sequence[str], Tensor], dict[str, Tensor]]
"""(stages, indices of images) -> stage -> a fresh tensor (n, D) of float32, or float16 where it is large"""

Progress = Callable[[str, int, int], None]
"""(what, images done, images in all)"""


@dataclass(frozen=True, eq=False)
class Network:
    """The encoder behind some features with its images: for protocols that train, or that read raw maps.

    A protocol leaves the encoder as it is and trains a copy.
    """

    encoder: Encoder
    store: ImageStore
    """on the encoder's device where it fits; positions are those of `Features.train` and `Features.test`"""
    size: int
    """side in pixels at which images are read"""
    values: int
    """at most so many values a stage"""
    progress: Progress


@dataclass(frozen=True)
class Features:
    """Frozen features of one encoder (or baseline) on the images of one store, computed when asked for.

    All stages of 60,000 images do not fit in memory together; a protocol takes all of a few images, then one
    of all.
    """

    name: str
    """the subject of the results, such as `simclr`, `random:resnet10` or `pixels`"""
    values: dict[str, int]
    """stage -> D, its number of values, in depth order; baselines have one stage"""
    grid: dict[str, int]
    """stage -> side of the pooled map (1: global average)"""
    labels: Tensor
    """int64 (N,), -1 where there is none"""
    train: Tensor
    """int64 indices of the training images"""
    test: Tensor
    """int64 indices of the test images"""
    class_names: tuple[str, ...]
    compute: Compute = field(repr=False)
    seeds: tuple[int, ...] = ()
    """of the initialisation, where the subject has one"""
    setting: dict[str, Any] = field(default_factory=dict)
    """how images were read, split and pooled: goes into every result"""
    validation: Tensor | None = None
    """int64 indices of those training images that choices are made on; None: a part is drawn"""
    network: Network | None = field(default=None, compare=False, repr=False)
    """None: no network is behind the features, or none that a protocol may train"""

    @property
    def whole(self) -> str:
        """The stage that stands for the image as a whole: the pooled one, or the only one."""
        return POOLED if POOLED in self.values else next(iter(self.values))

    def chosen(self, stage: str | None) -> str:
        """The stage of that name; the one for the image as a whole where none is named, or there is no other.

        Raises:
            UsageError: an unknown stage; the nearest is named.
        """
        if stage is None or len(self.values) == 1:
            return self.whole
        check_stage(stage, tuple(self.values))
        return stage

    def choice_part(self, share: float, random: torch.Generator) -> Tensor:
        """Bool (n,): which of the n training images choices are made on, and nothing is fitted on meanwhile.

        The validation images of the data, else about `share` of each class.
        """
        if self.validation is None:
            return held_out(self.labels[self.train], share, random)
        return torch.isin(self.train, self.validation)

    def own_parts(self, most: int, share: float, random: torch.Generator) -> tuple[Tensor, Tensor] | None:
        """(rows to fit on, validation images of the data), at most `most` and `share` of them; None: it has none."""
        if self.validation is None:
            return None
        rest, few = self.train[~torch.isin(self.train, self.validation)], int(share * most)
        return (
            rest[torch.randperm(len(rest), generator=random)[: most - few]],
            self.validation[torch.randperm(len(self.validation), generator=random)[:few]],
        )

    def stage(self, name: str, indices: Tensor) -> Tensor:
        """(n, D) of one stage; the caller may change it."""
        return self.compute((name,), indices)[name]

    @staticmethod
    def of(
        name: str,
        stages: dict[str, Tensor],
        labels: Tensor,
        train: Tensor,
        test: Tensor,
        class_names: Sequence[str] = (),
        **other: Any,
    ) -> "Features":
        """Features that lie in memory: stage -> (N, D)."""
        return Features(
            name=name,
            values={stage: matrix.shape[1] for stage, matrix in stages.items()},
            grid=dict.fromkeys(stages, 1),
            labels=labels,
            train=train,
            test=test,
            class_names=tuple(class_names) or tuple(map(str, range(int(labels.max()) + 1))),
            compute=lambda wanted, indices: {stage: stages[stage][indices] for stage in wanted},
            **other,
        )


class Pair(NamedTuple):
    """A test image and an image of another set that is the same, or nearly so."""

    test_image: str
    """path, as `ImageStore.paths`"""
    image: str
    kind: Literal["identical", "near"]
    """identical: the same pixels, or their mirror image"""
    distance: float
    """one minus the correlation of the grey thumbnails of 32 px"""


def check_stage(stage: str, stages: Sequence[str]) -> None:
    """Raise UsageError unless `stage` is one of `stages`."""
    if stage not in stages:
        raise UsageError(unknown("stage", stage, tuple(stages)))


@dataclass(frozen=True)
class Result:
    """One number with everything that is needed to trust it; one row of `evaluation.jsonl`."""

    subject: str
    """encoder or baseline, such as `simclr` or `random:resnet10`"""
    protocol: str
    """such as `linear`"""
    metric: str
    """such as `top1`, `balanced`; `top1_difference` or `balanced_difference`: comparison with `setting["against"]`"""
    value: float
    """in [0, 1] for accuracies"""
    low: float | None
    """lower end of the 95 % interval; None: the number has none"""
    high: float | None
    n: int
    """number of test images"""
    seeds: tuple[int, ...] = ()
    chosen: dict[str, Any] = field(default_factory=dict)
    """what was chosen on the validation part: stage, L2, k, temperature"""
    setting: dict[str, Any] = field(default_factory=dict)
    """the protocol in full: split, sizes, pooling, preprocessing"""
    per_class: dict[str, float] = field(default_factory=dict)
    predictions: np.ndarray | None = field(default=None, compare=False, repr=False)
    """int (n,), or (draws, n): predicted class of each test image, for paired tests; not written to the row"""
    pairs: tuple[Pair, ...] = field(default=(), compare=False, repr=False)
    """of `leakage`: what the value counts, in a file of its own (`runs.LEAKED`) instead of the row"""


def row_of(result: Result) -> dict[str, Any]:
    """The row of `evaluation.jsonl`: every field but the predictions and the pairs."""
    return {f.name: getattr(result, f.name) for f in fields(result) if f.name not in ("predictions", "pairs")}


def in_place(kept: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows `new` behind those of `kept` of another subject, protocol, metric, data or compared baseline."""
    names = {_identity(row) for row in new}
    return [row for row in kept if _identity(row) not in names] + list(new)


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    setting = row.get("setting", {})
    return row["subject"], row["protocol"], row["metric"], setting.get("data"), setting.get("against")


def result_of(row: Mapping[str, Any], predictions: np.ndarray | None = None) -> Result:
    """The result of a row as `row_of` gives it, or JSON after it."""
    return Result(**{**row, "seeds": tuple(row["seeds"])}, predictions=predictions)


class Protocol(ABC):
    """One way to measure an encoder; choices are made on part of the training split, test is touched once."""

    Options: ClassVar[type]
    """frozen dataclass with a docstring under each field"""
    labelled: ClassVar[bool] = True
    """whether it needs labels"""
    needs: ClassVar[Literal["features", "encoder"]] = "features"
    """"encoder": it reads `Features.network`, and is left out for subjects without one (raw pixels)"""
    baseline_seeds: ClassVar[int] = 3
    """seeds of a baseline that it is measured on; 0: its results hold their own baselines"""
    protocol: ClassVar[str]
    """what its results are called, where `owns` says nothing else"""

    def __init__(self, options: Any) -> None:
        self.options = checked(options)

    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        held, default = self.options, self.Options()
        pairs = {one.name: getattr(held, one.name) for one in fields(held)}
        return {name: value for name, value in pairs.items() if value != getattr(default, name)}

    def owns(self, name: str) -> bool:
        """Whether results called `name` are its own: its name, alone or before a stage (`linear@stage2`)."""
        head, _, rest = name.partition("@")
        return head == self.protocol and not rest[:1].isdigit()

    def check(self, store: ImageStore, division: Division) -> None:  # noqa: B027
        """Refuse labels or images that the options cannot be measured on; called before anything is trained or read.

        Raises:
            DataError: the protocol needs others; by default none.
        """

    @abstractmethod
    def run(self, subject: Features, seed: int) -> list[Result]:
        """Measure `subject`, whose `network` is there where `needs` is "encoder", after `check`."""


def not_finite(what: str) -> RunError:
    """What to raise where the features of `what` are not finite."""
    return RunError(
        f"The features of {what} are not finite: its weights are damaged or its training diverged, so "
        f"take an earlier checkpoint or train with a smaller learning rate."
    )
