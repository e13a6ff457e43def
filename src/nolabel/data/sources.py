"""Where images come from: a folder, a .zip or .tar read in place, a list of paths, a data set by name.

A source lists its files without decoding one, and hands out their bytes.
"""

import csv
import difflib
import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nolabel.data import archives, layout, named
from nolabel.data.files import Files, Listing, Skipped, file_digest, on_disk, placed, refused
from nolabel.data.workers import Blob
from nolabel.errors import DataError, UsageError

Digest = Callable[[Path], str]
"""SHA-256 of a file, perhaps remembered from before"""


def find(source: str | Path, labels: Path | None = None, digest: Digest = file_digest) -> Listing:
    """List what `source` names: a folder, a .zip, a .tar (compressed or not), a CSV or text list of paths.

    Args:
        labels: a CSV with the header `path,label`, paths relative to the source; it replaces folder names.

    Raises:
        UsageError: no such path, or a file of another kind.
        DataError: no image in it, a damaged archive, a CSV without its header or with missing files.
    """
    path = Path(os.path.expanduser(source))  # a user who is not there stays a name
    if not os.path.exists(path):
        near = difflib.get_close_matches(str(source).lower(), named.NAMES, 1, 0.7)
        hint = (
            f"did you mean the data set {near[0]}?"
            if near
            else "give the path of a folder, a .zip, a .tar or a list."
        )
        raise UsageError(f"There is no folder or file {source}: {hint}")
    if path.is_dir():
        listing = _folder(path)
    elif path.suffix.lower() in (".csv", ".txt"):
        listing = _path_list(path)
    elif zipfile.is_zipfile(path):
        listing = Listing(digest(path), lambda: archives.from_zip(path))
    elif archives.is_tar(path):
        listing = Listing(digest(path), lambda: archives.from_tar(path))
    elif path.name.lower().endswith(layout.ARCHIVE_SUFFIXES):
        raise DataError(f"{source} is damaged: it cannot be opened as an archive, so fetch or pack it again.")
    else:
        raise UsageError(f"{source} is a single file: give a folder, a .zip, a .tar or a list of paths.")
    if labels is not None:
        listing = _labelled(listing, Path(labels))
    return replace(listing, load=lambda load=listing.load: _checked(load(), source))


def _checked(files: Files, source: str | Path) -> Files:
    """The files inside the splits; those outside are listed as skipped."""
    outside = [
        Skipped(p, "outside train/ and test/")
        for p, s in zip(files.paths, files.splits, strict=True)
        if s < 0
    ]
    if not files.paths or len(outside) == len(files.paths):
        inner = [one.path for one in files.skipped if one.reason.startswith("archive inside")]
        hint = f"unpack {inner[0]} first" if inner else "look for files such as .jpg, .png or .webp"
        raise DataError(f"There is no image in {source}: {hint}.")
    if not outside:
        return files
    keep = [i for i, split in enumerate(files.splits) if split >= 0]
    blobs = files.blobs

    def kept() -> Iterator[Blob]:
        return (blob for blob, split in zip(blobs(), files.splits, strict=True) if split >= 0)

    return replace(
        files,
        paths=tuple(files.paths[i] for i in keep),
        labels=tuple(files.labels[i] for i in keep),
        splits=tuple(files.splits[i] for i in keep),
        blobs=kept,
        skipped=(*files.skipped, *outside),
    )


def _folder(root: Path) -> Listing:
    found, skipped = _walk(root)
    found.sort(key=lambda item: layout.natural(item[0]))
    key = _stat_key((path, info) for path, info in found)
    paths = [path for path, _ in found]
    return Listing(key, lambda: _from_disk(root, paths, tuple(skipped)))


def _walk(root: Path) -> tuple[list[tuple[str, os.stat_result]], list[Skipped]]:
    """Image files below `root` with their stat; links are followed, each folder is entered once."""
    found: list[tuple[str, os.stat_result]] = []
    skipped: list[Skipped] = []
    seen: set[tuple[int, int]] = set()
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            info = os.stat(root / folder)
            if (info.st_dev, info.st_ino) in seen:
                continue
            seen.add((info.st_dev, info.st_ino))
            names = sorted(os.listdir(root / folder), key=layout.natural, reverse=True)
        except OSError as error:
            skipped.append(Skipped(folder, f"folder cannot be opened: {error.strerror}"))
            continue
        if "run.json" in names and folder:
            skipped.append(Skipped(folder, "run folder of nolabel"))
            continue
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if layout.is_hidden(name):
                continue
            try:
                info = os.stat(root / path)
            except OSError as error:
                if layout.kind(path) == "image":
                    skipped.append(Skipped(path, f"cannot be opened: {error.strerror}"))
                continue
            if stat.S_ISDIR(info.st_mode):
                folders.append(path)
            elif reason := refused(path, stat.S_ISREG(info.st_mode), info.st_size):
                skipped.append(Skipped(path, reason))
            elif layout.kind(path) in ("image", "unknown"):
                found.append((path, info))
    return found, skipped


def _stat_key(items: Iterator[tuple[str, os.stat_result]]) -> str:
    digest = hashlib.sha256()
    for path, info in items:
        digest.update(f"{path}\0{info.st_size}\0{info.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _from_disk(root: Path, paths: Sequence[str], skipped: tuple[Skipped, ...]) -> Files:
    return placed(paths, lambda: on_disk(root, paths), skipped, root)


def _path_list(path: Path) -> Listing:
    """A text file with one path a line, or a CSV `path,label`; paths are relative to the file's folder."""
    root = path.parent
    if path.suffix.lower() == ".csv":
        names = list(_read_labels(path))
    else:
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise DataError(_missing(path, missing, "relative paths start at the list's folder"))
    key = _stat_key((name, os.stat(root / name)) for name in names)
    listing = Listing(
        key, lambda: replace(_from_disk(root, names, ()), class_names=(), labels=(-1,) * len(names))
    )
    return _labelled(listing, path) if path.suffix.lower() == ".csv" else listing


def _labelled(listing: Listing, csv_path: Path) -> Listing:
    """The listing with labels from a CSV; files that it does not name, or with an empty label, have none."""
    label_of = _read_labels(csv_path)
    key = hashlib.sha256(f"{listing.key} {file_digest(csv_path)}".encode()).hexdigest()

    def load() -> Files:
        files = listing.load()
        known = set(files.paths) | {one.path for one in files.skipped}
        place = {name: name if name in known else _relative(name, files.root) for name in label_of}
        missing = [name for name in label_of if place[name] not in known]
        if missing:
            raise DataError(
                _missing(csv_path, missing, "paths are relative to the images' folder or archive")
            )
        class_of = {place[name]: label for name, label in label_of.items()}
        class_names = tuple(sorted({*label_of.values()} - {""}, key=layout.natural))
        index = {name: i for i, name in enumerate(class_names)}
        labels = tuple(index.get(class_of.get(path, ""), -1) for path in files.paths)
        return replace(files, labels=labels, class_names=class_names)

    return Listing(key, load)


def _relative(name: str, root: Path | None) -> str:
    """A path of a CSV as the source names it: "./" and the source's own folder taken off."""
    plain = os.path.normpath(name).replace(os.sep, "/")
    if root is not None and os.path.isabs(name):
        return os.path.relpath(name, root.absolute()).replace(os.sep, "/")
    return plain


def _missing(path: Path, missing: Sequence[str], rule: str) -> str:
    many = f"{len(missing):,} files that are not there, first {missing[0]}"
    one = f"{missing[0]}, which is not there"
    return f"{path} names {one if len(missing) == 1 else many}: {rule}."


def _read_labels(path: Path) -> dict[str, str]:
    """path -> label of a CSV with a header that names the columns `path` and `label`."""
    if not path.is_file():
        raise UsageError(f"There is no labels file {path}: give a CSV with the header path,label.")
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip().lower() for name in next(rows, [])]
        if "path" not in header or "label" not in header:
            raise DataError(f"{path} does not begin with the header path,label: add it as the first line.")
        columns = header.index("path"), header.index("label")
        labels: dict[str, str] = {}
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) <= max(columns):
                raise DataError(
                    f"Line {rows.line_num} of {path} has no path and label: write both, with a comma."
                )
            name, label = (row[column].strip() for column in columns)
            if labels.setdefault(name, label) != label:
                raise DataError(
                    f"{path} gives {name} two labels, {labels[name]} and {label}: keep one of them."
                )
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file ({error}): write lines of the form path,label.") from None
    if not labels:
        raise DataError(f"{path} names no file: add lines of the form path,label.")
    return labels
