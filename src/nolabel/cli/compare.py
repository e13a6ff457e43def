"""`nolabel compare DATA`: methods at equal minutes on one encoder, beside baselines, and a verdict."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nolabel import catalog
from nolabel.cli import _screen
from nolabel.cli._method_options import method_file
from nolabel.cli._pretrain import train
from nolabel.cli._shared import Shared
from nolabel.cli.evaluate import LISTED
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError
from nolabel.evaluation import baselines as known
from nolabel.evaluation.compare import measure, pair_up
from nolabel.report.comparison import compared
from nolabel.report.page import write_comparison, write_report
from nolabel.report.records import BASELINES, read_record
from nolabel.runs import DESCRIPTION, read_description, write_atomically

SETTINGS = "compare.json"


def compare(
    data: str,
    /,
    *,
    minutes: Annotated[float, Parameter(help="of training for each method")] = 10.0,
    methods: Annotated[tuple[str, ...], LISTED, Parameter(help="separated by commas")] = catalog.names(
        "methods"
    ),
    protocols: Annotated[tuple[str, ...], LISTED, Parameter(help="separated by commas")] = ("linear", "knn"),
    baselines: Annotated[
        tuple[str, ...], LISTED, Parameter(help=f"of {', '.join(known.NAMES)}, separated by commas")
    ] = known.DEFAULT,
    encoder: Annotated[str, Parameter(help="as for nolabel pretrain")] = "resnet10",
    size: Annotated[int | None, Parameter(help="side in pixels; the images' own, at most 96")] = None,
    labels: Annotated[Path | None, Parameter(help="CSV with the header path,label")] = None,
    seed: Annotated[int, Parameter(help="of all randomness")] = 0,
    out: Annotated[
        Path | None, Parameter(help="folder; the same command again goes on where it stopped")
    ] = None,
) -> None:
    """Pretrain several methods for equal minutes on your labelled images, measure them, and say which to take."""
    names = [name if "." in name else name.replace("-", "_") for name in methods]
    for name in names:
        method_file(name)
    folder = out or Path("runs") / f"compare-{Path(data).stem}"
    _same_settings(folder, {"data": data, "minutes": minutes, "encoder": encoder, "size": size, "seed": seed})
    runs = []
    for name in names:
        place = folder / Path(name).stem
        _screen.line(f"\n--- {name.replace('_', ' ')} ---")
        try:
            shared = Shared(encoder=encoder, size=size, minutes=minutes, labels=labels, seed=seed, out=place)
            _trained(name, data, place, shared)
            runs.append(place)
        except UsageError as error:
            _screen.line(f"Left out: {error}")
    if not runs:
        raise UsageError(
            "None of the methods can train this encoder at this size: choose another --size or --encoder."
        )
    side = read_description(runs[0])["data"]["opened_at"]
    store = ImageStore.open(data, size=side, labels=labels)
    for number, place in enumerate(runs):
        # Baselines without a network are the same for all; random weights start as each method does.
        own = tuple(one for one in baselines if one not in BASELINES or number == 0)
        with _screen.counting(f"Measuring {place.name}") as bar:
            measure(place, store, protocols=protocols, baselines=own, seed=seed,
                    progress=lambda what, done, total, bar=bar: bar(done, total))  # fmt: skip
    pair_up(runs, store, seed)
    for place in runs:
        write_report(place)
    page = write_comparison(runs, folder / "report.html")
    verdict = compared([read_record(place) for place in runs])
    _screen.line(f"\n{verdict.title}. {' '.join(verdict.sentences)}")
    _screen.line(f"\nLook at {page}: open it in a browser.")


def _trained(name: str, data: str, place: Path, shared: Shared) -> None:
    """A finished run in `place`: begun, gone on with, or there already."""
    status = read_description(place)["status"] if (place / DESCRIPTION).is_file() else None
    if status is None:
        train(name, data, None, shared)
    elif status != "finished":
        train(name, data, None, replace(shared, minutes=None, resume=True))
    else:
        _screen.line("trained already")


def _same_settings(folder: Path, settings: dict[str, object]) -> None:
    """Keep the settings of a new comparison; raise UsageError where `folder` holds one with others."""
    path = folder / SETTINGS
    if path.is_file():
        held = json.loads(path.read_text())
        if held != settings:
            raise UsageError(
                f"{folder} holds a comparison with other settings ({held}): choose another --out."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(settings, indent=2) + "\n")
