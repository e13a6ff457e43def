"""`nolabel study NAME DATA`: an experiment of many runs on your own images, at a budget you choose."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.cli.evaluate import LISTED
from nolabel.data.store import ImageStore
from nolabel.evaluation._split import check_labels
from nolabel.report._text import percent
from nolabel.runs import training_size, write_atomically
from nolabel.studies import heads, run, seeds
from nolabel.studies.composition import OPERATIONS
from nolabel.studies.picture import heat_map
from nolabel.training.begin import LARGEST_DEFAULT_SIZE


def study(
    name: Literal["augmentations", "heads", "seeds"],
    data: str,
    /,
    *,
    minutes: Annotated[
        float, Parameter(help="of training for each run: augmentations are 49 runs, heads 3, seeds 15")
    ] = 1.0,
    encoder: Annotated[str, Parameter(help="as for nolabel pretrain")] = "resnet10",
    labels: Annotated[Path | None, Parameter(help="CSV with the header path,label")] = None,
    out: Annotated[
        Path | None, Parameter(help="folder; the same again goes on where a study stopped")
    ] = None,
    seed: Annotated[int, Parameter(help="of all randomness")] = 0,
    counts: Annotated[
        tuple[int, ...], LISTED, Parameter(help="seeds: how many, separated by commas")
    ] = seeds.COUNTS,
    forms: Annotated[
        tuple[str, ...], LISTED, Parameter(help="seeds: Exemplar's forms, separated by commas")
    ] = seeds.FORMS,
) -> None:
    """Repeat SimCLR's study of augmentations or of the projection head, or Exemplar's of the number of its seeds.

    It goes on where it was stopped.

    Parameters
    ----------
    name
        augmentations: the heat-map of single and paired operations on one branch; heads: none, linear, non-linear;
        seeds: accuracy and size of the head for 50 to 1,000 seeds in Exemplar's three forms.
    data
        Labelled images: a folder, .zip or .tar, or a data set's name.
    """
    folder = out or Path("runs") / f"study-{name}-{Path(data).stem}"
    check_labels(data, LARGEST_DEFAULT_SIZE, labels, seed)
    settings = {"minutes": minutes, "encoder": encoder, "labels": labels, "seed": seed}
    if name == "augmentations":
        found = run.carry_out(run.augmentations(), data, folder, say=_screen.line, **settings)
        picture = heat_map(found, OPERATIONS, f"Linear probe, top-1 in %, {minutes:g} min a run")
        write_atomically(folder / "augmentations.svg", picture)
        _screen.line(f"The heat-map is {folder / 'augmentations.svg'}.")
        return
    if name == "seeds":
        _show_seeds(
            seeds.carry_out(counts, forms, data, folder, say=_screen.line, **settings), folder, minutes
        )
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


def _show_seeds(found: list[seeds.Point], folder: Path, minutes: float) -> None:
    title = f"Exemplar: more seeds, {minutes:g} min a run"
    write_atomically(folder / "seeds.svg", seeds.picture(found, title))
    columns = ("linear probe", "kNN", "held-out answers right", "parameters of the head", "remembered values")
    rows = [
        (
            point.form,
            f"{point.seeds:,}",
            percent(point.linear),
            percent(point.knn),
            "" if point.solved is None else percent(point.solved),
            f"{point.parameters:,}",
            f"{point.remembered:,}",
        )
        for point in found
    ]
    _screen.table(("form", "seeds", *columns), rows, right=("seeds", *columns))
    _screen.line(
        "An answer names the seed of a copy; of triplets it is right where the copy of the same seed is the nearer one."
    )
    _screen.line(f"The picture is {folder / 'seeds.svg'}.")
