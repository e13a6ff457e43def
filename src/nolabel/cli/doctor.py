"""`nolabel doctor`: what is installed, what this machine has, what is slow or missing, and the remedy."""

import platform
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nolabel.cli import _screen
from nolabel.cli.cache import gigabytes
from nolabel.data import cache as stores
from nolabel.data.workers import cores
from nolabel.views.compiled import compiler

EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "demo": (("scikit-image",), "the demo's photographs"),
    "timm": (("timm",), "encoders named timm:NAME"),
    "heif": (("pillow-heif",), "HEIC photographs"),
    "onnx": (("onnx", "onnxruntime"), "nolabel export --format onnx"),
    "tensorboard": (("tensorboard",), "pretrain --tensorboard"),
    "bench": (("lightly", "kornia", "faiss-cpu"), "python -m benchmarks"),
}
"""extra -> (its packages, what it is for)"""

LITTLE_DISK = 5_000_000_000


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report."""

    what: str
    found: str
    remedy: str = ""
    """what to do where something is slow or missing; empty where all is well"""


def doctor() -> None:
    """Say what is installed, what this machine has, and what is slow or missing."""
    findings = [_python(), *_torch(), _processor(), _compiler(), _kernels(), *_extras(), _cache(), _disk()]
    _screen.table(("", "found"), [(f.what, f.found) for f in findings])
    remedies = [f for f in findings if f.remedy]
    _screen.line()
    if not remedies:
        _screen.line("Nothing is missing.")
    for finding in remedies:
        _screen.line(f"{finding.what}: {finding.remedy}")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _python() -> Finding:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    untested = (
        ""
        if platform.system() == "Linux"
        else f"nolabel is tested on Linux only; {platform.system()} may work."
    )
    return Finding("Python", f"{platform.python_version()}, {sys.executable}, {system}", untested)


def _torch() -> list[Finding]:
    import torch

    found = f"{torch.__version__}, torchvision {_installed('torchvision')}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        gpu = Finding("GPU", ", ".join(f"{p.name} ({gigabytes(p.total_memory)})" for p in names))
    elif torch.backends.mps.is_available():
        gpu = Finding("GPU", "Apple (MPS)")
    elif Path("/proc/driver/nvidia").exists():
        gpu = Finding(
            "GPU", "an NVIDIA driver, but torch cannot use it", "install a torch build with CUDA for it."
        )
    else:
        gpu = Finding("GPU", "none: pretraining runs on the processor")
    return [Finding("torch", found), gpu]


def _processor() -> Finding:
    from nolabel.number_format import bfloat16_units, cpu_flags

    units = bfloat16_units()
    if units:
        speed = f"bfloat16 in hardware ({', '.join(units)}): mixed precision pays"
    elif cpu_flags():
        speed = "no bfloat16 units: float32 is faster here, and chosen by itself"
    else:
        speed = "units unknown: precision is chosen by a short measurement"
    few = "with one core everything takes twice as long; free another one." if cores() < 2 else ""
    return Finding("Processor", f"{cores()} cores, {speed}", few)


def _compiler() -> Finding:
    command = compiler()
    if shutil.which(command[0]) is None:
        return Finding(
            "C compiler",
            f"none ({command[0]}): views are made in plain PyTorch, several times slower",
            "install gcc or clang (apt-get install gcc libc6-dev; on macOS xcode-select --install).",
        )
    told = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    return Finding("C compiler", told[0] if told else command[0])


def _kernels() -> Finding:
    from nolabel.views._kernels import library

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        built = library() is not None
    if built:
        return Finding("View kernels", "compiled C")
    return Finding("View kernels", "plain PyTorch", "; ".join(str(one.message) for one in told))


def _extras() -> list[Finding]:
    findings = []
    for extra, (packages, purpose) in EXTRAS.items():
        missing = [package for package in packages if _installed(package) is None]
        found = ", ".join(
            f"{package} {_installed(package)}" for package in packages if package not in missing
        )
        remedy = f"for {purpose}, pip install 'nolabel[{extra}]'." if missing else ""
        findings.append(Finding(f"Extra {extra}", found or "not installed", remedy))
    return findings


def _cache() -> Finding:
    used = sum(entry.bytes for entry in stores.entries())
    return Finding("Cache", f"{stores.folder()}, {gigabytes(used)} of {gigabytes(stores.limit())}")


def _disk() -> Finding:
    place = stores.folder()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    remedy = "little room for decoded images; free some, or set NOLABEL_CACHE." if free < LITTLE_DISK else ""
    return Finding("Free disk", f"{gigabytes(free)} at {place}", remedy)
