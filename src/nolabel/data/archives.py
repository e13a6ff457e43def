"""Images in a .zip or .tar, read in place: a name in an archive is a name, never a place to write to."""

import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from nolabel.data import layout
from nolabel.data.files import Files, Skipped, placed, refused
from nolabel.data.workers import Blob
from nolabel.errors import DataError


def from_zip(path: Path) -> Files:
    """The images of a .zip, in natural order of their names."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DataError(f"{path} is not a readable zip ({error}): fetch or pack it again.") from None
    with archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    names = [info.filename.replace("\\", "/") for info in infos]
    order, skipped = _members(names, [(True, info.file_size) for info in infos])

    def blobs() -> Iterator[Blob]:
        with zipfile.ZipFile(path) as archive:
            for i in order:
                if infos[i].flag_bits & 1:
                    yield "encrypted: unpack it with its password first"
                    continue
                try:
                    yield archive.read(infos[i])
                except (
                    Exception
                ) as error:  # a bad checksum, a broken stream, an unknown compression: this entry only
                    yield f"damaged in the archive: {error}"

    return placed([names[i] for i in order], blobs, skipped)


def is_tar(path: Path) -> bool:
    """Whether the file is a tar archive, compressed or not."""
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError):
        return False


def from_tar(path: Path) -> Files:
    """A .tar, compressed or not; its members are read in the order in which they lie."""
    try:
        with tarfile.open(path, "r:*", errors="surrogateescape") as archive:
            members = [member for member in archive.getmembers() if not member.isdir()]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable tar ({error}): fetch or pack it again.") from None
    names = [member.name.removeprefix("./") for member in members]
    chosen, skipped = _members(names, [(member.isreg(), member.size) for member in members])
    order = sorted(chosen)

    def blobs() -> Iterator[Blob]:
        with tarfile.open(path, "r:*", errors="surrogateescape") as archive:
            for i in order:
                try:
                    file = archive.extractfile(members[i])
                    yield file.read() if file else "not a file"
                except (tarfile.TarError, OSError, EOFError) as error:
                    yield f"damaged in the archive: {error}"

    return placed([names[i] for i in order], blobs, skipped)


def _members(names: Sequence[str], kinds: Sequence[tuple[bool, int]]) -> tuple[list[int], list[Skipped]]:
    """Positions of the image files, in natural order of their names, and what is left out with a word."""
    runs = {name.rpartition("/")[0] for name in names if name.endswith("/run.json")}
    skipped = [Skipped(folder, "run folder of nolabel") for folder in sorted(runs)]
    chosen: list[int] = []
    for i, name in enumerate(names):
        parts = name.split("/")
        if any(layout.is_hidden(part) for part in parts if part not in (".", "..")):
            continue
        if runs and any("/".join(parts[:depth]) in runs for depth in range(1, len(parts))):
            continue
        if reason := refused(name, *kinds[i]):
            skipped.append(Skipped(name, reason))
        elif layout.kind(name) in ("image", "unknown") and kinds[i][0]:
            chosen.append(i)
    return sorted(chosen, key=lambda i: layout.natural(names[i])), skipped
