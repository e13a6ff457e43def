"""Number format, memory layout and compilation, by a short measurement where they are not named."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nolabel.errors import UsageError
from nolabel.number_format import PRECISIONS, Precision, autocast, fast_precision

TIMED = 3
COMPILE_FROM = 1200.0
"""seconds of training below which compiling is not tried"""


@dataclass(frozen=True)
class Numerics:
    """What a bit-equal repeat must keep."""

    precision: Precision
    channels_last: bool
    compile: bool


def candidates(
    device: torch.device, precision: str, channels_last: bool | None
) -> list[tuple[Precision, bool]]:
    """(precision, channels_last) worth measuring on `device`; "auto" and None leave a choice open.

    Raises:
        UsageError: an unknown precision, or one that the device does not have.
    """
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(
            f"There is no precision {precision!r}: choose auto or one of {', '.join(PRECISIONS)}."
        )
    if precision == "16-mixed" and device.type != "cuda":
        raise UsageError("The precision 16-mixed needs a CUDA GPU: choose auto, 32-true or bf16-mixed.")
    if precision != "auto":
        chosen: list[Precision] = [value for value in PRECISIONS if value == precision]
    elif fast_precision(device) == "bf16-mixed":
        chosen = ["bf16-mixed", "32-true"]
    else:
        chosen = ["16-mixed", "32-true"] if device.type == "cuda" else ["32-true"]
    layouts = [True, False] if channels_last is None else [channels_last]
    return [(value, layout) for value in chosen for layout in layouts]


def laid_out(views: dict[str, Tensor], channels_last: bool) -> dict[str, Tensor]:
    """Image tensors (B, C, H, W) of `views` in the layout of the run."""
    if not channels_last:
        return views
    return {
        k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in views.items()
    }


def choose(
    method: nn.Module, views: dict[str, Tensor], precision: str, channels_last: bool | None
) -> tuple[Precision, bool]:
    """The fastest (precision, channels_last) of `candidates` for a forward and backward pass on `views`.

    `method` is copied and stays as it is.
    """
    device = next(iter(views.values())).device
    options = candidates(device, precision, channels_last)
    if len(options) == 1:
        return options[0]
    return min(options, key=lambda option: _seconds(_pass(method, views, *option)))


def compiles(
    method: nn.Module,
    views: dict[str, Tensor],
    chosen: tuple[Precision, bool],
    wanted: bool | None,
    seconds: Callable[[float], float],
    say: Callable[[str], None],
) -> bool:
    """Whether to compile: as `wanted`, or (None) if it saves more than it takes.

    Args:
        seconds: of a pass on `views` -> of the whole run. Compiling is not tried below `COMPILE_FROM`.
        say: told why where compilation was wanted and is not possible.
    """
    if wanted is False:
        return False
    plain = 0.0
    if wanted is None:
        plain = _seconds(_pass(method, views, *chosen))
        if seconds(plain) < COMPILE_FROM:
            return False
    compiled = _pass(method, views, *chosen, compile=True)
    start = time.perf_counter()
    try:
        compiled()
    except Exception as error:  # torch raises what the compiler, the linker or the backend raised
        say(f"Not compiled ({type(error).__name__}: no working compiler here?): going on without --compile.")
        return False
    taken = time.perf_counter() - start
    return bool(wanted) or seconds(plain) - seconds(_seconds(compiled)) > taken


def _pass(
    method: nn.Module,
    views: dict[str, Tensor],
    precision: Precision,
    channels_last: bool,
    compile: bool = False,
) -> Callable[[], None]:
    """A forward and backward pass of a copy of `method`, as a function."""
    clone = copy.deepcopy(method).train()
    if channels_last:
        clone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = torch.compile(clone, dynamic=False) if compile else clone
    placed = laid_out(views, channels_last)
    device = next(iter(views.values())).device

    def once() -> None:
        with autocast(device, precision):
            loss = run(placed)["loss"]
        loss.backward()
        clone.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return once


def _seconds(once: Callable[[], None]) -> float:
    """The best of `TIMED` calls, after one that does not count."""
    once()
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        once()
        times.append(time.perf_counter() - start)
    return min(times)
