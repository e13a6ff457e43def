"""The k largest of each row of a matrix that comes a block of columns at a time: compiled from _largest.c."""

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from nolabel.views import compiled

SOURCE = Path(__file__).with_name("_largest.c")
SPARE = 64
"""values beyond k that a row holds at least before it is cut to its k largest"""


class Largest:
    """Of n rows the k largest values so far, and their columns. What is not a number is passed over."""

    def __init__(self, n: int, k: int) -> None:
        self.k, shape = k, (n, k + max(k, SPARE))
        self.values, self.places = torch.empty(shape), torch.zeros(shape, dtype=torch.int32)
        self.held = torch.zeros(n, dtype=torch.int64)
        self.threshold = torch.full((n,), -torch.inf)

    def add(self, block: Tensor, first: int) -> None:
        """Take in `block`, contiguous float32 (n, width): the columns from `first` on."""
        function = library()
        assert function is not None
        (n, capacity), width = self.values.shape, block.shape[1]
        kept = (t.data_ptr() for t in (self.values, self.places, self.held, self.threshold))
        function(block.data_ptr(), n, width, first, self.k, capacity, *kept)

    def found(self) -> tuple[Tensor, Tensor]:
        """Values and columns, both (n, k), the largest first."""
        unused = torch.arange(self.values.shape[1]) >= self.held[:, None]
        values, at = self.values.masked_fill(unused, -torch.inf).topk(self.k, dim=1)
        return values, self.places.gather(1, at).long()


def usable(device: torch.device) -> bool:
    """Whether the compiled form serves tensors on `device`."""
    return device.type == "cpu" and compiled.wanted() and library() is not None


@functools.cache
def library() -> Callable[..., None] | None:
    """`nolabel_keep`, or None, with one notice, where it cannot be built."""
    loaded = compiled.load(SOURCE, "Neighbours are searched in plain PyTorch, somewhat slower")
    if loaded is None:
        return None
    function = loaded.nolabel_keep
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes, function.restype = [pointer, *[number] * 5, *[pointer] * 4], None
    return function
