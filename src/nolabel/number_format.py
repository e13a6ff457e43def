"""Number formats of a forward pass, and which of them this machine has units for."""

from pathlib import Path
from typing import Literal

import torch

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
PRECISIONS: tuple[Precision, ...] = ("32-true", "bf16-mixed", "16-mixed", "64-true")
LOW = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""what is not here has no autocast"""

BFLOAT16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bfloat16", "bf16": "bfloat16"}
"""instruction set -> its name in words"""


def cpu_flags() -> frozenset[str]:
    """Instruction sets of this processor as Linux names them; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    told = [line for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(flag for line in told for flag in line.partition(":")[2].split())


def bfloat16_units() -> list[str]:
    """What multiplies bfloat16 matrices in this processor, as far as it says so; without, they would slow it down."""
    flags = cpu_flags()
    return [name for flag, name in BFLOAT16.items() if flag in flags]


def fast_precision(device: torch.device) -> Precision:
    """bfloat16 autocast where `device` multiplies it in hardware, else float32; nothing is timed."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bool(bfloat16_units())
    return "bf16-mixed" if fast else "32-true"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a forward pass has `precision`."""
    return torch.autocast(device.type, dtype=LOW.get(precision), enabled=precision in LOW)
