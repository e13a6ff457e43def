"""Charts as inline SVG and pictures as data URIs, from numbers and arrays.

Colours are names of the page's CSS variables, so one figure serves light, dark and print; lines and points
differ in shape too, so none is told by colour alone (palette: after Okabe and Ito 2008). Charts are drawn
about as wide as a phone's page, and stand side by side on a wider one.
"""

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from nolabel.report._text import percent, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {  # what matplotlib draws with -> what the page shows
    "#010101": "var(--ink, #1b1f24)",
    "#020202": "var(--faint, #656d76)",
    "#030303": "var(--rule, #d8dee4)",
    "#040404": "var(--page, #ffffff)",
    "#0a0001": "var(--series-1, #0072b2)",
    "#0a0002": "var(--series-2, #d55e00)",
    "#0a0003": "var(--series-3, #009e73)",
    "#0a0004": "var(--series-4, #aa3377)",
}
INK, FAINT, RULE, PAGE, *SERIES = COLOURS
STYLES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
MARKERS = ("o", "s", "^", "D")
WIDTH, HEIGHT = 4.3, 2.5  # inches of 72 units
LEGEND_LINE = 0.2
"""inches that each name beyond the second adds, so that a long legend leaves the curves their room"""
MOST_POINTS = 80
NAME_WIDTH = 0.15
"""of a chart's width, which the name of a value on its x axis needs"""
SMALL = 64
"""pictures up to this side are shown pixel by pixel"""


@dataclass(frozen=True)
class Line:
    """One curve."""

    label: str
    x: np.ndarray
    y: np.ndarray
    ends: np.ndarray | None = None
    """of the intervals about `y`, (n, 2)"""


@dataclass(frozen=True)
class Level:
    """A labelled dashed line across a chart, such as chance."""

    value: float
    label: str


@dataclass(frozen=True)
class Measured:
    """One row of an interval chart."""

    label: str
    value: float
    low: float | None
    high: float | None
    is_baseline: bool


def curves(
    lines: Sequence[Line],
    *,
    x_label: str,
    alt: str,
    levels: Sequence[Level] = (),
    shares: bool = False,
    factors: bool = False,
) -> str:
    """Curves with `levels`, as inline SVG; `shares`: values in [0, 1], in percent; `factors`: x in equal factors."""
    figure, axes = _figure(HEIGHT + LEGEND_LINE * max(0, len(lines) - 2))
    scale = 100 if shares else 1
    for i, line in enumerate(lines):
        x, y = _thinned(line.x, line.y)
        alone = {"marker": _marker(i), "markersize": 4} if len(x) < 30 else {}
        axes.plot(
            x,
            scale * y,
            color=SERIES[i % 4],
            linestyle=_style(i),
            linewidth=1.6,
            label=_shown(line.label),
            **alone,
        )
        if line.ends is not None:
            axes.vlines(line.x, *(scale * line.ends.T), color=SERIES[i % 4], linewidth=1)
    for level in levels:
        axes.axhline(scale * level.value, color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
        axes.annotate(
            _shown(level.label),
            (1, scale * level.value),
            (0, 2.5),
            axes.get_yaxis_transform(),
            "offset points",
            ha="right",
            va="bottom",
            color=FAINT,
            fontsize=9.5,
        )
    axes.set_xlabel(x_label)
    axes.margins(x=0.02, y=0.12)
    if factors:
        _by_factors(axes, lines)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    if shares:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    if len(lines) > 1:
        _legend(axes)
    return _svg(figure, alt)


def intervals(rows: Sequence[Measured], *, x_label: str, alt: str) -> str:
    """A dot with its 95 % interval for each row, baselines hollow squares; in percent. Returns inline SVG."""
    figure, axes = _figure(0.6 + 0.5 * len(rows))
    for i, row in enumerate(rows):
        place = len(rows) - 1 - i
        colour = FAINT if row.is_baseline else SERIES[0]
        if row.low is not None and row.high is not None:
            axes.plot(
                [100 * row.low, 100 * row.high],
                [place, place],
                color=colour,
                linewidth=2.4,
                solid_capstyle="butt",
            )
        axes.plot(
            [100 * row.value], [place], color=colour, markersize=6.5, markeredgewidth=1.6,
            marker="s" if row.is_baseline else "o", markerfacecolor=PAGE if row.is_baseline else colour,
        )  # fmt: skip
        axes.annotate(
            _shown(row.label),
            (0, place),
            (0, 11),
            axes.get_yaxis_transform(),
            "offset points",
            va="center",
            color=INK,
            fontsize=10,
        )
        axes.annotate(
            percent(row.value),
            (1, place),
            (0, 11),
            axes.get_yaxis_transform(),
            "offset points",
            ha="right",
            va="center",
            color=INK,
            fontsize=10,
        )
        axes.axhline(place, color=RULE, linewidth=0.6, zorder=0)
    axes.set_ylim(-0.5, len(rows) - 0.3)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.06)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_xlabel(x_label)
    return _svg(figure, alt)


def stages(values: Mapping[str, Mapping[str, float]], *, alt: str) -> str:
    """Accuracy against depth: `values[subject][stage]` in [0, 1], stages in depth order. Inline SVG."""
    figure, axes = _figure(HEIGHT + LEGEND_LINE * max(0, len(values) - 2))
    names = list(dict.fromkeys(stage for of_subject in values.values() for stage in of_subject))
    for i, (subject, of_subject) in enumerate(values.items()):
        x = [names.index(stage) for stage in of_subject]
        axes.plot(
            x,
            [100 * value for value in of_subject.values()],
            color=SERIES[i % 4],
            linestyle=_style(i),
            marker=_marker(i),
            markersize=5,
            linewidth=1.6,
            label=_shown(subject),
        )
    axes.set_xticks(range(len(names)), [_shown(name, 14) for name in names])
    axes.set_xlabel("stage of the network, first to last")
    axes.margins(x=0.06, y=0.12)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    if len(values) > 1:
        _legend(axes)
    return _svg(figure, alt)


def filter_sheet(weights: np.ndarray, columns: int = 16) -> np.ndarray:
    """First-layer filters (O, 1 or 3, k, k) side by side, each over its own largest weight (0 is mid-grey).

    Returns uint8 (rows · (k + 1) − 1, columns · (k + 1) − 1, 4), transparent between the filters.
    """
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    shown = 0.5 + 0.5 * weights / np.where(largest > 0, largest, 1)
    tiles = np.round(255 * np.nan_to_num(shown, nan=0.5)).astype(np.uint8).transpose(0, 2, 3, 1)
    tiles = np.broadcast_to(tiles, (*tiles.shape[:3], 3))
    columns = min(columns, len(tiles))
    rows, k = -(-len(tiles) // columns), tiles.shape[1]
    sheet = np.zeros((rows * (k + 1) - 1, columns * (k + 1) - 1, 4), np.uint8)
    for i, tile in enumerate(tiles):
        y, x = (k + 1) * (i // columns), (k + 1) * (i % columns)
        sheet[y : y + k, x : x + k, :3], sheet[y : y + k, x : x + k, 3] = tile, 255
    return sheet


def contact_sheet(tiles: np.ndarray, gap: int = 2) -> np.ndarray:
    """Images uint8 (R, C, H, W, 3) as one picture, uint8 with alpha; column 0 is set apart."""
    rows, columns, h, w, _ = tiles.shape
    apart = max(gap, w // 8)
    sheet = np.zeros(
        (rows * (h + gap) - gap, columns * (w + gap) - gap + (apart if columns > 1 else 0), 4), np.uint8
    )
    for r in range(rows):
        for c in range(columns):
            y, x = r * (h + gap), c * (w + gap) + (apart if c else 0)
            sheet[y : y + h, x : x + w, :3], sheet[y : y + h, x : x + w, 3] = tiles[r, c], 255
    return sheet


def data_uri(picture: np.ndarray, exact: bool) -> str:
    """uint8 (H, W, 3 or 4) as a `data:` URI: PNG where `exact`, else WebP, which is much smaller."""
    image, held = Image.fromarray(picture), io.BytesIO()
    if exact:
        image.save(held, "PNG", optimize=True)
        return bytes_uri(held.getvalue(), "image/png")
    image.save(held, "WEBP", quality=85)
    return bytes_uri(held.getvalue(), "image/webp")


def svg_bytes(figure: "Figure") -> bytes:
    """A figure that stands alone, as an SVG file."""
    held = io.BytesIO()
    figure.savefig(held, format="svg")
    return held.getvalue()


def png_bytes(figure: "Figure") -> bytes:
    """A PNG file's bytes, at the figure's own resolution."""
    held = io.BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()


def bytes_uri(content: bytes, mime: str) -> str:
    """Bytes of a picture as a `data:` URI."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def matches_figure(
    query_image: np.ndarray, match_images: Sequence[np.ndarray], scores: Sequence[float], names: Sequence[str]
) -> bytes:
    """The picture of `nolabel search`: the query, then its nearest images with rank, similarity and name.

    Args:
        query_image: uint8 (H, W, 3).
        match_images: K images uint8 (H, W, 3) of any sizes, nearest first.
        scores: K cosine similarities.
        names: K names; the end of a long one is shown.

    Returns a PNG file's bytes, six pictures to the row.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    pictures = [query_image, *match_images]
    titles = ["query", *(f"{i}.  {score:.3f}" for i, score in enumerate(scores, 1))]
    below = ["", *(_shown(name, 22) for name in names)]
    columns = min(6, len(pictures))
    rows = -(-len(pictures) // columns)
    with rc_context({"font.family": "DejaVu Sans", "font.size": 8}):
        figure = Figure((1.6 * columns, 1.95 * rows), dpi=120, layout="constrained")
        grid = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for axes in grid:
            axes.set_axis_off()
        for axes, picture, title, name in zip(grid, pictures, titles, below, strict=False):
            axes.imshow(
                picture, interpolation="nearest" if max(picture.shape[:2]) <= SMALL else "antialiased"
            )
            axes.set_title(title, fontsize=9.5, fontweight="bold" if title == "query" else "normal")
            axes.text(
                0.5,
                -0.04,
                name,
                transform=axes.transAxes,
                ha="center",
                va="top",
                fontsize=7,
            )
        return png_bytes(figure)


def _shown(text: str, longest: int = 44) -> str:
    """The end of `text` as matplotlib must be given it: `$` is no formula, `_` in front hides no legend."""
    text = readable(text)
    text = text if len(text) <= longest else "…" + text[1 - longest :]
    return (f" {text}" if text.startswith("_") else text).replace("$", r"\$")


def _style(i: int) -> object:
    """The line of series `i`: no two of sixteen have both colour and line in common."""
    return STYLES[(i + i // 4) % 4]


def _marker(i: int) -> str:
    return MARKERS[(i + i // 4) % 4]


def _by_factors(axes: "Axes", lines: Sequence[Line]) -> None:
    axes.set_xscale("log")
    values = sorted({float(x) for line in lines for x in line.x}, reverse=True)
    room, named = (values[0] / values[-1]) ** NAME_WIDTH, values[:1]
    for value in values[1:]:
        if named[-1] / value >= room:
            named.append(value)
    axes.set_xticks(named, [f"{value:,.0f}" for value in named])
    axes.minorticks_off()


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 80 points: means over equal parts of the x axis; values that are not finite are left out."""
    kept = np.isfinite(x) & np.isfinite(y)
    x, y = x[kept], y[kept]
    if len(x) <= MOST_POINTS:
        return x, y
    part = np.minimum((x - x.min()) / np.ptp(x) * MOST_POINTS, MOST_POINTS - 1).astype(int)
    n = np.bincount(part)
    means = [np.bincount(part, values)[n > 0] / n[n > 0] for values in (x, y)]
    return means[0], means[1]


def _figure(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=9.5, length=3)
    axes.xaxis.label.set(color=FAINT, fontsize=9.5)
    return figure, axes


def _legend(axes: "Axes") -> None:
    names = axes.get_legend_handles_labels()[1]
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2 if max(map(len, names)) <= 16 else 1,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        handlelength=2.4,
        borderaxespad=0.2,
    )


def _svg(figure: "Figure", alt: str) -> str:
    """The figure as an `<svg>` element without size, date or clashing ids, its colours those of the page."""
    from html import escape

    from matplotlib import rc_context

    held = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nolabel", "font.family": "DejaVu Sans"}):
        figure.savefig(held, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = held.getvalue()
    box = re.search(r'viewBox="[^"]+"', drawn)
    body = re.search(r"<svg[^>]*>(.*)</svg>", drawn, re.S)
    assert box
    assert body
    inner = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>", "", body[1], flags=re.S)
    inner = re.sub(r' transform="rotate\(-0 [^"]*"|font-family: [^;]*; ', "", inner)
    inner = re.sub(r'<g id="[^"]*"', "<g", inner)
    prefix = "f" + hashlib.sha256(inner.encode()).hexdigest()[:8]
    inner = re.sub(r'\bid="', f'id="{prefix}', inner)
    inner = re.sub(r'(xlink:href="|url\()#', rf"\1#{prefix}", inner).replace("xlink:href", "href")
    inner = re.sub(
        r"(fill|stroke): (#\w{6})", lambda found: f"{found[1]}: {COLOURS.get(found[2], found[2])}", inner
    )
    inner = re.sub(r"\s*\n\s*", "\n", inner)
    return f'<svg {box[0]} role="img" aria-label="{escape(alt)}">{inner}</svg>'
