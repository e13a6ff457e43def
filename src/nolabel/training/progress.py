"""What a person sees while a run goes on: sentences, and one live line on a terminal; quiet when piped."""

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

SHOWN = {"feature_std": "spread {:.2f}", "rankme": "RankMe {:.0f}", "knn": "kNN {:.1%}"}


class Progress:
    """Writes to standard error; `enabled=False` writes nothing."""

    def __init__(self, enabled: bool = True) -> None:
        self._console = Console(stderr=True, quiet=not enabled, highlight=False)
        self._live: Live | None = None
        self._health: dict[str, float] = {}

    def say(self, sentence: str) -> None:
        """One sentence on a line of its own."""
        self._console.print(Text(sentence), soft_wrap=True)

    def show(self, row: dict[str, Any], total: int, seconds_left: float) -> None:
        """Replace the live line by what `row` (of `metrics.jsonl`) says."""
        self._health |= {key: row[key] for key in SHOWN if key in row}
        if not self._console.is_terminal or "loss" not in row:
            return
        if self._live is None:
            self._live = Live(console=self._console, transient=True, auto_refresh=False)
            self._live.start()
        self._live.update(Text(describe(row, total, seconds_left, self._health), no_wrap=True), refresh=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def describe(row: dict[str, Any], total: int, seconds_left: float, health: dict[str, float]) -> str:
    """The live line: step, loss, views a second, time waiting for data, time left, health."""
    parts = [
        f"step {row['step']:,}/{total:,}",
        f"loss {row['loss']:.3f}",
        f"{row['views_per_second']:,.0f} views/s",
        f"waiting {row['wait']:.0%}",
        f"{clock(seconds_left)} left",
        *(SHOWN[key].format(value) for key, value in health.items()),
    ]
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """`h:mm:ss` or `m:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
