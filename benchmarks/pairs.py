"""Alternating pairs: A B A B ..., so that a machine whose speed drifts slows both sides alike."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.elsewhere import Elsewhere


@dataclass(frozen=True)
class Row:
    """One comparison: rates of both sides (items per second, medians) and the median of the pairs' ratios."""

    name: str
    ours: str
    theirs: str
    ours_rate: float
    theirs_rate: float
    ratio: float
    low: float
    """smallest ratio of any pair"""
    high: float
    pairs: int
    unit: str
    extra: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def compare(
    name: str,
    ours: tuple[str, Callable[[], int]],
    theirs: tuple[str, Callable[[], int]],
    *,
    pairs: int,
    unit: str,
    warm: int = 1,
) -> Row:
    """Time both sides in turn, after `warm` calls of each; a call does its work and returns how many items it did.

    `extra` has the same ratio in processor time, which other programs on the machine disturb less, where both sides
    run in this process alone.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    busy: tuple[list[float], list[float]] = ([], [])
    for _, work in (ours, theirs):
        for _ in range(warm):
            work()
    for pair in range(pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        for side in order:
            work = (ours, theirs)[side][1]
            start, processor = time.perf_counter(), time.process_time()
            items = work()
            busy[side].append(items / (time.process_time() - processor))
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            rates[side].append(items / (time.perf_counter() - start))
    ratios, of_busy = ([a / b for a, b in zip(*sides, strict=True)] for sides in (rates, busy))
    here = not isinstance(theirs[1], Elsewhere)
    return Row(
        name, ours[0], theirs[0], statistics.median(rates[0]), statistics.median(rates[1]),
        statistics.median(ratios), min(ratios), max(ratios), pairs, unit,
        {"ratio_of_processor_time": statistics.median(of_busy)} if here else {},
    )  # fmt: skip


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    model = next(
        (line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), ""
    )
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return {
        "processor": model or platform.processor(),
        "cores": torch.get_num_threads(),
        "instructions": [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }
