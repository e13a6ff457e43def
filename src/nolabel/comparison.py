"""`nolabel.compare`: methods at equal minutes on one encoder, beside baselines, and a verdict."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nolabel import api, catalog
from nolabel.data.store import ImageStore
from nolabel.encoders.base import check_name
from nolabel.errors import UsageError
from nolabel.evaluation import baselines as known
from nolabel.evaluation._features import VALUES, check_values
from nolabel.evaluation._kept import OF_ITS_ARCHITECTURE
from nolabel.evaluation._split import hold_out
from nolabel.evaluation.base import POOLED, Protocol, check_stage
from nolabel.evaluation.compare import liken, measure, pair_up
from nolabel.evaluation.run import protocol_of, ready
from nolabel.methods.base import Method
from nolabel.report.comparison import compared
from nolabel.report.page import write_comparison, write_report
from nolabel.report.records import read_record
from nolabel.runs import DESCRIPTION, make_folder, status_of, write_atomically
from nolabel.training.begin import open_images
from nolabel.training.budget import Budget
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
    data: str | Path, *, minutes: float = 10.0, methods: Sequence[str] | None = None,
    protocols: Sequence[str | Protocol] = ("linear", "knn"), baselines: Sequence[str] = known.DEFAULT,
    encoder: str = "resnet10", size: int | None = None, values: int = VALUES, labels: Path | None = None,
    seed: int = 0, out: str | Path | None = None,
    pretrain: Callable[..., Any] = api.pretrain, say: Callable[[str], object] = lambda text: None,
    counting: Callable[[str], AbstractContextManager[Callable[[int, int], None]]] = _no_bar,
    illustrate: Callable[[Sequence[Path], ImageStore], object] = lambda folders, images: None,
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
        illustrate: called with the runs' folders and the images before the reports are written.

    Raises:
        UsageError: an unknown name or stage, no minutes or values, a folder with another comparison or in use, or no
            method can train the encoder.
        DataError: labels or images that allow no evaluation under one of the protocols; nothing is trained then.
    """
    names = _checked(methods or catalog.names("methods"), protocols, baselines, encoder, minutes)
    check_values(values)
    folder = Path(out) if out else Path("runs") / f"compare-{Path(data).stem}"
    images = hold_out(open_images(data, size, labels)[0], seed)
    shown = _enough_for(baselines, images, data, labels, seed)
    ready(protocols, shown, seed)
    settings = {"data": str(data), "minutes": minutes, "encoder": encoder, "size": size, "seed": seed}
    places = {name: folder / catalog.short_name(name) for name in names}
    with _settings_kept(folder, settings | {"labels": None if labels is None else str(labels)}):
        say(_plan(places, minutes, images))
        left_out = _train(places, images, pretrain, say, encoder=encoder, seed=seed, length={"minutes": minutes},
                          size=size, labels=labels)  # fmt: skip
    runs = [place for name, place in places.items() if name not in left_out]
    if not runs:
        raise UsageError("No method can train this encoder at this size: choose another --size or --encoder.")
    for place in runs:
        # Random weights start as each method does; what does not hang on the encoder is measured once.
        own = tuple(one for one in baselines if one in OF_ITS_ARCHITECTURE or place is runs[0])
        with counting(f"Measuring {place.name}") as bar:
            _measured(place, shown, bar, protocols=protocols, baselines=own, values=values, seed=seed)
    pair_up(runs, shown, seed)
    liken(runs, shown, seed)
    illustrate(runs, images)
    for place in runs:
        write_report(place)
    page = write_comparison(runs, folder / "report.html")
    verdict = compared([read_record(place) for place in runs])
    return Comparison(tuple(runs), left_out, verdict.title, tuple(verdict.sentences), page)


def _checked(
    methods: Sequence[str],
    protocols: Sequence[str | Protocol],
    baselines: Sequence[str],
    encoder: str,
    minutes: float,
) -> list[str]:
    """The methods' names as the catalogue has them; UsageError unless all that is named is there, and minutes are."""
    names = list(dict.fromkeys(name if "." in name else name.replace("-", "_") for name in methods))
    called: dict[str, str] = {}
    for name in names:
        catalog.load("methods", name, Method)
        other = called.setdefault(catalog.short_name(name), name)
        if other != name:
            raise UsageError(
                f"{other} and {name} are both called {catalog.short_name(name)}: rename one of the files."
            )
    stages = (*check_name(encoder), POOLED)
    for protocol in map(protocol_of, protocols):
        if (stage := getattr(protocol.options, "stage", None)) is not None:
            check_stage(stage, stages)
    for baseline in baselines:
        known.check(baseline)
    Budget(minutes=minutes)
    return names


def _enough_for(
    baselines: Sequence[str], images: ImageStore, data: str | Path, labels: Path | None, seed: int
) -> ImageStore:
    """The images to measure on: those of the runs, or as large as the baselines need them."""
    side = known.least_side(baselines)
    if side <= images.opened_at:
        return images
    return hold_out(ImageStore.open(data, size=side, labels=labels), seed)


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
            if place.is_file() or (place.is_dir() and any(place.iterdir())):
                raise  # it is of the folder or of the run in it, not of the method
            left_out[name] = str(error)
            say(f"Left out: {error}")
    return left_out


def _measured(place: Path, store: ImageStore, bar: Callable[[int, int], None], **asked: Any) -> None:
    measure(place, store, progress=lambda what, done, total: bar(done, total), **asked)


@contextmanager
def _settings_kept(folder: Path, settings: Mapping[str, object]) -> Iterator[None]:
    """Keep the settings of a new comparison in `folder` as long as a run of it is there.

    Raises:
        UsageError: `folder` holds a comparison with other settings, or something else.
    """
    path = folder / SETTINGS
    if path.is_file():
        held = {"labels": None} | json.loads(path.read_text(encoding="utf-8"))
        if held != settings:
            raise UsageError(
                f"{folder} holds a comparison with other settings ({held}): choose another --out."
            )
    else:
        make_folder(folder)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty: choose another --out.")
        write_atomically(path, json.dumps(settings, indent=2) + "\n")
    try:
        yield
    finally:
        if not any(folder.glob(f"*/{DESCRIPTION}")):
            path.unlink(missing_ok=True)
