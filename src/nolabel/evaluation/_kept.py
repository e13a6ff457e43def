"""Results of baselines, kept in the user's cache: the next encoder on the same images takes them from there.

A file holds one baseline under one protocol: the rows of each seed (of a curve: of each point), and the predicted
class of each test image, which paired tests need. Its name is a digest of all that the numbers depend on: images,
labels, split, sizes, the protocol's options, seed, device, and the program's own source, so that a changed protocol
finds nothing.
"""

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.catalog import PACKAGE
from nolabel.data import cache as cache_files
from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.errors import RunError
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features, Protocol, Result, result_of, row_of
from nolabel.runs import write_atomically

OF_ITS_ARCHITECTURE = ("random", "supervised")
"""baselines that differ from encoder to encoder; the others depend on the images alone"""
FROM_CACHE = "from_cache"
"""key of `Result.setting` of what was not measured anew"""
CIRCUMSTANCES = "circumstances"
"""key of `Result.setting` of an encoder's own results: what they were measured from, as a digest"""
LAYERS = ("data", "views", "encoders", "evaluation")
"""whose source decides what a baseline gives"""
MOST = 1000
"""files; beyond, the oldest goes"""


@dataclass(frozen=True)
class Circumstances:
    """What all baselines of one evaluation have in common."""

    encoder: Encoder
    store: ImageStore
    division: Division
    size: int
    values: int
    seed: int

    def key(self, baseline: str, measure: Protocol) -> str:
        """Digest of what the results of `baseline` under `measure` depend on."""
        net = None
        if baseline in OF_ITS_ARCHITECTURE:
            net = [self.encoder.name, self.encoder.size, self.encoder.whitened]
        return self._digest(
            measure, [baseline, net, str(self.encoder.mean.device.type), _source(), version("torch")]
        )

    def of_encoder(self, weights: str, measure: Protocol) -> str:
        """Digest of what the results of the encoder, `weights` being that of its weights, under `measure` depend on."""
        return self._digest(measure, [weights])[:16]

    def _digest(self, measure: Protocol, others: Sequence[Any]) -> str:
        text = [
            *(*others, self.size, self.values, self.seed, len(self.division.train)),
            *(type(measure).__module__, repr(measure.options), self.store.fingerprint),
        ]
        digest = hashlib.sha256(json.dumps(text).encode())
        division = self.division
        for tensor in (self.store.labels, division.train, division.test, division.validation):
            digest.update(b"" if tensor is None else tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def path(self, baseline: str, measure: Protocol) -> Path | None:
        """The file of these results; None for a protocol that is not the program's own."""
        if not type(measure).__module__.startswith("nolabel.evaluation."):
            return None
        return cache_files.folder() / cache_files.BASELINES / f"{self.key(baseline, measure)}.npz"


def behind(subject: Features, seed: int) -> Circumstances:
    """The circumstances of features that have a network."""
    network = subject.network
    assert network is not None
    division = Division(subject.train, subject.test, subject.setting["split"], subject.validation)
    return Circumstances(network.encoder, network.store, division, network.size, network.values, seed)


@cache
def _source() -> str:
    digest = hashlib.sha256(version("nolabel").encode())
    for layer in LAYERS:
        for file in sorted((PACKAGE / layer).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def load(path: Path | None) -> list[list[Result]] | None:
    """The results of each seed; None where they are not kept, or their file is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as held:
            of_seeds = json.loads(str(held["rows"]))
            return [
                [
                    _result(row, held[name] if (name := f"{s}-{i}") in held else None)
                    for i, row in enumerate(rows)
                ]
                for s, rows in enumerate(of_seeds)
            ]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _result(row: dict[str, Any], predictions: np.ndarray | None) -> Result:
    result = result_of(row, predictions)
    return replace(result, setting=result.setting | {FROM_CACHE: True})


def kept(path: Path | None, measured: Callable[[], Sequence[Sequence[Result]]]) -> list[list[Result]]:
    """The results in the file; where there are none, `measured` gives them and they are kept."""
    held = load(path)
    if held is None:
        held = [list(results) for results in measured()]
        keep(path, held)
    return held


def keep(path: Path | None, of_seeds: Sequence[Sequence[Result]]) -> None:
    """Write the results of each seed; nothing where the cache cannot be written to."""
    if path is None:
        return
    predictions = {
        f"{s}-{i}": result.predictions.astype(np.int32)
        for s, results in enumerate(of_seeds)
        for i, result in enumerate(results)
        if result.predictions is not None
    }
    rows = [[row_of(result) for result in results] for results in of_seeds]
    held = io.BytesIO()
    np.savez_compressed(held, rows=np.array(json.dumps(rows)), **predictions)  # type: ignore[arg-type]
    with contextlib.suppress(OSError, RunError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, held.getvalue())
        for file in cache_files.baselines()[MOST:]:
            file.unlink(missing_ok=True)
