"""How long a run is: epochs, steps or minutes, resolved once to a number of steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nolabel.errors import UsageError
from nolabel.methods.base import Method
from nolabel.seeds import generator

RESERVE = 0.03
"""share of the minutes that is left for what is not measured: starting up, a slower moment"""
MEASURED = 0.01
"""share of the minutes that measuring the rate may take"""
LEAST_TIMED = 2
MOST_TIMED = 30
GRID = 100
MOST_KINDS = 6


@dataclass(frozen=True)
class Budget:
    """The length of a run; exactly one is given.

    Raises:
        UsageError: none or several are given, or one is not above 0.
    """

    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = self.asked
        if len(given) != 1:
            named = " and ".join(f"--{name}" for name in given) or "none"
            raise UsageError(
                f"The length of a run is one of --epochs, --steps and --minutes, but {named} was given."
            )
        name, value = next(iter(given.items()))
        if not value > 0:
            raise UsageError(f"--{name} must be above 0, not {value}.")

    @property
    def asked(self) -> dict[str, float]:
        """The one that was given, by its name."""
        every = {"epochs": self.epochs, "steps": self.steps, "minutes": self.minutes}
        return {name: value for name, value in every.items() if value is not None}


def steps_in_epochs(epochs: float, images: int, batch_size: int) -> int:
    """Steps of `epochs` passes; each leaves out the images that fill no whole batch."""
    return max(1, round(epochs * (images // batch_size)))


def kinds_of_step(method: Method, seed: int) -> list[tuple[int, float]]:
    """(step, share): a trial step for each kind of step, and the share of the run's steps that are of it.

    The steps 0 to `GRID` - 1 stand for as many even moments of the run (`progress_of`). They are of one kind where
    `draw` gives tensors of the same shapes and the same 0-d values (such as the side of the views). Where that makes
    more than `MOST_KINDS`, those of the same shapes are one, tried at several even moments.
    """
    exact: dict[tuple[Any, ...], list[int]] = {}
    alike: dict[tuple[Any, ...], list[int]] = {}
    for step in range(GRID):
        drawn = sorted(method.draw(2, generator(seed, "views", step), progress_of(step)).items())
        shapes = tuple((name, tuple(value.shape)) for name, value in drawn)
        alike.setdefault(shapes, []).append(step)
        values = tuple(value.item() for _, value in drawn if not value.ndim)
        exact.setdefault((shapes, values), []).append(step)
    if len(exact) <= MOST_KINDS:
        return [(steps[len(steps) // 2], len(steps) / GRID) for steps in exact.values()]
    trials = max(1, MOST_KINDS // len(alike))
    return [
        (steps[(2 * trial + 1) * len(steps) // (2 * trials)], len(steps) / GRID / trials)
        for steps in alike.values()
        for trial in range(trials)
    ]


def progress_of(step: int) -> float:
    """The moment of the run, in [0, 1], that a trial step stands for."""
    return (step + 0.5) / GRID


def seconds_a_step(
    kinds: list[tuple[int, float]],
    trial: Callable[[int], None],
    allowance: float,
    agree: Callable[[float], float] = float,
) -> float:
    """Mean seconds of a step over the run.

    `trial(step)` does that step of `kinds_of_step` and returns when it is done. The first of each kind
    is not timed (memory, compilation); then about `allowance` seconds go into all kinds together, two steps each at
    least. The median of each kind counts. `agree` gives every process the first one's value.
    """
    total = 0.0
    for step, share in kinds:
        trial(step)
        times = [agree(_timed(trial, step))]
        more = int(allowance / len(kinds) / times[0]) - 1
        times += [_timed(trial, step) for _ in range(min(max(more, LEAST_TIMED - 1), MOST_TIMED - 1))]
        total += share * sorted(times)[len(times) // 2]
    return total


def _timed(trial: Callable[[int], None], step: int) -> float:
    start = time.perf_counter()
    trial(step)
    return time.perf_counter() - start


def steps_in_seconds(seconds: float, step: float, every_second: float, at_end: float) -> int:
    """How many steps of `step` seconds fit.

    `every_second` seconds of each second go to checkpoints, health and monitors, `at_end` to the last of them.
    """
    return max(1, int((seconds - at_end) * (1 - every_second) / step))
