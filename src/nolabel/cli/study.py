"""`nolabel study NAME DATA`: an experiment of SimCLR's paper on your own images, at a budget you choose."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.data.store import ImageStore
from nolabel.report._text import percent
from nolabel.runs import training_size, write_atomically
from nolabel.studies import heads, run
from nolabel.studies.composition import OPERATIONS
from nolabel.studies.picture import heat_map


def study(
    name: Literal["augmentations", "heads"],
    data: str,
    /,
    *,
    minutes: Annotated[
        float, Parameter(help="of training for each run: augmentations are 49 runs, heads 3")
    ] = 1.0,
    encoder: Annotated[str, Parameter(help="as for nolabel pretrain")] = "resnet10",
    labels: Annotated[Path | None, Parameter(help="CSV with the header path,label")] = None,
    out: Annotated[
        Path | None, Parameter(help="folder; the same again goes on where a study stopped")
    ] = None,
    seed: Annotated[int, Parameter(help="of all randomness")] = 0,
) -> None:
    """Repeat SimCLR's study of augmentations or of the projection head; it goes on where it was stopped.

    Parameters
    ----------
    name
        augmentations: the heat-map of single and paired operations on one branch; heads: none, linear, non-linear.
    data
        Labelled images: a folder, .zip or .tar, or a data set's name.
    """
    folder = out or Path("runs") / f"study-{name}-{Path(data).stem}"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"minutes": minutes, "encoder": encoder, "labels": labels, "seed": seed}
    if name == "augmentations":
        found = run.carry_out(run.augmentations(), data, folder, say=_screen.line, **settings)
        picture = heat_map(found, OPERATIONS, f"Linear probe, top-1 in %, {minutes:g} min a run")
        write_atomically(folder / "augmentations.svg", picture)
        _screen.line(f"The heat-map is {folder / 'augmentations.svg'}.")
        return
    found = run.carry_out(run.heads(), data, folder, say=_screen.line, **settings)
    store = ImageStore.open(data, size=training_size(folder / "head-mlp2") or 32, labels=labels)
    rows = []
    for head in run.HEADS:
        told = heads.answers(folder / f"head-{head}", store, seed)
        rows += [(head, where, *map(percent, values)) for where, values in told.items()]
    _screen.line(f"What a small network reads from h and from g(h), on {heads.TEST:,} test images or fewer:")
    _screen.table(("head", "read from", *heads.QUESTIONS), rows, right=heads.QUESTIONS)
    linear = [(head, percent(value)) for (head, _), value in found.items()]
    _screen.table(
        ("head", "linear probe on the best stage"), linear, right=("linear probe on the best stage",)
    )
