"""`nolabel search`: the images most like one image, as text and as a picture."""

import math
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.cli._places import check_apart
from nolabel.cli._vectors import vectors
from nolabel.cli.evaluate import LISTED
from nolabel.data.batch import check_size
from nolabel.data.read import BYTE_LIMIT, Unreadable, read_image
from nolabel.data.store import STORAGE_MARGIN, ImageStore
from nolabel.encoders._io import image_size, load_encoder
from nolabel.encoders.base import Encoder
from nolabel.errors import DataError, UsageError
from nolabel.evaluation._features import extract
from nolabel.evaluation._split import divide
from nolabel.evaluation._untrained import untrained
from nolabel.evaluation.supervised import Supervised, SupervisedOptions
from nolabel.report._text import readable
from nolabel.report.columns import columns_figure
from nolabel.report.figures import matches_figure, png_bytes
from nolabel.runs import folder_of, write_atomically

RANDOM, SUPERVISED = "random", "supervised"


def search(
    encoder: Path,
    data: str,
    query: Path,
    /,
    *,
    k: Annotated[int, Parameter(help="how many to show")] = 8,
    out: Annotated[Path | None, Parameter(help="the picture, a .png file [default: matches.png]")] = None,
    beside: Annotated[
        tuple[str, ...],
        LISTED,
        Parameter(
            help="more encoders, a column each; `random`: untrained weights; `supervised`: the same network, trained "
            "from scratch with the labels of the training images; separated by commas"
        ),
    ] = (),
    size: Annotated[int | None, Parameter(help="side in pixels; the encoder's own")] = None,
    workers: Annotated[int, Parameter(help="processes that read the images; 0: one per core")] = 0,
) -> None:
    """Find the images most like one image.

    Prints them nearest first, with the cosine of their vectors (1: the same), and writes a picture of them.
    With --beside the picture has a column for each encoder: what one finds that another does not.

    Parameters
    ----------
    encoder
        A run folder or an encoder.safetensors.
    data
        The images to search in: a folder, .zip or .tar, a list of paths, or a data set's name.
    query
        The image to look for.
    """
    out = _place(out, data, k)
    check_apart(out, query)
    names = _names([encoder, *(Path(one) for one in beside if one not in (RANDOM, SUPERVISED))])
    encoders = {name: load_encoder(place) for place, name in names.items()}
    loaded = encoders[names[encoder]]
    side = image_size(encoder, loaded) if size is None else size
    check_size(side)
    image = _read_query(query, math.ceil(STORAGE_MARGIN * side))
    with _screen.counting("Reading images") as progress:
        store = ImageStore.open(data, size=side, workers=workers, progress=progress, minimum=1)
    _screen.line(store.describe())
    if SUPERVISED in beside:
        encoders["supervised on train"] = _supervised(loaded, store, side)
    if RANDOM in beside:
        encoders["random weights"] = untrained(loaded, store, torch.arange(len(store)), side, seed=0)
    found = {}
    for name, one in encoders.items():
        if len(encoders) > 1:
            _screen.line(f"\n{name}")
        found[name] = _nearest(one, store, image, side, k)
        _tell(store, *found[name])
    write_atomically(out, _drawn(store, image, found))
    _screen.line(f"The picture is in {out}.")


def _drawn(store: ImageStore, image: torch.Tensor, found: dict[str, tuple[list[int], list[float]]]) -> bytes:
    """PNG of the query and what each encoder found: a column each, or the matches of the only one."""
    if len(found) > 1:
        pictures = {name: _pictures(store, nearest) for name, (nearest, _) in found.items()}
        return png_bytes(columns_figure(_picture(image), pictures))
    ((nearest, cosines),) = found.values()
    below = [readable(_class(store, i) or store.paths[i]) for i in nearest]
    return matches_figure(_picture(image), _pictures(store, nearest), cosines, below)


def _place(out: Path | None, data: str, k: int) -> Path:
    """Where the picture goes, once the words are known to be right."""
    if k < 1:
        raise UsageError(f"--k {k} must be at least 1.")
    if out is None and Path.cwd().is_relative_to(Path(data).resolve()):
        raise UsageError("matches.png would lie inside the images: name another place with --out.")
    out = out or Path("matches.png")
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise UsageError(f"--out {out} must be a .png file in a folder that exists.")
    return out


def _names(encoders: list[Path]) -> dict[Path, str]:
    """What each is called: its run's folder, or the one that its file lies in; where two share it, the whole path."""
    folders = {one: folder_of(one).resolve().name for one in encoders}
    shared = [name for name, count in Counter(folders.values()).items() if count > 1]
    return {one: str(one) if name in shared else name for one, name in folders.items()}


def _supervised(encoder: Encoder, store: ImageStore, side: int) -> Encoder:
    """The network of `encoder` trained from scratch with the labels of the training images; says so.

    Raises:
        UsageError: no image has a label.
        DataError: labels that allow no training and choosing.
    """
    if not bool((store.labels >= 0).any()):
        raise UsageError(
            f"{store.source} has no labels to train --beside {SUPERVISED} with: put each class into its own folder, "
            f"or leave {SUPERVISED} out."
        )
    division = divide(store, seed=0)
    with _screen.counting("Training with labels") as bar:
        own = extract(
            encoder,
            store,
            division,
            name=encoder.name,
            size=side,
            progress=lambda what, done, total: bar(done, total),
        )
        trained, told = Supervised(SupervisedOptions()).train(own, seed=0)
    _screen.line(
        f"Supervised on train: {encoder.name}, trained from scratch for {told.setting['steps']:,} steps with the "
        f"labels of {len(division.train):,} training images ({division.text}), which are among those searched."
    )
    return trained


def _nearest(
    encoder: Encoder, store: ImageStore, image: torch.Tensor, side: int, k: int
) -> tuple[list[int], list[float]]:
    """Positions and cosines of the k images of the store that are most like `image`, nearest first."""
    asked = vectors(encoder, ImageStore.of([image]), size=side)[0]
    with _screen.counting("Embedding") as progress:
        found = vectors(encoder, store, size=side, progress=progress)
    cosines = found @ asked / np.maximum(np.linalg.norm(found, axis=1) * np.linalg.norm(asked), 1e-12)
    nearest = np.argsort(-cosines, kind="stable")[:k]
    return nearest.tolist(), cosines[nearest].tolist()


def _tell(store: ImageStore, nearest: list[int], cosines: list[float]) -> None:
    rows = [
        (rank, f"{cosine:.3f}", _class(store, i), store.paths[i])
        for rank, (i, cosine) in enumerate(zip(nearest, cosines, strict=True), 1)
    ]
    _screen.table(("", "cosine", "class", "path"), rows, right=("", "cosine"))


def _class(store: ImageStore, i: int) -> str:
    label = int(store.labels[i])
    return store.class_names[label] if label >= 0 else ""


def _pictures(store: ImageStore, positions: list[int]) -> list[np.ndarray]:
    shown = store.batch(torch.tensor(positions))
    return [_picture(shown.image(b)) for b in range(shown.size)]


def _read_query(query: Path, shorter: int) -> torch.Tensor:
    """uint8 (3, H, W) of an image file, read as a store reads it."""
    try:
        if query.stat().st_size > BYTE_LIMIT:
            raise DataError(f"{query} is larger than {BYTE_LIMIT >> 20} MB: give a smaller image.")
        picture = read_image(query.read_bytes(), shorter)
    except OSError as error:
        raise UsageError(f"The image {query} cannot be read ({error.strerror}): check the path.") from None
    except Unreadable as error:
        raise DataError(f"{query} cannot be read as an image ({error}): give another one.") from None
    pixels = torch.frombuffer(bytearray(picture.pixels), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)


def _picture(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()
