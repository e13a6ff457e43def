"""Collectives over the processes of a run; on one process each is the identity."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_alone = ContextVar("alone", default=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within it this process acts as if it were the only one: it may measure while the others wait."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def world() -> int:
    """Number of processes."""
    if _alone.get():
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process."""
    return dist.get_rank() if world() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        start = rank() * ctx.rows
        return total[start : start + ctx.rows]


def gather(x: Tensor) -> Tensor:
    """Concatenate `x` (n, ...) of every process in rank order, (world * n, ...).

    The backward pass sums over ranks, so that under DDP's division by the number of processes the gradient
    equals that of one process that holds the whole batch.
    """
    return _Gather.apply(x) if world() > 1 else x  # type: ignore[return-value]


def mean(x: Tensor) -> Tensor:
    """Mean of `x` over processes, without gradient."""
    if world() == 1:
        return x.detach()
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / world()
