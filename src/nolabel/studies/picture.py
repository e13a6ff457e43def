"""The heat-map of a study."""

from collections.abc import Mapping, Sequence

import numpy as np

from nolabel.report.figures import svg_bytes


def heat_map(found: Mapping[tuple[str, str], float], names: Sequence[str], title: str) -> bytes:
    """SVG of accuracies (row, column) -> share: rows come first, the last column is the mean of a row.

    Cells that were not measured are left empty.
    """
    from matplotlib.figure import Figure

    grid = np.array([[found.get((row, column), np.nan) for column in names] for row in names])
    measured = np.isfinite(grid)
    means = np.array(
        [
            values[known].mean() if known.any() else np.nan
            for values, known in zip(grid, measured, strict=True)
        ]
    )
    shown = 100 * np.column_stack([grid, means])
    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shown, cmap="viridis")
    low, high = np.nanmin(shown), np.nanmax(shown)
    for (row, column), value in np.ndenumerate(shown):
        if np.isfinite(value):
            colour = "white" if value < (low + high) / 2 else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=12)
    axes.set_xticks(range(len(names) + 1), [*names, "mean"], fontsize=12, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names, fontsize=12)
    axes.set_xlabel("second operation (the same as the first: alone)", fontsize=12)
    axes.set_ylabel("first operation", fontsize=12)
    axes.axvline(len(names) - 0.5, color="white", linewidth=3)
    figure.suptitle(title, fontsize=13)
    return svg_bytes(figure)
