"""Draws how the losses of runs fell: `python tools/draw_curves.py docs/pictures/curves_cifar10.png RUN ...`.

A panel for each run, from its `run.json` and `metrics.jsonl`: the loss on training images, on held-out images, and that
of the best answer which is the same everywhere, where the method knows it.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nolabel.report._text import capitalised, short
from nolabel.report.records import method_in_words
from nolabel.runs import METRICS, read_description, read_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
LINES = {
    "loss": {"label": "training images", "color": "lightsteelblue", "linewidth": 1.2},
    "held_out/loss": {"label": "held-out images", "color": "tab:blue", "marker": "o", "markersize": 4},
    "held_out/constant_loss": {"label": "the same answer everywhere", "color": "dimgrey", "linestyle": "--"},
}
"""metrics that are drawn, and how"""


def series(run: Path, name: str) -> list[tuple[float, float]]:
    """(step, value) of a metric; the loss of a constant answer is the method's own number where none is measured."""
    rows = read_rows(run / METRICS)
    found = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    constant = (read_description(run).get("chance") or {}).get("loss")
    if found or name != "held_out/constant_loss" or constant is None:
        return found
    return [(row["step"], constant) for row in (rows[0], rows[-1])]


def draw(runs: list[Path]) -> "Figure":
    from matplotlib.figure import Figure

    across = min(COLUMNS, len(runs))
    down = -(-len(runs) // across)
    figure = Figure(figsize=(2.7 * across, 2.2 * down + 0.5), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    for panel, run in zip(panels, runs, strict=False):
        _panel(panel, run, read_description(run))
    for spare in list(panels)[len(runs) :]:
        spare.set_axis_off()
    names = {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}
    figure.supylabel("loss", fontsize=11)
    figure.legend(names.values(), names.keys(), loc="outside lower center", ncols=len(names), frameon=False)
    return figure


def _panel(panel: "Axes", run: Path, about: dict[str, Any]) -> None:
    for name, style in LINES.items():
        if points := series(run, name):
            panel.plot(*zip(*points, strict=True), **style)
    panel.set_title(capitalised(method_in_words(about["method"])), fontsize=11)
    panel.set_xlabel(f"step ({short(about['data']['source'])})", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.margins(y=0.1)


def main(picture: Path, runs: list[Path]) -> None:
    draw(runs).savefig(picture, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(run) for run in sys.argv[2:]])
