"""The cache of packed images: where it is, what lies in it, what goes when it is full."""

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nolabel.data.files import file_digest
from nolabel.errors import RunError, UsageError
from nolabel.runs import write_atomically

DEFAULT_LIMIT_GB = 20.0
BASELINES = "baselines"
"""folder of the results of baselines"""


@dataclass(frozen=True)
class CacheEntry:
    """One packed store on disk."""

    folder: Path
    source: str
    """as it was named when it was packed"""
    images: int
    bytes: int
    used: float
    """seconds since 1970 of the last opening"""


def folder(cache: Path | None = None) -> Path:
    """`cache`, else $NOLABEL_CACHE, else $XDG_CACHE_HOME/nolabel, else ~/.cache/nolabel."""
    named = cache or os.environ.get("NOLABEL_CACHE")
    if named:
        try:
            return Path(named).expanduser()
        except RuntimeError:
            raise UsageError(
                f"NOLABEL_CACHE is {named}, and there is no such user: name the folder by its whole path."
            ) from None
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nolabel"


def limit() -> int:
    """Bytes the cache may hold: $NOLABEL_CACHE_GB (1 GB = 10^9 bytes), 20 GB where it is not set."""
    text = os.environ.get("NOLABEL_CACHE_GB", "")
    try:
        held = 1e9 * (float(text) if text else DEFAULT_LIMIT_GB)
    except ValueError:
        held = -1.0
    if not 0 <= held < math.inf:
        raise UsageError(
            f"NOLABEL_CACHE_GB is {text!r}, which is no size: set it to a number of gigabytes such as 20."
        )
    return int(held)


def entries(cache: Path | None = None) -> list[CacheEntry]:
    """Whole entries, the one used last first; half-written ones are not among them."""
    found = []
    for place in (folder(cache) / "stores").glob("*/store.json"):
        try:
            about = json.loads(place.read_text(encoding="utf-8"))
            size = sum(file.stat().st_size for file in place.parent.iterdir())
            found.append(
                CacheEntry(place.parent, about["source"], about["images"], size, place.stat().st_mtime)
            )
        except (OSError, ValueError, KeyError):
            continue
    return sorted((entry for entry in found if "." not in entry.folder.name), key=lambda e: -e.used)


def clear(cache: Path | None = None) -> int:
    """Remove every entry, the results of baselines, and what broken-off builds left; the number of bytes freed.

    A build in progress is kept.
    """
    freed = sum(_remove(entry) for entry in entries(cache))
    for file in baselines(cache):
        freed += file.stat().st_size
        file.unlink(missing_ok=True)
    return freed + remove_partial(cache)


def baselines(cache: Path | None = None) -> list[Path]:
    """The files of baselines' results, the newest first."""
    files = (folder(cache) / BASELINES).glob("*.npz")
    return sorted(files, key=lambda file: -file.stat().st_mtime)


def evict(room: int, keep: Path, cache: Path | None = None) -> None:
    """Remove the entries used longest ago until all but `keep` fit `room` bytes."""
    others = [entry for entry in entries(cache) if entry.folder != keep]
    total = sum(entry.bytes for entry in others)
    while others and total > room:
        oldest = others.pop()
        total -= _remove(oldest)


def _remove(entry: CacheEntry) -> int:
    aside = entry.folder.with_name(f"{entry.folder.name}.removed-{os.getpid()}")
    try:
        entry.folder.rename(aside)  # so that nobody opens half of it
    except OSError:  # another process removed it, or the system keeps open files
        return 0
    shutil.rmtree(aside, ignore_errors=True)
    return entry.bytes


def remove_partial(cache: Path | None = None) -> int:
    """Remove what builds that were killed left behind; the number of bytes freed."""
    freed = 0
    for place in (folder(cache) / "stores").glob("*.*"):
        if place.suffix == ".lock":
            continue
        with locked(place.with_suffix(".lock"), wait=False) as mine:
            if mine and place.is_dir():
                freed += sum(file.stat().st_size for file in place.iterdir())
                shutil.rmtree(place, ignore_errors=True)
    return freed


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file; False when another process holds it and `wait` is off. It ends with the process.

    Where the system has no `fcntl` nothing is locked: two builds then work side by side, the first to end
    wins, and nobody is told that an entry is free to be removed.
    """
    try:
        import fcntl
    except ImportError:
        yield wait
        return
    file = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(file)


def writable(cache: Path | None = None) -> Path:
    """The folder `stores` of the cache, made if need be.

    Raises:
        RunError: it cannot be written to.
    """
    stores = folder(cache) / "stores"
    try:
        stores.mkdir(parents=True, exist_ok=True)
        probe = stores / f"probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(
            f"The cache folder {stores} cannot be written to ({error.strerror}): "
            "set NOLABEL_CACHE to a folder with room."
        ) from None
    return stores


def remembered_digest(cache: Path | None = None) -> Callable[[Path], str]:
    """`file_digest`, remembered by path, size and modification time so that an archive is read once.

    A file that changed in the last two seconds is not remembered: it could change again unseen.
    """
    notes = folder(cache) / "digests.json"

    def digest(path: Path) -> str:
        info = path.stat()
        name = os.fsencode(path.absolute()).hex()
        stamp = [info.st_size, info.st_mtime_ns, info.st_ino]
        known = _read_notes(notes)
        if known.get(name, [None])[:-1] == stamp:
            return known[name][-1]
        value = file_digest(path)
        if time.time() - info.st_mtime > 2 and path.stat().st_mtime_ns == info.st_mtime_ns:
            with contextlib.suppress(OSError, RunError):  # remembering is a convenience
                notes.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(notes, json.dumps({**known, name: [*stamp, value]}))
        return value

    return digest


def _read_notes(notes: Path) -> dict[str, list]:
    try:
        known = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
