"""C files of this package, built at first use with the system's compiler and kept in the user's cache folder."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

from nolabel.data import cache
from nolabel.errors import RunError
from nolabel.runs import write_atomically

ROUNDING = ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
NATIVE = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
FLAGS = ["-std=gnu99", "-O3", NATIVE, *ROUNDING, "-shared", "-fPIC"]


def load(source: Path, without: str) -> ctypes.CDLL | None:
    """The library of a C file, or None, with one notice, where it cannot be built.

    Args:
        without: how the program does without it, for the notice.
    """
    try:
        try:
            return ctypes.CDLL(str(_built(source)))
        except OSError:
            return ctypes.CDLL(str(_built(source, again=True)))
    except (OSError, RunError, subprocess.SubprocessError) as error:
        warnings.warn(
            f"{without}, because their C code could not be built ({error}): it needs gcc or clang, as cc or named in "
            f"CC, and a writable {cache.folder()}.",
            stacklevel=3,
        )
        return None


def wanted() -> bool:
    """Whether compiled forms are to be used: NOLABEL_KERNELS=0 in the environment turns them off."""
    return os.environ.get("NOLABEL_KERNELS") != "0"


def compiler() -> list[str]:
    """The words that call the C compiler: those of CC, else cc."""
    named = os.environ.get("CC", "")
    try:
        return shlex.split(named) or ["cc"]
    except ValueError:  # a quotation without its end
        return [named]


def _built(source: Path, again: bool = False) -> Path:
    """The library for this source, compiler and processor; compiled where the cache does not hold it."""
    command = compiler()
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"no compiler {command[0]!r}")
    key = hashlib.sha256(
        "\n".join([source.read_text(encoding="utf-8"), *command, *FLAGS, _processor()]).encode()
    ).hexdigest()
    path = cache.folder() / "kernels" / f"{source.stem.strip('_')}-{key[:20]}.so"
    if again or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / path.name
            subprocess.run(
                [*command, *FLAGS, str(source), "-o", str(made)], check=True, capture_output=True, timeout=120
            )
            write_atomically(path, made.read_bytes())
    return path


def _processor() -> str:
    """What code for the native processor depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return "\n".join([platform.machine(), platform.processor(), *dict.fromkeys(told)])
