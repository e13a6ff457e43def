"""What a run leaves on the disk while it trains: checkpoints, and an encoder that is whole at any time."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.encoders import _io, _statistics
from nolabel.encoders.base import Encoder
from nolabel.methods.base import Method, Recipe
from nolabel.runs import Run
from nolabel.seeds import generator
from nolabel.training import checkpoint
from nolabel.views import plain

BATCH = 256
IMAGES = 512
IMAGES_AT_END = 2048


class Keeper:
    """Writes and restores the state of one run. Make it before BatchNorm is synchronised: it keeps a plain copy."""

    def __init__(
        self, run: Run, method: Method, store: ImageStore, recipe: Recipe, size: int, seed: int
    ) -> None:
        self.run = run
        self.method = method
        self.store = store
        self.recipe = recipe
        self.size = size
        self._order = torch.randperm(len(store), generator=generator(seed, "statistics"))
        self._plain = copy.deepcopy(method.encoder)

    def encoder(self, final: bool = False) -> Encoder:
        """A finished copy of the encoder in evaluation mode, on the device of the run."""
        encoder = copy.deepcopy(self._plain)
        encoder.load_state_dict(self.method.encoder.state_dict())
        encoder.to(next(self.method.parameters()).device)
        self.method.finish(encoder)
        encoder.eval()
        if self.recipe.batchnorm == "reestimated":
            _statistics.reestimate_batchnorm(encoder, self._images(IMAGES_AT_END if final else IMAGES))
        return encoder

    def finite(self) -> bool:
        """Whether all weights are: an update can spoil them although its loss was finite."""
        return all(bool(p.isfinite().all()) for p in self.method.parameters())

    def _images(self, count: int) -> Iterator[Tensor]:
        for indices in self._order[:count].split(BATCH):
            yield plain.whole(self.store.batch(indices), self.size)

    def save(
        self, optimizer: torch.optim.Optimizer, fabric: Fabric, step: int, seconds: float, encoder: Encoder
    ) -> None:
        """Write `encoder`, and the checkpoint after `step` updates and `seconds` of training.

        In this order: a run that was killed between the two makes the step again, and the encoder with it.
        """
        info: dict[str, Any] = {
            key: self.run.info.get(key) for key in ("method", "options", "seed", "budget")
        }
        _io.save_encoder(self.run.folder, encoder, info | {"step": step})
        extra = {"seconds": seconds, "scaler": fabric.strategy.precision.state_dict()}
        checkpoint.save(self.run.checkpoints, self.method, optimizer, step, extra)

    def restore(self, optimizer: torch.optim.Optimizer, fabric: Fabric) -> tuple[int, float]:
        """Load the newest whole checkpoint in place: (updates done, seconds of training); (0, 0) without one."""
        found = checkpoint.restore(
            self.run.checkpoints, self.method, optimizer, keep=not fabric.is_global_zero
        )
        if found is None:
            return 0, 0.0
        step, extra = found
        fabric.strategy.precision.load_state_dict(extra["scaler"])
        return step, extra["seconds"]
