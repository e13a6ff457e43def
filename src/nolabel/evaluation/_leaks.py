"""Test images that the probe was fitted on, or the encoder pretrained on: how many, and what is left without them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nolabel import runs
from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.errors import DataError, NolabelError
from nolabel.evaluation import leakage
from nolabel.evaluation._split import Division, divided_as
from nolabel.evaluation.base import Pair, Result
from nolabel.evaluation.statistics import bootstrap_balanced, mean_of_seeds, uneven, wilson
from nolabel.seeds import derive

PROTOCOL = "leakage"
BALANCED = " (mean over classes)"
"""behind the name of a protocol whose accuracy is one"""
OTHERS = {"in_training": "training", "in_pretraining": "pretraining"}
"""metric -> what it calls the other set"""
LISTED = "listed"
"""key of the setting that names the file of the pairs"""
HEADER = ("encoder", "data", "set", *Pair._fields)


@dataclass(frozen=True)
class Held:
    """The test images that another set holds."""

    leakage: leakage.Leakage
    paths: Sequence[str]
    """of the other set's images"""

    def pairs(self, test_paths: Sequence[str]) -> tuple[Pair, ...]:
        """Each test image, named by `test_paths`, with the images that it is found as."""
        found = self.leakage
        places: list[tuple[int, int]] = found.pairs.tolist()
        every = zip(places, found.identical, (1 - found.correlation).clip(0).tolist(), strict=True)
        return tuple(
            Pair(test_paths[test], self.paths[other], "identical" if same else "near", distance)
            for (test, other), same, distance in every
        )


Found = dict[str, Held | DataError]
"""metric -> the test images that the other set holds, or why that is not known"""
_FOUND: dict[tuple[str, str], leakage.Leakage] = {}
"""what this process has found, by the fingerprints of both sets: several encoders are measured on the same images"""


def check(
    source: str | Path | Encoder, subject: str, store: ImageStore, division: Division, own: Sequence[Result]
) -> list[Result]:
    """What `find` finds, as `results`."""
    return results(find(source, store, division), subject, store, division.test, own)


def find(source: str | Path | Encoder, store: ImageStore, division: Division) -> Found:
    """The test images among the training images, and among the pretraining images where those are others.

    Args:
        source: the encoder, or where it comes from.
    """
    test = store.subset(division.test)
    found: Found = {"in_training": _held(test, store.subset(division.train))}
    try:
        pretraining = None if isinstance(source, Encoder) else pretraining_images(Path(source), store)
    except DataError as error:
        return found | {"in_pretraining": error}
    return found if pretraining is None else found | {"in_pretraining": _held(test, pretraining)}


def results(
    found: Found, subject: str, store: ImageStore, test: Tensor, own: Sequence[Result]
) -> list[Result]:
    """One result for each set that was searched.

    `value` is the share of test images that the other set holds, identical or nearly so, `setting["sentence"]`
    what to say of it, `setting["without"]` the accuracies on the n test images that it does not hold, each with
    its interval, `pairs` which images they are. Pretraining images that cannot be read any more may hold all:
    `value` is 1, and the sentence says why.

    Args:
        test: int64, positions of the test images in `store`.
        own: the encoder's results, with predictions.
    """
    places: list[int] = test.tolist()
    rows, test_paths = [], [store.paths[place] for place in places]
    for metric, held in found.items():
        if isinstance(held, DataError):
            value, setting = 1.0, {"sentence": str(held), "compared": False}
        else:
            value, setting = _told(OTHERS[metric], held.leakage, store.labels[test].numpy(), own)
        pairs = () if isinstance(held, DataError) else held.pairs(test_paths)
        setting = {"data": store.source} | setting
        rows.append(
            Result(subject, PROTOCOL, metric, value, None, None, len(test), setting=setting, pairs=pairs)
        )
    return rows


def listed(folder: Path, results: Sequence[Result]) -> list[Result]:
    """The results, whose `pairs` are written to `leakage.csv` of `folder`; those rows that have some name the file.

    Pairs that an earlier evaluation of the same encoder and images found go; without any pair there is no file.
    """
    path, leaked = folder / runs.LEAKED, [row for row in results if row.protocol == PROTOCOL]
    if not leaked:
        return list(results)
    measured = {(row.subject, row.setting["data"]) for row in leaked}
    kept = [line for line in _read(path) if (line[0], line[1]) not in measured]
    new = [
        (row.subject, row.setting["data"], OTHERS[row.metric], *pair[:3], f"{pair.distance:.4f}")
        for row in leaked
        for pair in row.pairs
    ]
    if kept or new:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([HEADER, *kept, *new])
        runs.write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"))
    else:
        path.unlink(missing_ok=True)
    return [
        replace(row, setting=row.setting | {LISTED: runs.LEAKED}) if row.pairs else row for row in results
    ]


def _read(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [line for line in csv.reader(file) if len(line) == len(HEADER)][1:]


def pretraining_images(source: Path, store: ImageStore) -> ImageStore | None:
    """The images that the run at `source` trained on; None: they are the training images of `store`, or it is no run.

    Where they are images of `store` that the run read at another size, they are those of `store`.

    Raises:
        DataError: they are not where the run found them, or it does not say where that was.
    """
    folder = runs.folder_of(source)
    if not (folder / runs.DESCRIPTION).is_file():
        return None
    info = runs.read_description(folder)
    about = info.get("data") or {}
    held_out = "test" in store.split_names
    if about.get("fingerprint") == store.fingerprint:
        return None if held_out else store
    try:
        divided = about.get("divided")
        labels = Path(about["labels"]) if divided and about["labels"] else None
        images = ImageStore.open(about["source"], size=about["opened_at"], labels=labels)
        images = divided_as(images, divided, info["seed"]) if divided else images
    except (NolabelError, KeyError) as error:
        reason = "its run.json names none" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise DataError(
            f"The test images could not be compared with the pretraining images of {source} ({reason}), so the "
            f"encoder may have seen them: put those images back where the run found them and evaluate again."
        ) from None
    images = images.split("train") if "train" in images.split_names else images
    at = {path: place for place, path in enumerate(store.paths)} if about["source"] == store.source else {}
    if not all(path in at for path in images.paths):
        return images
    seen = torch.tensor([at[path] for path in images.paths])
    if held_out and not (store.splits[seen] == store.split_names.index("test")).any():
        return None
    return store.subset(seen)


def with_earlier(
    row: dict[str, Any], leaked: Sequence[dict[str, Any]], standing: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """A written row of leakage, which tells the accuracies that its like in `leaked` told; any other as it is.

    Of protocols that still have a row in `standing`, and where as many images leaked as now.
    """
    if row["protocol"] != PROTOCOL:
        return row

    def place(one: dict[str, Any]) -> tuple[Any, ...]:
        return one["subject"], one["metric"], one["setting"].get("data"), one["value"]

    own = row["setting"].get("without")
    told = next((one["setting"].get("without") for one in leaked if place(one) == place(row)), None)
    if not own or not told:
        return row
    data = row["setting"].get("data")
    protocols = {one["protocol"] for one in standing if one["setting"].get("data") == data}
    whole = {name: told[name] for name in told if name.removesuffix(BALANCED) in protocols} | own
    sentence = row["setting"]["sentence"].replace(_in_words(own), _in_words(whole))
    return row | {"setting": row["setting"] | {"without": whole, "sentence": sentence}}


def _held(test: ImageStore, other: ImageStore) -> Held:
    pair = test.fingerprint, other.fingerprint
    found = _FOUND[pair] = _FOUND.get(pair) or leakage.find(test, other)
    return Held(found, other.paths)


def _told(
    other: str, found: leakage.Leakage, truth: np.ndarray, own: Sequence[Result]
) -> tuple[float, dict[str, object]]:
    """The share of the test images, and the setting of the row."""
    same = len(np.unique(found.pairs[found.identical, 0]))
    sentence = found.sentence("test", other)
    if len(found.flagged) == found.n:
        sentence = (
            f"All {found.n:,} test images are also among the {other} images, so no accuracy here is one on images "
            f"that the encoder never saw: keep a test split out of training."
        )
    without: dict[str, dict[str, float]] = {}
    if len(found.flagged):
        without = _without(truth, found.kept, own)
        sentence = sentence.replace("read the accuracy without them too", _in_words(without))
    setting = {"sentence": sentence, "identical": same, "near": len(found.flagged) - same, "without": without}
    return len(found.flagged) / found.n, setting


def _without(truth: np.ndarray, kept: np.ndarray, own: Sequence[Result]) -> dict[str, dict[str, float]]:
    """The accuracies on the test images `kept`, by the name of their protocol: of top-1, and of means over classes.

    Of the latter those that are the metric of a set, and where the test classes are uneven those beside top-1 too.
    """
    found: dict[str, dict[str, float]] = {}
    for row in (row for row in own if row.predictions is not None and len(kept)):
        hits = np.atleast_2d(row.predictions == truth)[:, kept]
        if row.metric == "top1":
            found[row.protocol] = wilson(hits.mean(0).sum(), len(kept))._asdict()
        if row.metric == "balanced" or (row.metric == "top1" and uneven(truth)):
            seed = derive(0, "evaluate", PROTOCOL, row.protocol)
            draws = [bootstrap_balanced(one, truth[kept], seed) for one in hits]
            found[row.protocol + BALANCED] = mean_of_seeds(draws)._asdict()
    return {name: {**values, "n": len(kept)} for name, values in found.items()}


def _in_words(without: dict[str, dict[str, float]]) -> str:
    """What takes the place of the advice to read the accuracies without the images that leaked."""
    if not without:
        return "no number here was measured without them"
    values = ", ".join(
        f"{name} {one['value']:.1%} ({100 * one['low']:.1f} to {100 * one['high']:.1f})"
        for name, one in without.items()
    )
    whole = not any(name.endswith(BALANCED) for name in without)
    n = int(next(iter(without.values()))["n"])
    return f"{'top-1' if whole else 'accuracy'} without them, of {n:,} images: {values}"
