"""The pictures of a run as arrays in `<run>/pictures/`: written by who has torch, read by the report.

| file            | holds                                                                          |
| --------------- | ------------------------------------------------------------------------------ |
| `views.npz`     | `ViewSheet`: images and what the network is given of them in training          |
| `retrieval.npz` | `Retrieval`: queries and their nearest images                                  |
| `untrained.npz` | the same by random weights of the run's network, for a comparison              |
| `filters.npz`   | `weights`, float32 (O, C, k, k): the first convolution, C is 1 or 3            |
| `panel.svg`     | the picture that explains the method; `panel.txt`: its paragraph               |
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.errors import FileFormatError
from nolabel.runs import write_atomically

FOLDER = "pictures"
RETRIEVAL = "retrieval.npz"
UNTRAINED = "untrained.npz"


@dataclass(frozen=True)
class ViewSheet:
    """R images, each beside C - 1 views of it."""

    tiles: np.ndarray
    """uint8 (R, C, H, W, 3); column 0 is the image as it is stored"""
    columns: tuple[str, ...]
    """heading of each column, such as `image`, `view 1`, `view 2`"""
    text: str
    """what was done to the views to show them, in whole sentences; "" where nothing was"""


@dataclass(frozen=True)
class Retrieval:
    """Q held-out images and the K nearest images of the training split, nearest first."""

    queries: np.ndarray
    """uint8 (Q, H, W, 3)"""
    matches: np.ndarray
    """uint8 (Q, K, H, W, 3)"""
    similarities: np.ndarray
    """float32 (Q, K), cosine of the features"""
    query_labels: tuple[str, ...]
    """class name of each query, "" where there is none"""
    match_labels: tuple[tuple[str, ...], ...]
    """class name of each match"""


@dataclass(frozen=True)
class Panel:
    """The picture that explains the method."""

    picture: bytes
    """SVG"""
    text: str
    """one paragraph for a student"""


def save_views(run_folder: Path, sheet: ViewSheet) -> Path:
    """Write `views.npz`; raises RunError where that is not possible."""
    if sheet.tiles.ndim != 5 or sheet.tiles.dtype != np.uint8 or len(sheet.columns) != sheet.tiles.shape[1]:
        raise ValueError(f"A sheet of {len(sheet.columns)} columns needs uint8 (R, C, H, W, 3).")
    return _save(run_folder, "views.npz", asdict(sheet))


def save_retrieval(run_folder: Path, found: Retrieval, name: str = RETRIEVAL) -> Path:
    """Write `retrieval.npz` (or `untrained.npz`); raises RunError where that is not possible."""
    if found.matches.shape[:2] != found.similarities.shape or len(found.queries) != len(found.matches):
        raise ValueError("Queries, matches and similarities must agree in Q and K.")
    return _save(run_folder, name, asdict(found))


def save_filters(run_folder: Path, weights: np.ndarray) -> Path:
    """Write `filters.npz` from the first convolution's weights (O, C, k, k)."""
    return _save(run_folder, "filters.npz", {"weights": np.asarray(weights, np.float32)})


def save_panel(run_folder: Path, panel: Panel) -> Path:
    """Write `panel.svg` and `panel.txt`."""
    folder = _folder(run_folder)
    write_atomically(folder / "panel.txt", panel.text)
    write_atomically(folder / "panel.svg", panel.picture)
    return folder / "panel.svg"


def load_views(run_folder: Path) -> ViewSheet | None:
    """The sheet of views, or None where the run has none; raises FileFormatError when it is damaged."""
    held = _load(run_folder, "views.npz", ("tiles", "columns", "text"))
    if held is None:
        return None
    return ViewSheet(_pixels(held, "tiles", 5), tuple(map(str, held["columns"])), str(held["text"]))


def load_retrieval(run_folder: Path, name: str = RETRIEVAL) -> Retrieval | None:
    """Queries and matches, or None where the run has none; raises FileFormatError when it is damaged."""
    fields = ("queries", "matches", "similarities", "query_labels", "match_labels")
    held = _load(run_folder, name, fields)
    if held is None:
        return None
    return Retrieval(
        _pixels(held, "queries", 4),
        _pixels(held, "matches", 5),
        held["similarities"],
        tuple(map(str, held["query_labels"])),
        tuple(tuple(map(str, row)) for row in held["match_labels"]),
    )


def load_filters(run_folder: Path) -> np.ndarray | None:
    """The first convolution's weights (O, C, k, k), or None; raises FileFormatError when damaged."""
    held = _load(run_folder, "filters.npz", ("weights",))
    if held is None:
        return None
    if held["weights"].ndim != 4 or held["weights"].shape[1] not in (1, 3):
        raise FileFormatError(
            "pictures/filters.npz does not hold filters (O, 1 or 3, k, k): write the report again."
        )
    return held["weights"]


def load_panel(run_folder: Path) -> Panel | None:
    """The picture that explains the method, or None where the run has none."""
    file, text = (Path(run_folder) / FOLDER / f"panel.{kind}" for kind in ("svg", "txt"))
    if not file.is_file():
        return None
    return Panel(file.read_bytes(), text.read_text("utf-8", "replace") if text.is_file() else "")


def _folder(run_folder: Path) -> Path:
    folder = Path(run_folder) / FOLDER
    folder.mkdir(exist_ok=True)
    return folder


def _save(run_folder: Path, name: str, values: Mapping[str, Any]) -> Path:
    held = io.BytesIO()
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in values.items()}
    np.savez_compressed(held, **arrays)
    write_atomically(_folder(run_folder) / name, held.getvalue())
    return Path(run_folder) / FOLDER / name


def _load(run_folder: Path, name: str, fields: tuple[str, ...]) -> dict[str, np.ndarray] | None:
    path = Path(run_folder) / FOLDER / name
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as held:
            return {field: held[field] for field in fields}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{FOLDER}/{name} is damaged ({type(error).__name__}): delete it.") from None


def _pixels(held: dict[str, np.ndarray], field: str, axes: int) -> np.ndarray:
    array = held[field]
    if array.dtype != np.uint8 or array.ndim != axes or array.shape[-1] != 3 or not array.size:
        raise FileFormatError(f"{FOLDER}/*.npz holds no uint8 pictures under {field!r}: delete the file.")
    return array
