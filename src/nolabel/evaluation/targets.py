"""One encoder and its random start on one target of a transfer table: rows that are added to a file set by set.

Under the linear transfer of `evaluation.transfer`, and fine-tuned where asked. Three random starts stand under
the linear probe, one under fine-tuning, where it is the network trained from scratch by the same procedure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from nolabel import runs
from nolabel.data._official import IGNORED, SEVERAL
from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.errors import DataError
from nolabel.evaluation import baselines
from nolabel.evaluation._features import extract, silent
from nolabel.evaluation._repeats import DIFFERENCE, over_seeds
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features, Progress, Result, row_of
from nolabel.evaluation.finetune import Finetune, FinetuneOptions
from nolabel.evaluation.statistics import Interval, holm, mean_of_seeds
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


@dataclass(frozen=True)
class Wanted:
    """What is measured on each target."""

    subject: str
    """what the encoder is called"""
    digest: str
    """of the encoder's weights"""
    size: int
    """side in pixels at which images are read"""
    seed: int
    finetune: bool = False
    steps: int = FinetuneOptions.steps
    """of each setting of fine-tuning"""
    grid: Literal["small", "paper"] = "small"
    """settings of fine-tuning: 6 or 56"""

    def key(self, target: Target, protocol: str) -> dict[str, Any]:
        """What must be the same for a row to stand for this measurement."""
        key = {"fingerprint": target.store.fingerprint, "encoder": self.digest, "size": self.size}
        key |= {"seed": self.seed}
        return key | ({"steps": self.steps, "settings": self.grid} if protocol == FINETUNE else {})

    def protocols(self, target: Target) -> tuple[str, ...]:
        """Fine-tuning knows one class an image, so a set with several has the linear transfer alone."""
        return (PROTOCOL, FINETUNE) if self.finetune and target.tags is None else (PROTOCOL,)


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
    store = store.subset((store.labels >= 0).nonzero()[:, 0])
    shown = [frozenset(filter(None, map(str.strip, name.split(SEVERAL)))) for name in store.class_names]
    names = tuple(sorted({label.removeprefix(IGNORED) for of_class in shown for label in of_class}))
    marks = [
        [1 if name in of_class else -(IGNORED + name in of_class) for name in names] for of_class in shown
    ]
    table = torch.tensor(marks, dtype=torch.int8)
    return Target(store.source, replace(store, class_names=names), "map11", table[store.labels])


def missing(path: Path, target: Target, wanted: Wanted) -> list[str]:
    """The protocols that the table at `path` does not hold yet for this target."""
    held = runs.read_rows(path)

    def there(protocol: str) -> bool:
        key = wanted.key(target, protocol)
        return any(
            row["protocol"] == protocol and key == {name: row["setting"].get(name) for name in key}
            for row in held
        )

    return [protocol for protocol in wanted.protocols(target) if not there(protocol)]


def measure(
    encoder: Encoder, target: Target, protocol: str, wanted: Wanted, progress: Progress = silent
) -> list[Result]:
    """The encoder, its random start, and their paired difference under one protocol.

    Raises:
        DataError: labels or tags that allow no evaluation, or features that are not finite.
        RunError: fine-tuning diverged.
    """
    division = divided(target, wanted.seed)
    own = extract(encoder, target.store, division, name=wanted.subject, size=wanted.size, progress=progress)
    mine = _transferred(protocol, own, target, wanted)
    others = [
        _transferred(protocol, features, target, wanted)
        for features in _starts(encoder, target, division, protocol, wanted, progress)
    ]
    (baseline,) = over_seeds([[other.result] for other in others])
    found = [mine.result, baseline, _difference(mine, others, wanted.seed)]
    key = wanted.key(target, protocol)
    return [replace(result, setting=result.setting | {"data": target.name} | key) for result in found]


def _starts(
    encoder: Encoder, target: Target, division: Division, protocol: str, wanted: Wanted, progress: Progress
) -> list[Features]:
    return [
        baselines.random_features(
            encoder, target.store, division, size=wanted.size, seed=wanted.seed + number, progress=progress
        )
        for number in range(1 if protocol == FINETUNE else baselines.RANDOM_SEEDS)
    ]


def _transferred(protocol: str, subject: Features, target: Target, wanted: Wanted) -> Transferred:
    if protocol == PROTOCOL:
        return of_features(subject, target, wanted.seed)
    options = FinetuneOptions(steps=wanted.steps, grid=wanted.grid)
    return scored(Finetune(options).run(subject, wanted.seed), subject, target, FINETUNE)


def _difference(mine: Transferred, others: Sequence[Transferred], seed: int) -> Result:
    """The mean over the random starts, and the largest of their p."""
    pairs = [compare([mine], [other], seed)[0] for other in others]
    interval = mean_of_seeds([Interval(one.value, one.low, one.high) for one in pairs], least=-1.0)
    of_what = "share of right decisions" if mine.result.metric == "map11" else mine.result.metric
    test = f"paired permutation of the {of_what}"
    test += f", the largest p of {len(pairs)} seeds" if len(pairs) > 1 else ""
    p = max(one.p for one in pairs)
    return replace(
        mine.result,
        metric=mine.result.metric + DIFFERENCE,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        chosen={},
        per_class={},
        predictions=None,
        setting={"against": others[0].result.subject, "p": p, "holm": p, "test": test},
    )


def add(path: Path, results: Sequence[Result]) -> None:
    """Write the results of one target and protocol into the table at `path`, whole or not at all.

    Older rows of the same data and protocol go; p is adjusted anew over all sets of a protocol (Holm).
    """
    new = [row_of(result) for result in results]
    names = {_name(row) for row in new}
    rows = [row for row in runs.read_rows(path) if _name(row) not in names] + new
    for protocol in {row["protocol"] for row in rows}:
        paired = [row for row in rows if row["protocol"] == protocol and row["metric"].endswith(DIFFERENCE)]
        for row, adjusted in zip(paired, holm([row["setting"]["p"] for row in paired]), strict=True):
            row["setting"]["holm"] = adjusted
    runs.write_rows(path, rows)


def _name(row: dict[str, Any]) -> tuple[str, str]:
    return row["setting"]["data"], row["protocol"]


def transfer_all(
    encoder: Encoder,
    stores: Sequence[ImageStore],
    path: Path,
    wanted: Wanted,
    *,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Every set that the table at `path` does not hold yet; each is in it as soon as it is done.

    Args:
        say: told what is being measured, a line a set and protocol.

    Raises:
        UsageError: there is a file in the place of the table's folder.
        DataError: labels of any set that allow no evaluation, before the first is measured; else as `measure`.
    """
    targets = [target_of(store) for store in stores]
    for target in targets:
        divided(target, wanted.seed)
    runs.make_folder(path.parent)
    for target in targets:
        todo = missing(path, target, wanted)
        if not todo:
            say(f"{target.name}: measured already")
        if wanted.finetune and FINETUNE not in wanted.protocols(target):
            say(f"{target.name}: no fine-tuning, because its images have several labels each")
        for protocol in todo:
            say(f"{target.name}: {PROTOCOLS[protocol]}")
            add(path, measure(encoder, target, protocol, wanted, progress))
