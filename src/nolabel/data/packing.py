"""A source's images decoded once into one packed file, and that file opened again.

An entry is a folder: `pixels.bin` (RGB bytes, one image after another), `tables.npz` (sizes, labels, splits),
`paths.bin` (names, each ended by a zero byte), `store.json` (everything else). It is written under another
name and renamed when it is whole and on the disk.
"""

import contextlib
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nolabel.data import cache, layout, workers
from nolabel.data.files import Files, Skipped
from nolabel.data.read import Decoded
from nolabel.errors import DataError, RunError

FORMAT = 1

Progress = Callable[[int, int], None]
"""called with the number of files done and the number of all files"""


@dataclass(frozen=True)
class Packed:
    """The tables of an entry."""

    folder: Path
    heights: np.ndarray
    widths: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    paths: tuple[str, ...]
    class_names: tuple[str, ...]
    split_names: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    found: str
    """sizes and modes of the files, in words"""


def load(folder: Path) -> Packed | None:
    """The entry in `folder`; None where there is none that is whole. Opening it counts as use."""
    try:
        about = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        with np.load(folder / "tables.npz") as tables:
            arrays = {
                name: tables[name].astype(np.int64) for name in ("heights", "widths", "labels", "splits")
            }
        paths = (folder / "paths.bin").read_bytes().decode("utf-8", "surrogateescape").split("\0")[:-1]
        size = (folder / "pixels.bin").stat().st_size
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    whole = 3 * int((arrays["heights"] * arrays["widths"]).sum())
    if about.get("format") != FORMAT or size != whole or len(paths) != len(arrays["labels"]):
        return None
    with contextlib.suppress(OSError):  # a cache that is shared and read-only
        os.utime(folder / "store.json")
    return Packed(
        folder=folder,
        **arrays,
        paths=tuple(paths),
        class_names=tuple(about["class_names"]),
        split_names=tuple(about["split_names"]),
        skipped=tuple(Skipped(*one) for one in about["skipped"]),
        found=about["found"],
    )


def build(
    folder: Path, files: Files, *, source: str, side: int, processes: int, progress: Progress | None
) -> None:
    """Decode `files` into the entry `folder`; the caller holds its lock.

    Raises:
        DataError: no file could be read.
        RunError: the disk is full, or the images need more than the cache may hold.
    """
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    for left in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)  # an entry that `load` found damaged
    try:
        partial.mkdir()
        _write(partial, files, source, side, processes, progress)
        _sync(partial)
        partial.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        if folder.exists():  # without locks another process may have been first; its entry is as good
            return
        raise RunError(
            f"The packed images cannot be written to {folder.parent} ({error.strerror or error}): "
            "make room there, or set NOLABEL_CACHE to a folder with room."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(
    folder: Path, files: Files, source: str, side: int, processes: int, progress: Progress | None
) -> None:
    kept: list[int] = []
    sizes: list[tuple[int, int]] = []
    full: list[tuple[int, int]] = []
    modes: Counter[str] = Counter()
    skipped = list(files.skipped)
    count, limit, written = len(files.paths), cache.limit(), 0
    processes = max(1, min(processes or workers.cores(), -(-count // workers.CHUNK_FILES)))
    with (folder / "pixels.bin").open("wb") as file:
        for i, result in enumerate(workers.decode_all(files.blobs(), side, processes)):
            if isinstance(result, Decoded):
                written += file.write(result.pixels)
                kept.append(i)
                sizes.append((result.height, result.width))
                full.append((result.full_height, result.full_width))
                modes[result.mode] += 1
            elif result != "not an image" or layout.kind(files.paths[i]) == "image":
                skipped.append(Skipped(files.paths[i], result))
            if written > limit:
                raise RunError(
                    f"The images of {source} need more than the {limit / 1e9:g} GB that the cache may hold: "
                    "set NOLABEL_CACHE_GB higher, or choose a smaller --size."
                )
            if progress is not None and (i % workers.CHUNK_FILES == 0 or i + 1 == count):
                progress(i + 1, count)
        file.flush()
        os.fsync(file.fileno())
    if not kept:
        raise DataError(_nothing(source, skipped))
    shape = np.array(sizes, dtype=np.int32)
    _save(
        folder,
        files,
        kept,
        {
            "heights": shape[:, 0],
            "widths": shape[:, 1],
            "labels": np.array([files.labels[i] for i in kept], dtype=np.int32),
            "splits": np.array([files.splits[i] for i in kept], dtype=np.int32),
        },
        {
            "source": source,
            "found": _describe(full, modes),
            "skipped": [(one.path, one.reason) for one in skipped],
        },
    )


def _save(
    folder: Path, files: Files, kept: Sequence[int], tables: dict[str, np.ndarray], about: dict
) -> None:
    with (folder / "tables.npz").open("wb") as file:
        np.savez(file, allow_pickle=False, **tables)
        file.flush()
        os.fsync(file.fileno())
    about = {
        "format": FORMAT,
        "images": len(kept),
        "class_names": files.class_names,
        "split_names": files.split_names,
        **about,
    }
    names = "".join(files.paths[i] + "\0" for i in kept).encode("utf-8", "surrogateescape")
    for name, content in (("paths.bin", names), ("store.json", json.dumps(about).encode())):
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Bring a folder's list of names to the disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _describe(sizes: Sequence[tuple[int, int]], modes: Counter[str]) -> str:
    small, large = (pick(sizes, key=lambda size: (size[0] * size[1], size)) for pick in (min, max))
    span = f"{small[1]}x{small[0]}" + ("" if small == large else f" to {large[1]}x{large[0]}")
    if len(modes) == 1:
        return f"{span}, {next(iter(modes))}"
    return f"{span}, " + ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common())


def _nothing(source: str, skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return f"There is no image in {source}: look for files such as .jpg, .png or .webp."
    first = skipped[0]
    many = f"None of the {len(skipped):,} files" if len(skipped) > 1 else "The only file"
    of_which = "can be read" if len(skipped) > 1 else "cannot be read"
    example = f"first {first.path}: {first.reason}"
    return f"{many} in {source} {of_which} ({example}): give a folder with whole image files."
