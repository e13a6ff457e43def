"""`nolabel search`: the images most like one image, as text and as a picture."""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.cli._vectors import vectors
from nolabel.data.read import BYTE_LIMIT, Unreadable, read_image
from nolabel.data.store import STORAGE_MARGIN, ImageStore
from nolabel.encoders._io import image_size, load_encoder
from nolabel.errors import DataError, UsageError
from nolabel.report._text import readable
from nolabel.report.figures import matches_figure
from nolabel.runs import write_atomically


def search(
    encoder: Path,
    data: str,
    query: Path,
    /,
    *,
    k: Annotated[int, Parameter(help="how many to show")] = 8,
    out: Annotated[Path | None, Parameter(help="the picture, a .png file [default: matches.png]")] = None,
    size: Annotated[int | None, Parameter(help="side in pixels; the encoder's own")] = None,
    workers: Annotated[int, Parameter(help="processes that read the images; 0: one per core")] = 0,
) -> None:
    """Find the images most like one image.

    Prints them nearest first, with the cosine of their vectors (1: the same), and writes a picture of them.

    Parameters
    ----------
    encoder
        A run folder or an encoder.safetensors.
    data
        The images to search in: a folder, .zip or .tar, a list of paths, or a data set's name.
    query
        The image to look for.
    """
    if k < 1:
        raise UsageError(f"--k {k} must be at least 1.")
    if out is None and Path.cwd().is_relative_to(Path(data).resolve()):
        raise UsageError("matches.png would lie inside the images: name another place with --out.")
    out = out or Path("matches.png")
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise UsageError(f"--out {out} must be a .png file in a folder that exists.")
    loaded = load_encoder(encoder)
    side = size or image_size(encoder, loaded)
    image = _read_query(query, math.ceil(STORAGE_MARGIN * side))
    with _screen.counting("Reading images") as progress:
        store = ImageStore.open(data, size=side, workers=workers, progress=progress, minimum=1)
    _screen.line(store.describe())
    asked = vectors(loaded, ImageStore.of([image]), size=side)[0]
    with _screen.counting("Embedding") as progress:
        found = vectors(loaded, store, size=side, progress=progress)
    cosines = found @ asked / np.maximum(np.linalg.norm(found, axis=1) * np.linalg.norm(asked), 1e-12)
    nearest = np.argsort(-cosines, kind="stable")[:k].tolist()
    rows = []
    for rank, i in enumerate(nearest, 1):
        label = int(store.labels[i])
        rows.append(
            (rank, f"{cosines[i]:.3f}", store.class_names[label] if label >= 0 else "", store.paths[i])
        )
    _screen.table(("", "cosine", "class", "path"), rows, right=("", "cosine"))
    shown = store.batch(torch.tensor(nearest))
    matches = [_picture(shown.image(b)) for b in range(shown.size)]
    names = [readable(label or path) for _, _, label, path in rows]
    write_atomically(out, matches_figure(_picture(image), matches, cosines[nearest].tolist(), names))
    _screen.line(f"The picture is in {out}.")


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
