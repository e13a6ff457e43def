"""What every source gives: the names of its files, where they belong, and a way to their bytes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nolabel.data import layout
from nolabel.data.read import BYTE_LIMIT
from nolabel.data.workers import Blob


@dataclass(frozen=True)
class Skipped:
    """A file that gives no image."""

    path: str
    reason: str
    """a kind that can be counted, or "kind: detail" """


@dataclass(frozen=True)
class Listing:
    """The image files of a source, in a fixed order, with what their places say about them."""

    key: str
    """hex digest of the content: of paths, sizes and modification times, or of the archive's bytes"""
    load: Callable[[], "Files"]
    """the files themselves; an archive is opened only here"""


@dataclass(frozen=True)
class Files:
    """The files of a source and how to read them."""

    paths: tuple[str, ...]
    """relative, with "/"; names that are no UTF-8 hold surrogates"""
    labels: tuple[int, ...]
    splits: tuple[int, ...]
    class_names: tuple[str, ...]
    split_names: tuple[str, ...]
    blobs: Callable[[], Iterator[Blob]]
    """the bytes of each file, in order, or why there are none"""
    skipped: tuple[Skipped, ...] = ()
    root: Path | None = None
    """the folder that `paths` are relative to, where there is one"""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def on_disk(root: Path, paths: Sequence[str]) -> Iterator[Blob]:
    """The bytes of the files at `paths` below `root`, or why there are none."""
    for path in paths:
        try:
            yield (root / path).read_bytes()
        except OSError as error:
            yield f"cannot be read: {error.strerror}"


def placed(
    paths: Sequence[str],
    blobs: Callable[[], Iterator[Blob]],
    skipped: Sequence[Skipped],
    root: Path | None = None,
) -> Files:
    """The files at `paths`, with the splits and classes that the paths name."""
    at = layout.layout(paths)
    return Files(
        tuple(paths), at.labels, at.splits, at.class_names, at.split_names, blobs, tuple(skipped), root
    )


def refused(path: str, regular: bool, size: int) -> str | None:
    """Why a file that looks like one of ours is not even read, or None."""
    kind = layout.kind(path)
    if kind == "archive":
        return "archive inside: not followed, give it as the source or unpack it"
    if kind != "image":
        return None
    if not regular:
        return "not a file"
    return f"too large: {size / 2**20:,.0f} MiB" if size > BYTE_LIMIT else None
