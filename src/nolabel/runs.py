"""The run folder: what is written where, atomically.

runs/<name>/
  run.json            command, options, data fingerprint, seeds, versions, machine, budget as resolved
  metrics.jsonl       one row per logged step
  checkpoints/        step-000000123.safetensors + .json, newest two
  encoder.safetensors + encoder.json
  evaluation.jsonl    one number, one row
  transfer.jsonl      the same, of other data sets; transfer.npz: which test images were named right
  leakage.csv         test images that are also in another set, pair by pair
  measured.json       protocols and baselines that a comparison measured; predictions.npz: what was named right
  skipped.csv         files that could not be read, and why
  pictures/           what the report shows of the images (see `report.pictures`)
  tensorboard/        the metrics again, where they were asked for
  report.html
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Literal

from nolabel.errors import FileFormatError, RunError, UsageError

FORMAT = 1
DESCRIPTION = "run.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation.jsonl"
TRANSFER = "transfer.jsonl"
LEAKED = "leakage.csv"
LOCK = ".lock"
LEFTOVERS = (f"{CHECKPOINTS}/.*.tmp", ".encoder.*.tmp", f".{DESCRIPTION}.*.tmp", f".{METRICS}.*.tmp")

Status = Literal["running", "finished", "interrupted", "failed"]


def write_atomically(path: str | Path, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) so that `path` holds the old bytes or the new ones, never a part.

    A temporary file in the same folder is flushed to the disk and renamed.

    Raises:
        RunError: that is not possible (full disk, read-only folder); nothing half-written is left.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cannot_write(path: Path, error: OSError) -> RunError:
    """The error to raise when `path` could not be written because of `error`."""
    reason = (error.strerror or str(error)).lower()
    return RunError(f"{path} cannot be written ({reason}): make room or choose another folder with --out.")


def make_folder(path: Path) -> None:
    """Make the folder at `path` and what is above it, where it is not there.

    Raises:
        UsageError: there is a file in its place.
        RunError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} is a file, or lies below one: name a folder with --out.") from None
    except OSError as error:
        raise cannot_write(path, error) from error


def read_description(folder: Path) -> dict[str, Any]:
    """`run.json` of a run folder.

    Raises:
        UsageError: there is no run in `folder`.
        FileFormatError: the file is damaged or of an unknown format version.
    """
    path = folder / DESCRIPTION
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        written_by = info.get("versions", {}).get("nolabel", "an unknown version")
        if info["format"] != FORMAT:
            raise FileFormatError(
                f"{path} has format {info['format']}, written by nolabel {written_by}, and this version reads format "
                f"{FORMAT}: use nolabel {written_by} for this run."
            )
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{folder} holds no run ({DESCRIPTION} is missing): give the folder of a run."
        ) from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise FileFormatError(
            f"{path} is damaged: start the run again in another folder with --out."
        ) from None
    return info


def folder_of(encoder: Path) -> Path:
    """The folder of a run that is named by itself or by its encoder file."""
    return encoder if encoder.is_dir() else encoder.parent


def held_out(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What was found on held-out images, of a row of metrics or of a run's `final`: `held_out/loss` -> `loss`."""
    start = "held_out/"
    return {key.removeprefix(start): value for key, value in numbers.items() if key.startswith(start)}


def status_of(folder: Path) -> Status | None:
    """The status of the run in `folder`; None where none was begun. Errors as `read_description`."""
    return read_description(folder)["status"] if (folder / DESCRIPTION).is_file() else None


def opened_at(folder: Path, source: str | Path) -> int | None:
    """The size in pixels that the images of the run in `folder` were stored for, if `source` is what it trained on."""
    if not (folder / DESCRIPTION).is_file():
        return None
    recorded = read_description(folder)["data"]
    return recorded["opened_at"] if recorded["source"] == str(source) else None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a `.jsonl` file, [] where there is none; a last line cut short by a kill is left out.

    Raises:
        FileFormatError: another line is not JSON.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise FileFormatError(f"{path} is damaged at line {number}: remove that line.") from None
    return rows


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace a `.jsonl` file, atomically."""
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


@dataclass
class Run:
    """One run folder, held by this process when it was made by `create` or `resume`."""

    folder: Path
    info: dict[str, Any] = field(default_factory=dict)
    """what `run.json` holds"""
    _lock: IO[str] | None = field(default=None, repr=False, compare=False)
    _made: tuple[Path, ...] = field(default=(), repr=False, compare=False)
    """the folders that were made for it, the innermost first"""

    @staticmethod
    def create(folder: str | Path | None, *, name: str, source: str | Path | None = None) -> "Run":
        """An empty run folder: `folder`, or `runs/<name>-NN` with the next free number.

        Args:
            folder: a new or empty folder; None chooses one under `runs` in the working directory.
            name: such as `simclr-resnet10-cifar10`.
            source: the folder of images; a run folder is put inside it only if `folder` says so.

        Raises:
            UsageError: the folder holds something or is in use, or the chosen one lies inside `source`.
            RunError: it cannot be written.
        """
        if folder is None:
            path = _next_free(Path("runs"), name)
            if source is not None and path.resolve().is_relative_to(Path(source).resolve()):
                raise UsageError(
                    f"The run folder {path} would lie inside the images {source}: name one with --out."
                )
        else:
            path = Path(folder)
        made = tuple(place for place in (path, *path.parents) if not place.exists())
        make_folder(path)
        held = [entry for entry in path.iterdir() if entry.name != LOCK]
        used = UsageError(f"{path} is not empty: go on with its run by --resume, or choose another --out.")
        if held and not (path / DESCRIPTION).exists():
            raise used
        lock = _take_lock(path)
        if held:
            lock.close()
            raise used
        return Run(path, {"format": FORMAT, "versions": {"nolabel": version("nolabel")}}, lock, made)

    @staticmethod
    def resume(folder: str | Path) -> "Run":
        """The run in `folder`, held by this process; what a kill left half-written is removed.

        Raises:
            UsageError: there is none, or it is in use.
            FileFormatError: `run.json` is damaged or of an unknown format version.
        """
        path = Path(folder)
        read_description(path)
        lock = _take_lock(path)
        for pattern in LEFTOVERS:
            for leftover in path.glob(pattern):
                leftover.unlink(missing_ok=True)
        return Run(path, read_description(path), lock)

    @staticmethod
    def open(folder: str | Path) -> "Run":
        """The run in `folder`, for reading; errors as `read_description`."""
        return Run(Path(folder), read_description(Path(folder)))

    @property
    def checkpoints(self) -> Path:
        return self.folder / CHECKPOINTS

    @property
    def status(self) -> Status:
        return self.info["status"]

    def update(self, **values: Any) -> None:
        """Set keys of `run.json` and write it."""
        self.info |= values
        write_atomically(self.folder / DESCRIPTION, json.dumps(self.info, indent=2) + "\n")

    def reload(self) -> None:
        """Read `run.json` again, which another process of this run may have written."""
        self.info = read_description(self.folder)

    def metrics(self) -> list[dict[str, Any]]:
        """Rows of `metrics.jsonl`."""
        return read_rows(self.folder / METRICS)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Add one row to `metrics.jsonl`."""
        append_row(self.folder / METRICS, row)

    def drop_metrics_after(self, step: int) -> None:
        """Leave the rows of steps up to `step` (those before a checkpoint that a resume starts from)."""
        write_rows(self.folder / METRICS, [row for row in self.metrics() if row["step"] <= step])

    def discard(self) -> None:
        """Remove what was made for the run if nothing was written into it: it could not begin."""
        self.close()
        if not (self.folder / DESCRIPTION).exists():
            with contextlib.suppress(OSError):
                (self.folder / LOCK).unlink()
                for folder in self._made:
                    folder.rmdir()

    def close(self) -> None:
        """Let others use the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add one line to a `.jsonl` file and hand it to the operating system.

    Raises:
        RunError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def training_size(path: Path) -> int | None:
    """Side in pixels of the images that the run at `path` (its folder or a file in it) trained on; None: no run."""
    folder = folder_of(path)
    return read_description(folder)["size"] if (folder / DESCRIPTION).is_file() else None


def new_folder(out: Path | None, name: str, source: str | Path | None) -> Path:
    """The folder for several runs: `out`, which must be new or empty, or the next free `runs/<name>-NN`.

    Raises UsageError where it holds something or is a file, or the chosen one lies inside the images `source`.
    """
    folder = out or _next_free(Path("runs"), name)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name a folder with --out.")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: choose another --out.")
    if out is None and source is not None and folder.resolve().is_relative_to(Path(source).resolve()):
        raise UsageError(f"{folder} would lie inside the images: name another place with --out.")
    return folder


def _next_free(parent: Path, name: str) -> Path:
    number = 1
    while (parent / f"{name}-{number:02d}").exists():
        number += 1
    return parent / f"{name}-{number:02d}"


def _take_lock(folder: Path) -> IO[str]:
    """An exclusive lock on `folder`, which the operating system takes back when this process ends in any way."""
    try:
        file = (folder / LOCK).open("a", encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder / LOCK, error) from error
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError | PermissionError):
            raise UsageError(
                f"{folder} is in use by another run: wait for it or choose another --out."
            ) from None
        raise cannot_write(folder / LOCK, error) from error
    return file
