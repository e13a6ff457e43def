"""`nolabel study NAME DATA`: an experiment of many runs on your own images, at a budget you choose."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.cli.evaluate import LISTED
from nolabel.evaluation._split import hold_out
from nolabel.report._text import count
from nolabel.report.records import Row
from nolabel.runs import write_atomically
from nolabel.studies import heads, run, seeds
from nolabel.studies.composition import OPERATIONS
from nolabel.studies.picture import heat_map
from nolabel.training.begin import open_images


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
    images = hold_out(open_images(data, None, labels)[0], seed)
    settings = {"minutes": minutes, "encoder": encoder, "labels": labels, "seed": seed}
    if name == "augmentations":
        found = run.carry_out(run.augmentations(), images, folder, say=_screen.line, **settings)
        shares = {place: row.value for place, row in found.items()}
        picture = heat_map(shares, OPERATIONS, f"Linear probe, top-1 in %, {minutes:g} min a run")
        write_atomically(folder / "augmentations.svg", picture)
        _screen.line(f"The heat-map is {folder / 'augmentations.svg'}.")
        return
    if name == "seeds":
        _show_seeds(
            seeds.carry_out(counts, forms, images, folder, say=_screen.line, **settings), folder, minutes
        )
        return
    found = run.carry_out(run.heads(), images, folder, say=_screen.line, **settings)
    _show_heads({head: heads.answers(folder / f"head-{head}", images, seed) for head in run.HEADS}, found)


def _show_heads(read: Mapping[str, dict[str, list[Row]]], found: Mapping[tuple[str, str], Row]) -> None:
    rows = [
        (head, where, *map(_with_ends, answers), count(answers[0].n))
        for head, told in read.items()
        for where, answers in told.items()
    ]
    _screen.line("What a small network reads from h and from g(h), with 95 % intervals:")
    right = (*heads.QUESTIONS, "test images")
    _screen.table(("head", "read from", *right), rows, right=right)
    linear = [(head, row.in_words, row.ends, count(row.n)) for (head, _), row in found.items()]
    columns = ("linear probe on the best stage", "95 % interval", "test images")
    _screen.table(("head", *columns), linear, right=columns)


def _with_ends(row: Row) -> str:
    return f"{row.in_words} ({row.ends})" if row.ends else row.in_words


def _show_seeds(found: list[seeds.Point], folder: Path, minutes: float) -> None:
    title = f"Exemplar: more seeds, {minutes:g} min a run"
    write_atomically(folder / "seeds.svg", seeds.picture(found, title))
    columns = ("linear probe", "kNN", "test images", "held-out answers right", "held-out images",
               "parameters of the head", "remembered values")  # fmt: skip
    rows = [
        (
            point.form,
            f"{point.seeds:,}",
            *map(_with_ends, (point.linear, point.knn)),
            count(point.linear.n),
            *((_with_ends(solved), count(solved.n)) if (solved := point.solved) else ("", "")),
            f"{point.parameters:,}",
            f"{point.remembered:,}",
        )
        for point in found
    ]
    _screen.table(("form", "seeds", *columns), rows, right=("seeds", *columns))
    _screen.line(
        "In brackets: 95 % intervals. An answer names the seed of a copy; of triplets it is right where the copy of "
        "the same seed is the nearer one."
    )
    _screen.line(f"The picture is {folder / 'seeds.svg'}.")
