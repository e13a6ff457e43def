"""The training loop: indices, views, forward, backward, update, log, checkpoint."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from nolabel import distributed
from nolabel.data.feed import Feed
from nolabel.data.store import ImageStore
from nolabel.errors import RunError
from nolabel.methods.base import Method, Recipe
from nolabel.runs import Run
from nolabel.seeds import generator
from nolabel.training import budget, checkpoint
from nolabel.training.budget import Budget
from nolabel.training.health import collapse
from nolabel.training.interrupt import stop_asked
from nolabel.training.keeper import Keeper
from nolabel.training.optim import build_optimizer
from nolabel.training.precision import Numerics
from nolabel.training.progress import Progress
from nolabel.training.record import FirstBad, Recorder, not_finite
from nolabel.training.schedule import rate
from nolabel.training.step import ViewSource, count_views, train_step, unchanged
from nolabel.training.sync_batchnorm import synchronise
from nolabel.training.watch import Monitor, Watch

WATCHES = 5
"""how often in a run health, monitors and the task on held-out images are measured"""
WATCHING = 0.02
"""share of a budget in minutes that it may take; then it is measured 2 to 10 times"""


@dataclass(frozen=True)
class Settings:
    """All that `fit` needs to know beside the method and the images."""

    recipe: Recipe
    """resolved: its batch size is the global one, a multiple of the number of processes"""
    budget: Budget
    size: int
    """side in pixels of the whole images that statistics and health are taken from"""
    seed: int
    numerics: Numerics
    ahead: int = 0
    """steps whose views are made ahead, in a thread"""
    ends: float | None = None
    """time.time() at which a budget in minutes ends"""
    log_every: int | None = None
    """None: about 400 rows, at least one in 50 steps"""
    checkpoint_seconds: float = 120.0
    tensorboard: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    steps: int
    interrupted: bool
    seconds: float
    final: dict[str, float]
    """the last row of `metrics.jsonl`"""


def fit(
    method: Method,
    store: ImageStore,
    *,
    fabric: Fabric,
    settings: Settings,
    run: Run,
    held_out: ImageStore | None = None,
    monitors: Sequence[Monitor] = (),
    progress: Progress,
) -> Outcome:
    """Train `method` on `store` until the budget is spent or a person interrupts it; go on where `run` stands.

    The state is {method, optimizer, step}: on a processor a run that was killed at any step and one that never
    stopped end with the same bits. On an interruption the step at hand is finished and everything is written.

    Raises:
        RunError: the loss is not finite, or a file cannot be written.
        FileFormatError: every checkpoint of the run is damaged.
    """
    if not checkpoint.listed(run.checkpoints):
        method.prepare(store, generator(settings.seed, "prepare"))
    keeper = Keeper(run, method, store, settings.recipe, settings.size, settings.seed)
    model, optimizer = _set_up(fabric, method, settings)
    first, seconds = keeper.restore(optimizer, fabric)
    _agree(fabric, first)
    source = ViewSource(method, store, settings.recipe.batch_size, settings.seed, settings.numerics.channels_last,
                        fabric.global_rank, fabric.world_size)  # fmt: skip
    job = _Job(fabric, settings, run, model, optimizer, keeper, source,
               Watch(fabric, source, held_out, monitors, settings.size), progress)  # fmt: skip
    opening: dict[str, float] | None = None
    if "steps" not in run.info["budget"]:
        opening = job.plan(first, seconds)
    total = run.info["budget"]["steps"]
    recorder = Recorder(fabric, run, progress, total, seconds, settings.tensorboard)
    if fabric.is_global_zero:
        run.drop_metrics_after(first)
    if opening is not None and first == 0:
        recorder.write(first, first / job.epoch, opening)
    try:
        return job.train(first, total, recorder)
    finally:
        recorder.close()


def _set_up(fabric: Fabric, method: Method, settings: Settings) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The method as Fabric runs it, and its optimizer."""
    if fabric.world_size > 1:
        synchronise(method, fabric.device)
    if settings.numerics.channels_last:
        method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(method, settings.recipe)
    module = torch.compile(method, dynamic=False) if settings.numerics.compile else method
    model, optimizer = fabric.setup(module, optimizer)  # type: ignore[arg-type]
    model.train()
    return model, optimizer


def _agree(fabric: Fabric, first: int) -> None:
    steps = distributed.gather(torch.tensor([first], device=fabric.device)).tolist()
    if len(set(steps)) > 1:
        raise RunError(
            f"The processes found checkpoints of different steps ({', '.join(map(str, steps))}): put the run folder on "
            "a file system that all machines share."
        )


@dataclass
class _Job:
    """The parts of one run, so that the loop below reads as one."""

    fabric: Fabric
    settings: Settings
    run: Run
    model: nn.Module
    optimizer: torch.optim.Optimizer
    keeper: Keeper
    source: ViewSource
    watch: Watch
    progress: Progress

    @property
    def epoch(self) -> int:
        """Steps in one pass over the images."""
        return len(self.source.store) // self.settings.recipe.batch_size

    def train(self, first: int, total: int, recorder: Recorder) -> Outcome:
        """Steps `first` to `total`."""
        settings, fabric, begin = self.settings, self.fabric, self.run.info["budget"].get("start", 0)
        every = settings.log_every or max(1, min(50, total // 400))
        watches = self.run.info["budget"]["watches"]
        moments = {-(-total * k // watches) for k in range(1, watches + 1)}
        bad, kept, saved = FirstBad(fabric.device), first, time.monotonic()
        row = (self.run.metrics() or [{}])[-1]
        done, ending = first, False
        with (
            stop_asked() as stop,
            Feed(lambda t: self.source.views(t, t / total), first, total, settings.ahead) as feed,
        ):
            for step, views in zip(range(first, total), feed, strict=True):
                lr = rate(step, total, settings.recipe, begin)
                found = train_step(fabric, self.model, self.optimizer, views, lr, settings.seed, step)
                bad.note(found["loss"], step)
                recorder.count(count_views(views))
                done = step + 1
                logged = done % every == 0 or done in moments
                ending = self._ending(stop.asked, logged)
                if not (logged or ending):
                    continue
                if (broken := bad.step()) is not None:
                    raise self._not_finite(broken, total, kept)
                row = recorder.scalars(found, feed.waited, done) | {"lr": lr}
                due = time.monotonic() - saved >= settings.checkpoint_seconds
                encoder = None
                if fabric.is_global_zero and (due or ending or done in moments):
                    encoder = self.keeper.encoder(final=done == total)
                if done in moments:
                    row |= self.watch.measure(encoder, done, total)
                    self._name_collapse(row, done, total)
                recorder.write(done, done / self.epoch, row)
                if encoder is not None and (due or ending or done == total):
                    if not self.keeper.finite():
                        raise self._not_finite(step, total, kept)
                    self.keeper.save(self.optimizer, fabric, done, recorder.seconds, encoder)
                    kept, saved = done, time.monotonic()
                recorder.skip()
                if ending:
                    break
        return Outcome(done, done < total, recorder.seconds, row)

    def _not_finite(self, step: int, total: int, kept: int) -> RunError:
        lr = rate(step, total, self.settings.recipe, self.run.info["budget"].get("start", 0))
        return not_finite(step, lr, self.settings.numerics.precision, kept)

    def _ending(self, asked: bool, logged: bool) -> bool:
        """Whether to stop after this step; several processes agree on it at logged steps."""
        if self.fabric.world_size == 1:
            return asked
        return logged and float(distributed.mean(torch.tensor(float(asked), device=self.fabric.device))) > 0

    def _name_collapse(self, row: dict[str, float], step: int, total: int) -> None:
        if not self.fabric.is_global_zero or "collapse" in self.run.info:
            return
        if sentence := collapse(row, step) or self.source.method.collapsed(row, step / total):
            self.run.update(collapse={"step": step, "sentence": sentence})
            self.progress.say(sentence)

    def plan(self, first: int, seconds: float) -> dict[str, float]:
        """Measure and write the start of the run, and fix its number of steps; gives the first health row."""
        begin = time.perf_counter()
        encoder = self.keeper.encoder() if self.fabric.is_global_zero else None
        row = self.watch.measure(encoder, first, max(1, first))
        watching = time.perf_counter() - begin
        if encoder is not None:
            self.keeper.save(self.optimizer, self.fabric, first, seconds, encoder)
        keeping = time.perf_counter() - begin - watching
        planned: dict[str, Any] = {**self.run.info["budget"], "watches": WATCHES}
        added = self._added_steps(watching, keeping, planned)
        planned["steps"] = planned.get("start", 0) + added
        planned["epochs"] = round(planned["steps"] / self.epoch, 4)
        self.run.info["budget"] = self.fabric.broadcast(planned)
        if self.fabric.is_global_zero:
            self.run.update()
        return row

    def _added_steps(self, watching: float, keeping: float, planned: dict[str, Any]) -> int:
        asked = self.settings.budget
        if asked.steps is not None:
            return int(asked.steps)
        if asked.epochs is not None:
            return budget.steps_in_epochs(
                asked.epochs, len(self.source.store), self.settings.recipe.batch_size
            )
        assert asked.minutes is not None
        length = asked.minutes * 60
        planned["watches"] = max(2, min(10, int(length * WATCHING / watching)))
        kinds = budget.kinds_of_step(self.source.method, self.source.seed)
        with unchanged(self.source.method, self.optimizer):
            step = budget.seconds_a_step(kinds, self._trial, length * budget.MEASURED, self.fabric.broadcast)
        planned["seconds_a_step"] = round(step, 6)
        # A start that took long (images decoded for the first time) leaves at least half of the minutes to training.
        left = max((self.settings.ends or 0) - time.time(), length / 2) - length * budget.RESERVE
        at_end = planned["watches"] * watching + 2 * keeping
        return budget.steps_in_seconds(left, step, keeping / self.settings.checkpoint_seconds, at_end)

    def _trial(self, step: int) -> None:
        views = self.source.views(step, budget.progress_of(step))
        train_step(self.fabric, self.model, self.optimizer, views, 0.0, self.settings.seed, 0)
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize(self.fabric.device)
