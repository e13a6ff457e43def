"""The log of a run: `metrics.jsonl`, the live line, TensorBoard."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from nolabel import distributed
from nolabel.errors import RunError, UsageError
from nolabel.runs import Run
from nolabel.training.progress import Progress


class FirstBad:
    """Finds the first step whose loss is not finite without waiting for the device at every step."""

    def __init__(self, device: torch.device) -> None:
        self._step = torch.full((), -1, dtype=torch.int64, device=device)

    def note(self, loss: Tensor, step: int) -> None:
        """Look at the loss of `step`."""
        bad = ~torch.isfinite(loss) & (self._step < 0)
        self._step = torch.where(bad, step, self._step)

    def step(self) -> int | None:
        """The first bad step on any process, or None. Every process must call it."""
        steps = distributed.gather(self._step[None])
        found = steps[steps >= 0]
        return int(found.min()) if len(found) else None


class Recorder:
    """Writes rows on the first process; keeps the time since the last one."""

    def __init__(
        self, fabric: Fabric, run: Run, progress: Progress, total: int, seconds: float, board: bool
    ) -> None:
        self.fabric, self.run, self.progress, self.total = fabric, run, progress, total
        self._begin = time.perf_counter() - seconds
        self._last = (time.perf_counter(), 0.0)
        self._views = self._steps = 0
        self._left = 0.0
        self._board = _open_board(run.folder) if board and fabric.is_global_zero else None

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return time.perf_counter() - self._begin

    def count(self, views: int) -> None:
        """Note a step and the views that this process saw in it."""
        self._views += views
        self._steps += 1

    def scalars(self, found: dict[str, Tensor], waited: float, step: int) -> dict[str, Any]:
        """Means over processes of `found`, which the last step gave, and rates since the last call.

        `waited` is how long all steps of this process waited for their views, in seconds.
        """
        names = list(found)
        values = distributed.mean(torch.stack([found[name].float() for name in names])).tolist()
        now = time.perf_counter()
        taken = now - self._last[0]
        rates = {
            "views_per_second": round(self._views * self.fabric.world_size / taken, 1),
            "wait": round((waited - self._last[1]) / taken, 4),
        }
        self._left = (self.total - step) * taken / self._steps
        self._last, self._views, self._steps = (now, waited), 0, 0
        return dict(zip(names, values, strict=True)) | rates

    def skip(self) -> None:
        """Leave the time since the last call out of the rates (measuring, writing)."""
        self._last = (time.perf_counter(), self._last[1])

    def write(self, step: int, epoch: float, row: dict[str, Any]) -> None:
        """One row of `metrics.jsonl` after `step` updates."""
        if not self.fabric.is_global_zero:
            return
        place = {"step": step, "epoch": round(epoch, 4), "progress": round(step / self.total, 6)}
        row = place | {"seconds": round(self.seconds, 2)} | row
        self.progress.show(row, self.total, self._left)
        self.run.append_metrics(row)
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self.progress.close()
        if self._board is not None:
            self._board.close()


def not_finite(step: int, lr: float, precision: str, kept: int) -> RunError:
    """The error for a loss that is not finite at `step`; `kept` is the step of the last good checkpoint."""
    half = precision not in ("32-true", "64-true")
    remedy = "lower --lr" + (" or name --precision 32-true" if half else "")
    return RunError(
        f"The loss is not finite at step {step} (learning rate {lr:.3g}, {precision}), most likely because the rate is "
        f"too high: {remedy} and start again; the checkpoint of step {kept} and its encoder are kept."
    )


def _open_board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "--tensorboard needs the package tensorboard: pip install 'nolabel[tensorboard]'."
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))
