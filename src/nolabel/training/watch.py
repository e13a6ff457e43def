"""What is measured while a run goes on: health, the task on held-out images, and what monitors say."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from lightning_fabric import Fabric
from torch import Tensor

from nolabel import distributed
from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.seeds import generator
from nolabel.training.health import health
from nolabel.training.step import ViewSource
from nolabel.views import plain

Monitor = Callable[[Encoder, int], dict[str, float]]
"""(finished encoder in evaluation mode, updates done) -> scalars for `metrics.jsonl`"""

PROBE = 512
PROBE_PIXELS = PROBE * 64 * 64
HELD_OUT = 256
HELD_OUT_AT_END = 1024


class Watch:
    """Measures one run; every process calls `measure`, and only the first one's health and monitors count."""

    def __init__(
        self,
        fabric: Fabric,
        source: ViewSource,
        held_out: ImageStore | None,
        monitors: Sequence[Monitor],
        size: int,
    ) -> None:
        self.fabric = fabric
        self.source = source
        self.held_out = held_out
        self.monitors = monitors
        count = min(PROBE, PROBE_PIXELS // size**2, len(source.store))
        order = torch.randperm(len(source.store), generator=generator(source.seed, "health"))
        self._probe = plain.whole(source.store.batch(order[:count]), size) if fabric.is_global_zero else None

    def measure(self, encoder: Encoder | None, step: int, total: int) -> dict[str, float]:
        """A health row after `step` of `total` updates; `encoder` is None on all but the first process."""
        row = self._task(HELD_OUT_AT_END if step == total else HELD_OUT, min(step / total, 1 - 1 / total))
        if encoder is None or self._probe is None:
            return row
        double = self.fabric.strategy.precision.precision == "64-true"
        # the encoder is a copy as it is written, in float32: of a run in float64 it is asked in no other type
        with contextlib.nullcontext() if double else self.fabric.autocast():
            row |= health(encoder, self._probe)
            for monitor in self.monitors:
                row |= monitor(encoder, step)
        return row

    @torch.no_grad()
    def _task(self, count: int, progress: float) -> dict[str, float]:
        """`held_out/<name>`: how well the task is solved on at most `count` held-out images; {}: too few."""
        if self.held_out is None:
            return {}
        source, method = replace(self.source, store=self.held_out), self.source.method
        size = min(source.batch_size, len(self.held_out) // source.world * source.world)
        if size < method.least_images(method.options):
            return {}
        dtype = next(method.parameters()).dtype
        sums: dict[str, float] = {}
        batches = max(1, min(count, len(self.held_out)) // size)
        method.eval()
        order = torch.randperm(len(self.held_out), generator=generator(source.seed, "held_out", "order"))
        for batch in range(batches):
            indices = order[batch * size : (batch + 1) * size]  # stores are in order of class
            views = _in(dtype, source.held_out(indices, batch, progress))
            with self.fabric.autocast():
                found = method.held_out(views)
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value / batches
        method.train()
        means = distributed.mean(torch.tensor([*sums.values()], device=self.fabric.device)).tolist()
        found = {f"held_out/{name}": value for name, value in zip(sums, means, strict=True)}
        return found | {"held_out/images": float(batches * size)}


def _in(dtype: torch.dtype, views: dict[str, Tensor]) -> dict[str, Tensor]:
    """The numbers of `views` in the type of the weights: float64 under `64-true`, float32 under mixed precision too."""
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in views.items()}
