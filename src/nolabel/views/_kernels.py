"""The compiled views for the CPU: built from _kernels.c at first use, kept in the user's cache folder."""

import ctypes
import functools
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.views import compiled
from nolabel.views._resample import Axis

SOURCE = Path(__file__).with_name("_kernels.c")
NO_MEMORY, OUTSIDE = 1, 2
"""what the C code returns"""
AXIS = ("start", "length", "first", "scale")
"""what `struct axis` takes of an `Axis`"""


class Task(ctypes.Structure):
    """`struct task` of _kernels.c."""

    _fields_ = [
        ("pixels", ctypes.c_void_p),
        ("pixel_bytes", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("offsets", "heights", "widths")),
        *((f"rows_{name}", ctypes.c_void_p) for name in AXIS),
        *((f"columns_{name}", ctypes.c_void_p) for name in AXIS),
        *((name, ctypes.c_void_p) for name in ("flip", "images", "jitter")),
        *((name, ctypes.c_void_p) for name in ("brightness", "shift", "contrast", "saturation", "hue")),
        *((name, ctypes.c_void_p) for name in ("order", "grey", "blur", "taps")),
        *((name, ctypes.c_int64) for name in ("radius", "height", "width", "channels_last", "cubic")),
        ("out", ctypes.c_void_p),
    ]


DTYPES = {**dict.fromkeys(("flip", "jitter", "grey", "blur"), torch.bool), "order": torch.int64}
"""of the drawn tensors; the others are float32"""


def usable(source: Tensor) -> bool:
    """Whether the compiled form can take `source`: packed bytes (P,) or images (B, 3, H, W).

    NOLABEL_KERNELS=0 in the environment turns it off.
    """
    if source.device.type != "cpu" or source.requires_grad or not compiled.wanted():
        return False
    packed = source.ndim == 1 and source.dtype == torch.uint8
    colour = source.ndim == 4 and source.dtype == torch.float32 and source.shape[1] == 3
    return (packed or colour) and library() is not None


def read(
    images: ImageBatch,
    rows: Axis,
    columns: Axis,
    size: tuple[int, int],
    drawn: Mapping[str, Tensor],
    memory_format: torch.memory_format,
) -> Tensor:
    """The images resampled, then through the stages whose keys are in `drawn`: float32 (B, 3, h, w)."""
    fields = images._asdict()
    del fields["indices"]
    for name, axis in ("rows", rows), ("columns", columns):
        fields |= {f"{name}_{key}": getattr(axis, key) for key in AXIS}
    out = torch.empty(images.size, 3, *size, dtype=torch.float32, memory_format=memory_format)
    return _run(fields, drawn, out, memory_format is torch.channels_last, rows.cubic)


def change(images: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
    """A copy of the images, float32 (B, 3, h, w), through the stages whose keys are in `drawn`."""
    out = torch.empty(images.shape, dtype=torch.float32)
    return _run({"images": images}, drawn, out, channels_last=False, cubic=False)


def _run(
    fields: dict[str, Tensor], drawn: Mapping[str, Tensor], out: Tensor, channels_last: bool, cubic: bool
) -> Tensor:
    """Fills `out`, its images split over as many threads as torch uses."""
    function = library()
    assert function is not None
    stages = {name: t.to("cpu", DTYPES.get(name, torch.float32)) for name, t in drawn.items()}
    held = {name: tensor.contiguous() for name, tensor in (fields | stages).items()}
    n = out.shape[0]
    if wrong := [name for name, tensor in held.items() if name != "pixels" and tensor.shape[0] != n]:
        raise ValueError(f"There are {n} images but {held[wrong[0]].shape[0]} values of {wrong[0]!r}.")
    task = Task(
        **{name: tensor.data_ptr() for name, tensor in held.items()},
        pixel_bytes=held["pixels"].numel() if "pixels" in held else 0,
        radius=held["taps"].shape[1] // 2 if "taps" in held else 0,
        height=out.shape[2],
        width=out.shape[3],
        channels_last=channels_last,
        cubic=cubic,
        out=out.data_ptr(),
    )
    threads = min(torch.get_num_threads(), n)
    parts = [(n * i // threads, n * (i + 1) // threads) for i in range(threads)]
    others = [_pool().submit(function, ctypes.byref(task), *part) for part in parts[1:]]
    own = [function(ctypes.byref(task), *part) for part in parts[:1]]
    results = own + [other.result() for other in others]
    if NO_MEMORY in results:
        raise MemoryError("There is no memory for the views of one image.")
    if OUTSIDE in results:
        raise ValueError("A crop reaches outside its image, or an image outside the packed pixels.")
    return out


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "views")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


@functools.cache
def library() -> Callable[..., int] | None:
    """`nolabel_views` of the compiled kernels, or None, with one notice, where they cannot be built."""
    loaded = compiled.load(SOURCE, "Views run in plain PyTorch, several times slower")
    if loaded is None:
        return None
    function = loaded.nolabel_views
    function.argtypes, function.restype = [ctypes.POINTER(Task), ctypes.c_int64, ctypes.c_int64], ctypes.c_int
    return function
