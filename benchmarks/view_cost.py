"""Share of a training step that goes into building the views: every method, `resnet10`, 32, 96 and 128 px.

Drawing and building the views, and then the rest of the step (forward, backward, update) on them, are timed in turn, in
processor time on one thread, which other programs disturb least. The sides of views that grow along a run weigh as in
the run. Number format, unless it is named, and memory layout are those that a run would choose here. Images are random,
as large as they train; no view depends on what they show.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from benchmarks.pairs import Row
from nolabel import catalog
from nolabel.data.store import ImageStore
from nolabel.memory import keep_freed
from nolabel.number_format import Precision, autocast
from nolabel.training.budget import kinds_of_step, progress_of
from nolabel.training.optim import build_optimizer
from nolabel.training.precision import choose
from nolabel.training.step import ViewSource, total_loss
from nolabel.training.work import default_method

MOST_IMAGES = {32: 32, 96: 8, 128: 8}
"""side -> largest batch that is timed; smaller than a recipe's where a step would take long"""


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time, medians over the pairs, for a mean step of the run."""

    method: str
    side: int
    batch: int
    precision: Precision
    views: float
    rest: float
    share: float
    """of the views in the whole step: the median of the pairs"""
    low: float
    high: float
    pairs: int


def costs(pairs: int, precision: str) -> Iterator[Cost]:
    """Of each method at each side, when it is done."""
    keep_freed()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for side in MOST_IMAGES:
        for name in catalog.names("methods"):
            yield cost(name, side, pairs, precision)
    torch.set_num_threads(threads)


def cost(name: str, side: int, pairs: int, asked: str = "auto") -> Cost:
    store = ImageStore.of(list(torch.randint(0, 256, (256, 3, side, side), dtype=torch.uint8)))
    method, recipe = default_method(name, "resnet10", store, side)
    batch, cpu = min(recipe.batch_size, MOST_IMAGES[side]), torch.device("cpu")
    source = ViewSource(method, store, batch, 0, channels_last=False)
    precision, channels_last = choose(method, source.views(0, 0.5), asked, None)
    source = replace(source, channels_last=channels_last)
    if channels_last:
        method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(method, recipe)
    kinds = kinds_of_step(method, source.seed)

    def pair() -> tuple[float, float]:
        views_time = rest_time = 0.0
        for step, weight in kinds:
            start = time.process_time()
            with torch.no_grad():
                views = source.views(step, progress_of(step))
            made = time.process_time()
            optimizer.zero_grad()
            with autocast(cpu, precision):
                found = method(views)
            total_loss(found).backward()
            optimizer.step()
            views_time += weight * (made - start)
            rest_time += weight * (time.process_time() - made)
        return views_time, rest_time

    pair()
    times = [pair() for _ in range(pairs)]
    shares = [views / (views + rest) for views, rest in times]
    return Cost(
        name, side, batch, precision, statistics.median(v for v, _ in times), statistics.median(r for _, r in times),
        statistics.median(shares), min(shares), max(shares), pairs,
    )  # fmt: skip


def rows(pairs: int, precision: str) -> Iterator[Row]:
    """As rows of the table, whose ratio is the share of the views in the time of the step."""
    for c in costs(pairs, precision):
        yield Row(
            f"views in a step, {c.method}, {c.side} px, {c.batch} images, {c.precision}", "views alone", "whole step",
            c.batch / c.views, c.batch / (c.views + c.rest), c.share, c.low, c.high, c.pairs, "images/s",
        )  # fmt: skip
