"""The lecture's retrieval figure: one query, the images that each of several encoders finds nearest, in columns."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from nolabel.errors import FileFormatError
from nolabel.report import figures, pictures
from nolabel.report._text import readable
from nolabel.report.records import Record
from nolabel.report.sections import part

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 64
"""pictures up to this side are shown pixel by pixel"""
NEAREST = 4
CAPTION = (
    "One test image, and under the name of each method the four training images whose features are most similar to "
    "its own, most similar first. Green frame: same class as the query. The query is the first on which the methods "
    "differ in what they find. "
)
LECTURE = (
    "The lecture's figure has three columns that this one has not: AlexNet trained with labels, Jigsaw with its "
    "defences against colour off, and tracking in video, of which there is none here. A comparison trains neither of "
    "the first two; nolabel search --beside puts any encoders side by side, and supervised among them is this network "
    "trained with the labels of the training split, in AlexNet's place."
)
UNTRAINED = "random weights"
"""the column of the first method's network before training"""
MOST_ON_A_PHONE = 3
"""columns that a narrow screen shows without sliding"""


def columns_figure(
    query: np.ndarray,
    found: Mapping[str, Sequence[np.ndarray]],
    right: Mapping[str, Sequence[bool]] | None = None,
    *,
    name: str = "",
) -> "Figure":
    """The query on the left, then a column an encoder: its nearest images from top to bottom.

    Args:
        query: uint8 (H, W, 3).
        found: name of the encoder -> its nearest images, uint8 (H, W, 3) of any sizes, nearest first.
        right: name of the encoder -> whether each image is of the query's class; those get a frame.
        name: of the query's class.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = max(len(images) for images in found.values())
    with rc_context({"font.family": "DejaVu Sans", "font.size": 8}):
        figure = Figure((1.5 * (len(found) + 1), 1.4 * rows + 0.5), dpi=120, layout="constrained")
        grid = figure.subplots(rows, len(found) + 1, squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=(), yticks=())
            axes.spines[:].set_visible(False)
        _show(grid[0, 0], query)
        grid[0, 0].set_title("query", fontsize=9, fontweight="bold")
        grid[0, 0].set_xlabel(readable(name))
        for column, (encoder, images) in enumerate(found.items(), 1):
            grid[0, column].set_title(readable(encoder), fontsize=9)
            for row, image in enumerate(images):
                _show(grid[row, column], image)
                if right is not None and right[encoder][row]:
                    grid[row, column].spines[:].set(visible=True, color="#009e73", linewidth=3)
    return figure


def _show(axes: "Axes", picture: np.ndarray) -> None:
    axes.imshow(picture, interpolation="nearest" if max(picture.shape[:2]) <= SMALL else "antialiased")


def columns(records: Sequence[Record], key: str = "columns") -> Markup:
    """The figure for several runs that looked up the same query, random weights last; nothing where they did not."""
    found = _looked_up(records, pictures.RETRIEVAL)
    if len(found) < 2:
        return Markup()
    first = next(iter(found.values()))
    differ = [len(set(rows)) > 1 for rows in zip(*map(_right, found.values()), strict=True)]
    query = differ.index(True) if any(differ) else 0
    for before in _looked_up(records, pictures.UNTRAINED).values():
        if np.array_equal(before.queries, first.queries):
            found.setdefault(UNTRAINED, before)
    right = {name: _right(one) for name, one in found.items()}
    figure = columns_figure(
        first.queries[query],
        {name: list(one.matches[query][:NEAREST]) for name, one in found.items()},
        {name: rows[query] for name, rows in right.items()} if first.query_labels[query] else None,
        name=first.query_labels[query],
    )
    uri = figures.bytes_uri(figures.svg_bytes(figure), "image/svg+xml")
    shown = part("panel", uri, "Query and matches", CAPTION + LECTURE, len(found) > MOST_ON_A_PHONE)
    return part("section", key, "What each method finds alike", shown)


def _looked_up(records: Sequence[Record], name: str) -> dict[str, pictures.Retrieval]:
    """Method -> what it found, of the runs whose queries are those of the first."""
    found: dict[str, pictures.Retrieval] = {}
    for record in records:
        try:
            held = pictures.load_retrieval(record.folder, name)
        except FileFormatError:
            continue
        if held is not None and all(np.array_equal(held.queries, one.queries) for one in found.values()):
            found.setdefault(record.method_in_words, held)
    return found


def _right(found: pictures.Retrieval) -> list[tuple[bool, ...]]:
    """For each query whether each of its nearest images has its class."""
    return [
        tuple(bool(wanted) and label == wanted for label in labels[:NEAREST])
        for wanted, labels in zip(found.query_labels, found.match_labels, strict=True)
    ]
