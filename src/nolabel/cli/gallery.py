"""`nolabel gallery DATA`: a picture and a paragraph for every method, from the person's own images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from cyclopts import Parameter

from nolabel import catalog
from nolabel.cli import _screen
from nolabel.cli._places import check_apart
from nolabel.data.store import ImageStore
from nolabel.encoders._initial import IMAGES, initial_encoder
from nolabel.errors import UsageError
from nolabel.evaluation._split import divided_as
from nolabel.methods.base import DataInfo, Method
from nolabel.report import figures
from nolabel.report._text import capitalised
from nolabel.report.gallery import Exhibit, write_gallery
from nolabel.report.records import method_in_words
from nolabel.runs import opened_at, read_description
from nolabel.seeds import generator
from nolabel.training.begin import LARGEST_DEFAULT_SIZE, default_size, labels_of
from nolabel.training.restore import load_method
from nolabel.training.work import training_images
from nolabel.views import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 3
"""images in a picture"""
PREPARED = 2000
"""images that a method may look over before it draws"""
ENCODER = "resnet10"


def gallery(
    data: str,
    /,
    *,
    runs: Annotated[
        tuple[Path, ...],
        Parameter(
            consume_multiple=True,
            negative=(),
            help="trained runs, whose answers are drawn with their errors marked",
        ),
    ] = (),
    out: Annotated[Path, Parameter(help="the page to write")] = Path("gallery.html"),
    size: Annotated[int | None, Parameter(help="side in pixels; the images' own, at most 96")] = None,
    seed: Annotated[int, Parameter(help="of the images and patches that are drawn")] = 0,
) -> None:
    """Draw every method's task from your own images, on one page."""
    if not out.parent.is_dir() or out.is_dir():
        raise UsageError(f"--out {out} must be a file in a folder that exists.")
    check_apart(out, data)
    trained = _of_methods(runs)
    with _screen.counting("Reading images") as progress:
        store = ImageStore.open(data, size=LARGEST_DEFAULT_SIZE if size is None else size, progress=progress)
    _screen.line(store.describe())
    names = list(dict.fromkeys([*catalog.names("methods"), *trained]))
    exhibits = [
        exhibit(name, *parts(data, store, trained.get(name), seed), trained.get(name), size, seed)
        for name in names
    ]
    subtitle = (
        "How an encoder can learn from images that nobody has labelled: each method hides something of an image, and "
        "the network has to find it. What it must understand to do so is what it learns."
    )
    page = write_gallery(exhibits, "Learning without labels: the methods", subtitle, out)
    _screen.line(f"Look at {page}: open it in a browser.")


def _of_methods(runs: tuple[Path, ...]) -> dict[str, Path]:
    """Method -> its run. UsageError where two runs are of one method."""
    found: dict[str, Path] = {}
    for folder in runs:
        method = read_description(folder)["method"]
        other = found.setdefault(method, folder)
        if other != folder:
            raise UsageError(
                f"{other} and {folder} are both runs of {method}, and the gallery has one picture of a method: "
                f"name one of them."
            )
    return found


def parts(
    data: str, store: ImageStore, folder: Path | None, seed: int
) -> tuple[ImageStore, ImageStore | None]:
    """(images to train on, images held out or None): of the run in `folder`, as it divided and stored them.

    Of other images than those of the run nothing says which it has seen, so that none are held out.
    """
    if folder is None:
        return training_images(store, seed)
    info = read_description(folder)
    held, labels = info["data"], labels_of(info)
    side = opened_at(folder, data)
    if side is not None and (side, labels) != (store.opened_at, None):
        store = ImageStore.open(data, size=side, labels=labels)
    if held.get("divided") and Path(held["source"]).name == Path(data).name:
        store = divided_as(store, held["divided"], info["seed"])
    train, held_out = training_images(store, info["seed"])
    return train, held_out if store.fingerprint == held["fingerprint"] else None


def exhibit(
    name: str, train: ImageStore, held_out: ImageStore | None, folder: Path | None, size: int | None, seed: int
) -> Exhibit:  # fmt: skip
    """One method's picture: of the trained run in `folder`, else of the task alone."""
    kind = catalog.load("methods", name, Method)
    try:
        picture = figures.svg_bytes(draw(name, train, held_out, folder, size, seed))
        note = _note(kind, held_out is not None, folder)
    except UsageError as error:
        picture, note = b"", f"No picture of this method: {error}"
    words = capitalised(method_in_words(name))
    return Exhibit(catalog.short_name(name), words, kind.paper, kind.explained, picture, note)


def _note(kind: type[Method], apart: bool, folder: Path | None) -> str:
    """What a picture shows; `apart`: the images were held out."""
    if folder is None:
        return "The task, drawn from your images."
    images = "images it was not trained on" if apart else "images that it may have been trained on"
    return f"What the run in {folder} answers on {kind.unseen or images}."


def draw(
    name: str, train: ImageStore, held_out: ImageStore | None, folder: Path | None, size: int | None, seed: int
) -> "Figure":  # fmt: skip
    """The panel of one method over a few images, with the answers of the run in `folder` where there is one.

    Raises:
        UsageError: the method cannot be drawn from these images.
    """
    shown = train if held_out is None else held_out
    kind = catalog.load("methods", name, Method)
    method = load_method(folder) if folder else _untrained(kind, train, size, seed)
    rows = torch.randperm(len(shown), generator=generator(seed, "gallery"))[:ROWS]
    with torch.no_grad():
        return method.eval().panel(
            shown.batch(rows), generator(seed, "gallery", name), trained=folder is not None
        )


def _untrained(kind: type[Method], train: ImageStore, size: int | None, seed: int) -> Method:
    """The method before its first step; at the images' own size where none is given."""
    size = default_size(train) if size is None else size
    few = train.subset(torch.randperm(len(train), generator=generator(seed, "gallery", "prepare"))[:PREPARED])
    options, info = kind.Options(), DataInfo(len(few), size)
    images = plain.whole(few.batch(torch.arange(min(len(few), IMAGES))), size)
    encoder = initial_encoder(ENCODER, kind.encoder_size(options, info), images, stem="random", seed=seed)
    method = kind(encoder, options, info)
    method.prepare(few, generator(seed, "prepare"))
    return method
