"""One step: the views of this process, and the update."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from nolabel.data.order import batch_indices
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError
from nolabel.methods.base import Method
from nolabel.seeds import derive, generator
from nolabel.training.precision import laid_out


@dataclass(frozen=True)
class ViewSource:
    """Makes the views that this process sees at a step; the same crops on one process and on many."""

    method: Method
    store: ImageStore
    batch_size: int
    """images in the global batch"""
    seed: int
    channels_last: bool
    rank: int = 0
    world: int = 1

    def views(self, step: int, progress: float) -> dict[str, Tensor]:
        """Views of `step`, drawn for the whole batch and cut to this process's share of the images."""
        indices = batch_indices(len(self.store), self.batch_size, self.seed, step)
        random = generator(self.seed, "views", step)
        return self._of(indices, self.method.draw_step(len(indices), random, progress, self.seed, step))

    def held_out(self, indices: Tensor, batch: int, progress: float) -> dict[str, Tensor]:
        """Views for `Method.held_out`: the `batch`-th, of images `indices` (n,), n a multiple of the processes."""
        random = generator(self.seed, "held_out", batch)
        return self._of(indices, self.method.draw(len(indices), random, progress))

    def _of(self, indices: Tensor, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        share = len(indices) // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        local = {key: value[mine] if value.ndim else value for key, value in drawn.items()}
        return laid_out(self.method.views(self.store.batch(indices[mine]), local), self.channels_last)


def count_views(views: dict[str, Tensor]) -> int:
    """Images (B, C, H, W) that the network sees in one step of this process."""
    return sum(len(value) for value in views.values() if value.ndim == 4)


def total_loss(found: dict[str, Tensor]) -> Tensor:
    """The losses of a method and of its adversary, which reach different parameters: one backward pass serves both."""
    return found["loss"] + found["adversary_loss"] if "adversary_loss" in found else found["loss"]


def train_step(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    views: dict[str, Tensor],
    lr: float,
    seed: int,
    step: int,
) -> dict[str, Tensor]:
    """Forward, backward, update; returns what the method logs (0-d tensors on the device, no synchronisation)."""
    torch.manual_seed(derive(seed, "model", step, fabric.global_rank))
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]
    optimizer.zero_grad()
    try:
        found = model(views)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UsageError(
            "BatchNorm sees one value of each channel, because a step has too few views: give a larger --batch-size."
        ) from None
    fabric.backward(total_loss(found))
    optimizer.step()
    return {key: value.detach() for key, value in found.items() if value.ndim == 0}


@contextlib.contextmanager
def unchanged(method: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Whatever steps are tried within it, the method and the optimizer are as before when it ends."""
    weights, state = copy.deepcopy(method.state_dict()), copy.deepcopy(optimizer.state_dict())
    try:
        yield
    finally:
        method.load_state_dict(weights)
        optimizer.load_state_dict(state)
        optimizer.zero_grad()
