"""How long a run is: epochs, steps or minutes, resolved once to a number of steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass

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


def kinds_of_step(method: Method) -> list[tuple[float, float]]:
    """(progress, share): one moment for each kind of step, and the share of the run's steps that are of it.

    Steps are of one kind where `draw` gives tensors of the same shapes and the same 0-d values (such as the side of
    the views); a method that changes at every step is taken at `MOST_KINDS` even moments.
    """
    found: dict[tuple, list[float]] = {}
    for point in range(GRID):
        progress = (point + 0.5) / GRID
        drawn = method.draw(2, generator(0, "views", 0), progress)
        kind = tuple(
            (name, tuple(t.shape), None if t.ndim else t.item()) for name, t in sorted(drawn.items())
        )
        found.setdefault(kind, []).append(progress)
    if len(found) > MOST_KINDS:
        return [((point + 0.5) / MOST_KINDS, 1 / MOST_KINDS) for point in range(MOST_KINDS)]
    return [(moments[len(moments) // 2], len(moments) / GRID) for moments in found.values()]


def seconds_a_step(
    kinds: list[tuple[float, float]],
    trial: Callable[[float], None],
    allowance: float,
    agree: Callable[[float], float] = float,
) -> float:
    """Mean seconds of a step over the run.

    `trial(progress)` does one step of the kind at `progress` and returns when it is done. The first of each kind
    is not timed (memory, compilation); then about `allowance` seconds go into all kinds together, two steps each at
    least. The median of each kind counts. `agree` gives every process the first one's value.
    """
    total = 0.0
    for progress, share in kinds:
        trial(progress)
        times = [agree(_timed(trial, progress))]
        more = int(allowance / len(kinds) / times[0]) - 1
        times += [_timed(trial, progress) for _ in range(min(max(more, LEAST_TIMED - 1), MOST_TIMED - 1))]
        total += share * sorted(times)[len(times) // 2]
    return total


def _timed(trial: Callable[[float], None], progress: float) -> float:
    start = time.perf_counter()
    trial(progress)
    return time.perf_counter() - start


def steps_in_seconds(seconds: float, step: float, every_second: float, at_end: float) -> int:
    """How many steps of `step` seconds fit.

    `every_second` seconds of each second go to checkpoints, health and monitors, `at_end` to the last of them.
    """
    return max(1, int((seconds - at_end) * (1 - every_second) / step))
