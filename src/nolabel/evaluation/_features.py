"""Frozen features of an encoder: every stage's map, pooled, for the images that a protocol asks for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder, map_shapes
from nolabel.errors import UsageError
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import POOLED, Features, Network, Progress, not_finite
from nolabel.views import plain

MOST_VALUES = 9000
"""of a stage; RotNet's and AlexNet's linear rows pool to about as many"""
VALUES = 4096
"""of a stage unless asked otherwise: finer pooling doubles the cost and gained nothing measured"""
BATCH = 128
HALF_FROM = 1_500_000_000
"""bytes of a float32 matrix beyond which it is kept as float16"""


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody reads."""


def extract(
    encoder: Encoder,
    store: ImageStore,
    division: Division,
    *,
    name: str,
    stages: Sequence[str] | None = None,
    size: int | None = None,
    values: int = VALUES,
    batch_size: int = BATCH,
    progress: Progress = silent,
) -> Features:
    """The features of `encoder` (put into evaluation mode) on the images of `store`, read whole at `size` px.

    Each stage's map is averaged over a grid of g × g cells, g the largest divisor of the map's side with
    C·g² ≤ `values`; the stage "pooled" is the mean over the last map. No buffer of the encoder changes.

    Args:
        name: the subject of the results.
        stages: names of stage maps; None: all.
        size: side in pixels; None: the encoder's own.
        values: at most so many values a stage.

    Raises:
        UsageError: fewer than 1 value, or images too small for the encoder.
        RunError: when features are computed and are not finite.
    """
    check_values(values)
    size = encoder.size if size is None else size
    encoder = encoder.eval().to(memory_format=torch.channels_last)
    device = encoder.mean.device
    store = store.to(device)
    wanted = tuple(encoder.stages if stages is None else stages)
    shapes = dict(zip(encoder.stages, map_shapes(encoder, size), strict=True))
    grid = {stage: pool_side(c, side, side, values) for stage, (c, side) in shapes.items() if stage in wanted}
    grid |= {POOLED: 1}
    last = shapes[encoder.stages[-1]][0]
    reader = _Reader(encoder, store, name, size, grid, batch_size, progress, torch.zeros(len(store), last))
    return Features(
        name=name,
        values={stage: shapes[stage][0] * grid[stage] ** 2 for stage in wanted} | {POOLED: last},
        grid=grid,
        labels=store.labels,
        train=division.train,
        test=division.test,
        validation=division.validation,
        class_names=store.class_names,
        compute=reader,
        setting={
            "split": division.text,
            "size": size,
            "pooling": f"average, at most {values:,} values a stage",
        },
        network=Network(encoder, store, size, values, progress),
    )


def check_values(values: int) -> None:
    """Raise UsageError for fewer than 1 value a stage."""
    if values < 1:
        raise UsageError(f"At most {values} values a stage are asked for: ask for 1 or more.")


def pool_side(channels: int, height: int, width: int, values: int) -> int:
    """Side of the finest grid with at most `values` values whose cells are equal; 1 where none is."""
    sides = range(1, min(height, width) + 1)
    return max(g for g in sides if g == 1 or (height % g == width % g == 0 and channels * g * g <= values))


@dataclass(eq=False)
class _Reader:
    """`Features.compute` of an encoder; the small pooled vectors are remembered."""

    encoder: Encoder
    store: ImageStore
    name: str
    size: int
    grid: dict[str, int]
    batch_size: int
    progress: Progress
    pooled: Tensor
    known: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.known = torch.zeros(len(self.store), dtype=torch.bool)

    @torch.no_grad()
    def __call__(self, stages: Sequence[str], indices: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        if set(stages) != {POOLED} or not self.known[indices].all():
            for start in range(0, len(indices), self.batch_size):
                rows = slice(start, start + self.batch_size)
                self._read(indices[rows], [s for s in stages if s != POOLED], found, rows, len(indices))
                self.progress(self.name, min(rows.stop, len(indices)), len(indices))
        if POOLED in stages:
            found[POOLED] = self.pooled[indices]
        for stage, matrix in found.items():
            if not all(bool(block.isfinite().all()) for block in matrix.split(4096)):
                raise not_finite(f"{self.name} at {stage}")
        return found

    def _read(
        self, indices: Tensor, stages: Sequence[str], found: dict[str, Tensor], rows: slice, total: int
    ) -> None:
        maps = self.encoder.maps(plain.whole(self.store.batch(indices), self.size, torch.channels_last))
        for stage in stages:
            block = pool(maps[stage], self.grid[stage])
            if stage not in found:
                found[stage] = block.new_empty(
                    (total, block.shape[1]), dtype=storage_type(total, block.shape[1])
                )
            found[stage][rows] = block
        self.pooled[indices] = maps[self.encoder.stages[-1]].mean((2, 3)).float().cpu()
        self.known[indices] = True


def pool(maps: Tensor, side: int) -> Tensor:
    """Maps (B, C, H, W) averaged over side × side cells: (B, C · side²)."""
    return F.adaptive_avg_pool2d(maps, side).flatten(1)


def storage_type(n: int, values: int) -> torch.dtype:
    """float32, or float16 for a matrix that would be too large."""
    return torch.float16 if 4 * n * values > HALF_FROM else torch.float32
