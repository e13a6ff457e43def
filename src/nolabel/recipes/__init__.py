"""Published settings to run again: one file a method, each with the paper's setting and two for minutes on a processor.

A file states its `Reproduction`s as constants; `rotation.PAPER` is called `rotation-paper`. Its header names each with
command, length, hardware and result; `tools/method_pages.py` writes that part.
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
from nolabel.published import Measured, Published, measured, placed, tables

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
    deviations: tuple[str, ...]
    """how it differs from what was published, a sentence each"""
    hardware: str = "two cores of a processor"
    """what it is made for; of a paper's setting, what that took where it is recorded"""

    def published(self) -> tuple[Published, ...]:
        """What the tables `beside` print of this method, and of others on the same data sets."""
        return placed(tables(lambda row: row.table in self.beside and row.implements == self.method))

    @property
    def asked(self) -> str:
        """The length in words, such as `10 minutes`."""
        return length_in_words(self.length)

    def measured(self) -> tuple[Measured, ...]:
        """The runs of this setting that were measured here: of its length, or of another where there are none."""
        if self.options != type(self.options)():
            return ()
        data = self.dataset.lower().replace("-", "")
        wanted = (self.method, self.encoder, self.size, data)
        rows = measured(lambda row: (row.method, row.encoder, row.size, row.data) == wanted)
        length = next(
            (row.length for row in rows if row.length == self.asked), rows[0].length if rows else ""
        )
        return tuple(row for row in rows if row.length == length)

    @property
    def result(self) -> str:
        """What was measured here last, in words, a number a seed of that machine; or `not run`."""
        every = self.measured()
        if not every:
            return "not run"
        last = max(every, key=lambda row: row.date)
        rows = [row for row in every if row.machine == last.machine]
        told = []
        for name, cells in (("linear", [row.linear for row in rows]), ("kNN", [row.knn for row in rows])):
            if values := [cell.split()[0] for cell in cells if cell != "not measured"]:
                told.append(f"{name} {' · '.join(values)} %")
        first = rows[0]
        seeds = "one seed" if len(rows) == 1 else f"{len(rows)} seeds"
        return f"{', '.join([*told, first.task])}; {seeds}, {first.length} on {first.machine}, {first.date}"


def length_in_words(length: Mapping[str, float]) -> str:
    """`{"steps": 350000}` -> 350,000 steps."""
    return ", ".join(f"{value:,g} {name}" for name, value in length.items())


def scaled(
    kind: type[Method],
    beside: tuple[str, ...],
    deviation: str,
    *,
    dataset: str = CIFAR10,
    options: Any = None,
    protocols: tuple[str | Protocol, ...] = ("linear", "knn"),
) -> Reproduction:
    """A method's own defaults with `resnet10` on CIFAR-10, or another of `SIZES`, for ten minutes on two cores."""
    return Reproduction(
        method=kind.__module__.rpartition(".")[2], encoder="resnet10", size=SIZES[dataset], dataset=dataset,
        length={"minutes": 10}, options=options or kind.Options(), recipe=kind.recipe, protocols=protocols,
        beside=beside, deviations=(deviation,),
    )  # fmt: skip


def names() -> tuple[str, ...]:
    """All reproductions, method by method in alphabetical order."""
    files = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
    return tuple(f"{stem.replace('_', '-')}-{name}" for stem in files for name in _settings(stem))


def of_papers() -> tuple[str, ...]:
    """Those of a paper's own length: no minutes limit them."""
    return tuple(name for name in names() if "minutes" not in find(name).length)


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
