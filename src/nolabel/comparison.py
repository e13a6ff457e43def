"""`nolabel.compare`: methods at equal minutes on one encoder, beside baselines, and a verdict."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nolabel import api, catalog
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError
from nolabel.evaluation import baselines as known
from nolabel.evaluation._features import VALUES
from nolabel.evaluation._split import hold_out
from nolabel.evaluation.base import Protocol
from nolabel.evaluation.compare import liken, measure, pair_up
from nolabel.methods.base import Method
from nolabel.report.comparison import compared
from nolabel.report.page import write_comparison, write_report
from nolabel.report.records import read_record
from nolabel.runs import make_folder, status_of, write_atomically
from nolabel.training.begin import open_images
from nolabel.training.ensure import ensure

SETTINGS = "compare.json"


@dataclass(frozen=True)
class Comparison:
    """What a comparison found."""

    runs: tuple[Path, ...]
    """folder of each method's run, with its `evaluation.jsonl`"""
    left_out: dict[str, str]
    """method -> why it was not trained"""
    title: str
    """the verdict in a line"""
    sentences: tuple[str, ...]
    report: Path
    """the page that shows it"""


@contextmanager
def _no_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


def compare(
    data: str, *, minutes: float = 10.0, methods: Sequence[str] | None = None,
    protocols: Sequence[str | Protocol] = ("linear", "knn"), baselines: Sequence[str] = known.DEFAULT,
    encoder: str = "resnet10", size: int | None = None, values: int = VALUES, labels: Path | None = None,
    seed: int = 0, out: str | Path | None = None,
    pretrain: Callable[..., Any] = api.pretrain, say: Callable[[str], object] = lambda text: None,
    counting: Callable[[str], AbstractContextManager[Callable[[int, int], None]]] = _no_bar,
    illustrate: Callable[[Path, ImageStore], object] = lambda folder, images: None,
) -> Comparison:  # fmt: skip
    """Pretrain several methods for equal minutes on labelled images, measure them, and say which to take.

    Called again with the same `out` it goes on where it stopped; methods may be added. Where the images have no
    test split, a stratified fifth of them is held out of pretraining as well.

    Args:
        data: labelled images, a source as for `pretrain`.
        minutes: of training for each method.
        methods: names or files; None: all.
        protocols, baselines, values, labels, seed: as for `evaluate`. encoder, size: as for `pretrain`.
        out: folder of the comparison; None: `runs/compare-NAME`.
        pretrain: called as `nolabel.pretrain` for each method.
        say: told in a line what is done. counting: of a text, a context whose calls with (done, in all) move a bar.
        illustrate: called with the first run's folder and the images before the report is written.

    Raises:
        UsageError: an unknown method or protocol, a folder with another comparison, or no method can train the encoder.
        DataError: labels that allow no evaluation.
    """
    names = _checked(methods or catalog.names("methods"), protocols, baselines)
    folder = Path(out) if out else Path("runs") / f"compare-{Path(data).stem}"
    images = hold_out(open_images(data, size, labels)[0], seed)
    settings = {"data": data, "minutes": minutes, "encoder": encoder, "size": size, "seed": seed}
    _same_settings(folder, settings | {"labels": None if labels is None else str(labels)})
    places = {name: folder / catalog.short_name(name) for name in names}
    say(_plan(places, minutes, images))
    left_out = _train(places, images, pretrain, say, encoder=encoder, seed=seed, length={"minutes": minutes},
                      size=size, labels=labels)  # fmt: skip
    runs = [place for name, place in places.items() if name not in left_out]
    if not runs:
        raise UsageError("No method can train this encoder at this size: choose another --size or --encoder.")
    for place in runs:
        # Random weights start as each method does; what does not hang on the encoder is measured once.
        own = tuple(one for one in baselines if one in known.OF_ITS_ARCHITECTURE or place is runs[0])
        with counting(f"Measuring {place.name}") as bar:
            _measured(place, images, bar, protocols=protocols, baselines=own, values=values, seed=seed)
    pair_up(runs, images, seed)
    liken(runs, images, seed)
    illustrate(runs[0], images)
    for place in runs:
        write_report(place)
    page = write_comparison(runs, folder / "report.html")
    verdict = compared([read_record(place) for place in runs])
    return Comparison(tuple(runs), left_out, verdict.title, tuple(verdict.sentences), page)


def _checked(
    methods: Sequence[str], protocols: Sequence[str | Protocol], baselines: Sequence[str]
) -> list[str]:
    """The methods' names as the catalogue has them; UsageError unless they, protocols and baselines are there."""
    names = list(dict.fromkeys(name if "." in name else name.replace("-", "_") for name in methods))
    called: dict[str, str] = {}
    for name in names:
        catalog.load("methods", name, Method)
        other = called.setdefault(catalog.short_name(name), name)
        if other != name:
            raise UsageError(
                f"{other} and {name} are both called {catalog.short_name(name)}: rename one of the files."
            )
    for protocol in protocols:
        if isinstance(protocol, str):
            catalog.load("evaluation", protocol, Protocol)
    for baseline in baselines:
        known.check(baseline)
    return names


def _plan(places: Mapping[str, Path], minutes: float, images: ImageStore) -> str:
    """How long it will take, that it may be stopped, and which images are kept from training."""
    todo = sum(status_of(place) != "finished" for place in places.values())
    return (
        f"To train: {todo} of {len(places)} methods, {minutes:g} minutes each ({todo * minutes:g} in all), and then "
        f"minutes each to measure (most for those that cut images into tiles). Stop it when you like: the same "
        f"command goes on."
        + (
            f"\nThere is no test split, so of the images {images.divided}, of pretraining too."
            if images.divided
            else ""
        )
    )


def _train(
    places: Mapping[str, Path], images: ImageStore, pretrain: Callable[..., Any],
    say: Callable[[str], object], **settings: Any,
) -> dict[str, str]:  # fmt: skip
    """A finished run of every method in its place; method -> why it cannot be trained. Errors as `ensure`."""
    left_out: dict[str, str] = {}
    for name, place in places.items():
        say(f"\n--- {place.name.replace('_', ' ')} ---")
        try:
            if not ensure(pretrain, place, name, images, **settings):
                say("trained already")
        except UsageError as error:
            if status_of(place) is not None:
                raise
            left_out[name] = str(error)
            say(f"Left out: {error}")
    return left_out


def _measured(place: Path, store: ImageStore, bar: Callable[[int, int], None], **asked: Any) -> None:
    measure(place, store, progress=lambda what, done, total: bar(done, total), **asked)


def _same_settings(folder: Path, settings: Mapping[str, object]) -> None:
    """Keep the settings of a new comparison; raise UsageError where `folder` holds one with others."""
    path = folder / SETTINGS
    if path.is_file():
        held = {"labels": None} | json.loads(path.read_text(encoding="utf-8"))
        if held != settings:
            raise UsageError(
                f"{folder} holds a comparison with other settings ({held}): choose another --out."
            )
        return
    make_folder(folder)
    if any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: choose another --out.")
    write_atomically(path, json.dumps(settings, indent=2) + "\n")
