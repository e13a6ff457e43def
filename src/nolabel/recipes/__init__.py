"""Published settings to run again: one file a method, each with the paper's setting and two for minutes on a processor.

A file states its `Reproduction`s as constants; `rotation.PAPER` is called `rotation-paper`.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nolabel import catalog
from nolabel.errors import UsageError
from nolabel.evaluation.base import Protocol
from nolabel.methods.base import Method, Recipe
from nolabel.published import Published, tables

CIFAR10, CALTECH, IMAGENET = "CIFAR-10", "Caltech-101", "ImageNet"
SIZES = {CIFAR10: 32, CALTECH: 96}
"""sides of the images of the scaled settings"""


@dataclass(frozen=True)
class Reproduction:
    """One setting: what to train, how to measure it, and which published numbers to put it beside."""

    method: str
    encoder: str
    size: int
    """side of the training images in pixels"""
    dataset: str
    """images that the setting was made for"""
    length: Mapping[str, float]
    """`epochs`, `steps` or `minutes`, and its number"""
    options: Any
    """of the method"""
    recipe: Recipe
    protocols: tuple[str | Protocol, ...]
    """names as for `nolabel evaluate`, or protocols with options of their own"""
    beside: tuple[str, ...]
    """names of the published tables"""
    deviations: tuple[str, ...] = ()
    """how it differs from what was published, a sentence each"""
    hardware: str = ""
    """where it was run, or how long a step takes there"""
    result: str = "not run"
    """what was measured"""

    def published(self) -> tuple[Published, ...]:
        """The rows of the tables `beside` that this method's paper or others report of it."""
        return tables(lambda row: row.table in self.beside and row.implements == self.method)


def scaled(
    kind: type[Method],
    beside: tuple[str, ...],
    deviation: str,
    *,
    dataset: str = CIFAR10,
    options: Any = None,
    protocols: tuple[str | Protocol, ...] = ("linear", "knn"),
    hardware: str = "",
    result: str = "not run",
) -> Reproduction:
    """A method's own defaults with `resnet10` on CIFAR-10, or another of `SIZES`, for ten minutes on two cores."""
    return Reproduction(
        method=kind.__module__.rpartition(".")[2], encoder="resnet10", size=SIZES[dataset], dataset=dataset,
        length={"minutes": 10}, options=options or kind.Options(), recipe=kind.recipe, protocols=protocols,
        beside=beside, deviations=(deviation,), hardware=hardware, result=result,
    )  # fmt: skip


def names() -> tuple[str, ...]:
    """All reproductions, method by method in alphabetical order."""
    files = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
    return tuple(f"{stem.replace('_', '-')}-{name}" for stem in files for name in _settings(stem))


def find(name: str) -> Reproduction:
    """The reproduction called `name`.

    Raises:
        UsageError: there is none; the nearest is named.
    """
    stem, _, setting = name.replace("_", "-").rpartition("-")
    if name.replace("_", "-") not in names():
        raise UsageError(catalog.unknown("recipe", name, names()))
    return _settings(stem.replace("-", "_"))[setting]


def _settings(stem: str) -> dict[str, Reproduction]:
    module = importlib.import_module(f"{__name__}.{stem}")
    return {key.lower(): value for key, value in vars(module).items() if isinstance(value, Reproduction)}
