"""What the names of files say: which are images, which split and class each belongs to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

IMAGE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
        *(
            ".webp",
            ".avif",
            ".avifs",
            ".heic",
            ".heif",
            ".hif",
            ".ico",
            ".icns",
            ".jp2",
            ".j2k",
            ".jpx",
            ".jpf",
        ),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".psd", ".sgi", ".dds", ".qoi"),
    }
)
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_HIDDEN = frozenset(
    {"__macosx", "@eadir", "#recycle", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"}
)
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}


@dataclass(frozen=True)
class Layout:
    """Split and class of each file."""

    labels: tuple[int, ...]
    """index into `class_names`; -1: none"""
    splits: tuple[int, ...]
    """index into `split_names`; -1: the file lies outside all splits"""
    class_names: tuple[str, ...]
    split_names: tuple[str, ...]


def natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key under which "img2" comes before "img10"; the same on every machine."""
    parts = re.split(r"([0-9]+)", name)
    return [
        (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts if part
    ], name


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a system's: hidden, thumbnails, resource forks."""
    return name.startswith(".") or name.lower() in _HIDDEN


def kind(path: str) -> str:
    """ "image" by its suffix, "archive", "unknown" (no suffix: the content decides), or "other"."""
    name = path.rsplit("/", 1)[-1].lower()
    suffix = PurePosixPath(name).suffix
    if suffix in IMAGE_SUFFIXES:
        return "image"
    if name.endswith(ARCHIVE_SUFFIXES):
        return "archive"
    return "other" if suffix else "unknown"


def layout(paths: Sequence[str]) -> Layout:
    """Read `train/test/<class>/...`, `<class>/...` or a flat list from relative paths.

    Folders that hold everything are looked through. "val" counts as the test split where there is no "test".
    """
    parts = [tuple(path.split("/")) for path in paths]
    start = _shared_depth(parts)
    parts = [part[start:] for part in parts]
    tops = {_SPLITS.get(part[0].lower()) if len(part) > 1 else None for part in parts}
    found = [name for name in ("train", "val", "test") if name in tops]
    if "train" not in found or len(found) < 2:
        lone = next(iter(tops)) if len(tops) == 1 else None
        names = _class_of([part[1:] if lone else part for part in parts])
        return _number(names, ["all"] * len(parts), ("all",))
    rename = {"val": "test"} if "test" not in found else {}
    splits = [_SPLITS.get(part[0].lower()) if len(part) > 1 else None for part in parts]
    names = _class_of([part[1:] if split else () for part, split in zip(parts, splits, strict=True)])
    split_names = tuple(rename.get(name, name) for name in found)
    return _number(names, [rename.get(split, split) if split else None for split in splits], split_names)


def _shared_depth(parts: Sequence[tuple[str, ...]]) -> int:
    """How many leading folders hold all files and nothing but folders, up to one that names a split."""
    depth = 0
    while parts and all(len(part) > depth + 2 for part in parts):
        names = {part[depth] for part in parts}
        if len(names) > 1 or next(iter(names)).lower() in _SPLITS:
            break
        depth += 1
    return depth


def _class_of(parts: Sequence[tuple[str, ...]]) -> list[str | None]:
    return [part[0] if len(part) > 1 else None for part in parts]


def _number(
    names: Sequence[str | None], splits: Sequence[str | None], split_names: tuple[str, ...]
) -> Layout:
    class_names = tuple(sorted({name for name in names if name is not None}, key=natural))
    label_of = {name: i for i, name in enumerate(class_names)}
    split_of = {name: i for i, name in enumerate(split_names)}
    return Layout(
        tuple(-1 if name is None else label_of[name] for name in names),
        tuple(-1 if split is None else split_of[split] for split in splits),
        class_names,
        split_names,
    )
