"""`nolabel colorize`: grey photographs in the colours that a trained colorization gives them."""

import csv
import io
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter
from PIL import Image

from nolabel.cli import _screen
from nolabel.data import layout, sources
from nolabel.data.files import Skipped
from nolabel.data.read import BYTE_LIMIT, Unreadable, read_image
from nolabel.data.workers import Blob
from nolabel.errors import DataError, UsageError
from nolabel.methods._colouring import Coloured, colour_photograph
from nolabel.methods.colorization import Colorization
from nolabel.report._text import readable
from nolabel.report.figures import png_bytes
from nolabel.runs import cannot_write, write_atomically
from nolabel.training.restore import load_method

SHEET = "sheet"
MOST_ROWS = 12
"""photographs on the sheet"""
MOST_SAID = 5
"""skipped files that are named on the screen"""
SIDE = 360
"""longer side of a picture on the sheet, in pixels"""


@dataclass(frozen=True)
class _Row:
    """One row of the sheet: pictures uint8 (h, w, 3)."""

    name: str
    pictures: dict[str, np.ndarray]


def colorize(
    run: Path,
    /,
    *images: Path,
    out: Annotated[Path, Parameter(help="folder of the coloured photographs")] = Path("coloured"),
    temperature: Annotated[
        float | None,
        Parameter(
            help="0: the commonest colour, 1: the mean, which is greyish; the run's own when not given"
        ),
    ] = None,
) -> None:
    """Colour black-and-white photographs with a trained colorization.

    Colour photographs are turned grey first. Writes a PNG of full size for each, and sheet.png, which shows them
    side by side: grey, coloured and, where there was colour, the truth.

    Parameters
    ----------
    run
        The folder of a run of `nolabel pretrain colorization`.
    images
        Photographs, folders or archives of them.
    """
    method = _trained(run, temperature)
    count, found, skipped = _find(images, out)
    rows: list[_Row] = []
    names: set[str] = {SHEET}
    done = 0
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{out} is a file: name a folder with --out.") from None
    except OSError as error:
        raise cannot_write(out, error) from error
    with _screen.counting("Colouring") as progress:
        for place, (path, blob) in enumerate(found, 1):
            try:
                coloured = colour_photograph(method, _pixels(blob), temperature)
            except Unreadable as error:
                skipped.append(Skipped(path, str(error)))
            else:
                done += 1
                write_atomically(out / f"{_unused(path, names)}.png", _png(coloured.coloured))
                if done <= MOST_ROWS:
                    rows.append(_row(path, coloured))
            progress(place, count)
    _tell(out, rows, done, skipped)


def _trained(run: Path, temperature: float | None) -> Colorization:
    method = load_method(run)
    if not isinstance(method, Colorization):
        raise UsageError(
            f"The run in {run} trained another method than colorization: give a run of "
            "`nolabel pretrain colorization`."
        )
    if temperature is not None and not method.bins:
        raise UsageError(f"The run in {run} gives one colour a place by regression: leave --temperature out.")
    if temperature is not None and not 0 <= temperature < math.inf:
        raise UsageError(f"--temperature {temperature:g} is no temperature: give a number of 0 or more.")
    return method


def _find(images: Sequence[Path], out: Path) -> tuple[int, Iterator[tuple[str, Blob]], list[Skipped]]:
    """How many files there are, each one's path and bytes, and what is no photograph."""
    if not images:
        raise UsageError("No photographs are named: give files, folders or archives after the run.")
    for image in images:
        held = image.is_dir() and out.resolve().is_relative_to(image.resolve())
        if held or (image.is_file() and out.resolve() == image.resolve().parent):
            raise UsageError(f"{out} would lie inside the images {image}: name another folder with --out.")
    parts: list[Iterator[tuple[str, Blob]]] = []
    skipped: list[Skipped] = []
    count = 0
    for image in images:
        if image.is_file() and layout.kind(image.name) in ("image", "unknown"):
            parts.append(_file(image))
            count += 1
            continue
        files = sources.find(image).load()
        parts.append(zip(files.paths, files.blobs(), strict=True))
        skipped += files.skipped
        count += len(files.paths)
    return count, itertools.chain.from_iterable(parts), skipped


def _file(path: Path) -> Iterator[tuple[str, Blob]]:
    try:
        large = path.stat().st_size > BYTE_LIMIT
        yield str(path), f"too large: more than {BYTE_LIMIT >> 20} MB" if large else path.read_bytes()
    except OSError as error:
        yield str(path), f"cannot be read: {error.strerror}"


def _pixels(blob: Blob) -> torch.Tensor:
    """uint8 (3, H, W); raises Unreadable."""
    if isinstance(blob, str):
        raise Unreadable(blob)
    picture = read_image(blob)
    pixels = torch.frombuffer(bytearray(picture.pixels), dtype=torch.uint8)
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)


def _unused(path: str, names: set[str]) -> str:
    """The name of the file at `path` without its suffix, with a number where another photograph has it already."""
    stem = readable(PurePosixPath(path.replace(os.sep, "/")).stem)
    tried = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    name = next(name for name in tried if name.lower() not in names)
    names.add(name.lower())
    return name


def _array(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).contiguous().numpy()


def _png(image: torch.Tensor) -> bytes:
    held = io.BytesIO()
    Image.fromarray(_array(image)).save(held, "png")
    return held.getvalue()


def _row(path: str, photograph: Coloured) -> _Row:
    shown = {"grey": photograph.grey, "coloured": photograph.coloured}
    if photograph.truth is not None:
        shown["truth"] = photograph.truth
    pictures = {}
    for title, image in shown.items():
        small = Image.fromarray(_array(image))
        small.thumbnail((SIDE, SIDE))
        pictures[title] = np.asarray(small)
    return _Row(readable(path), pictures)


def _sheet(rows: Sequence[_Row]) -> bytes:
    """PNG: a photograph a row, its name below it; titles above the first that has all columns."""
    from matplotlib.figure import Figure

    columns = max((list(row.pictures) for row in rows), key=len)
    shapes = [row.pictures["grey"].shape for row in rows]
    heights = [min(1.3, max(0.2, height / width)) for height, width, _ in shapes]
    figure = Figure((3.2 * len(columns), 3.2 * sum(heights) + 0.35 * len(rows) + 0.3), dpi=120)
    figure.set_layout_engine("constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    for axis in grid.flat:
        axis.set_axis_off()
    for place, (row, axes) in enumerate(zip(rows, grid, strict=True)):
        for title, axis in zip(columns, axes, strict=True):
            if title in row.pictures:
                axis.imshow(row.pictures[title])
            if not place:
                axis.text(0.5, 1.06, title, transform=axis.transAxes, ha="center", fontsize=13)
        axes[0].text(0, -0.02, row.name[-48:], transform=axes[0].transAxes, va="top", fontsize=8)
    return png_bytes(figure)


def _tell(out: Path, rows: Sequence[_Row], done: int, skipped: Sequence[Skipped]) -> None:
    """Write the sheet and the list of skipped files, and say what was done.

    Raises:
        DataError: not one photograph could be read.
    """
    if skipped:
        text = io.StringIO(newline="")
        listed = csv.writer(text, lineterminator="\n")
        listed.writerows([("path", "reason"), *((one.path, one.reason) for one in skipped)])
        write_atomically(out / "skipped.csv", text.getvalue().encode("utf-8", "surrogateescape"))
        named = ", ".join(f"{one.path} ({one.reason})" for one in skipped[:MOST_SAID])
        more = ", ..." if len(skipped) > MOST_SAID else ""
        files = "1 file" if len(skipped) == 1 else f"{len(skipped):,} files"
        _screen.line(f"Skipped {files}, listed in {out / 'skipped.csv'}: {named}{more}.")
    if not done:
        raise DataError(f"Not one photograph could be read: {out / 'skipped.csv'} says why.")
    write_atomically(out / f"{SHEET}.png", _sheet(rows))
    photographs = "1 photograph" if done == 1 else f"{done:,} photographs"
    _screen.line(f"Coloured {photographs} into {out}; {out / SHEET}.png shows them side by side.")
