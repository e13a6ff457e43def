"""One page with a picture and a paragraph for each method, drawn from a person's own images."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from nolabel.report import figures, sections
from nolabel.report.page import write_page

WIDE = 420
"""width in points from which a picture is scrolled on a phone, where its words would be too small to read"""


@dataclass(frozen=True)
class Exhibit:
    """One method of the gallery."""

    key: str
    """its name in the catalogue, the anchor on the page"""
    title: str
    paper: str
    """authors, venue and year"""
    explained: str
    """one paragraph for a reader who is new to it"""
    picture: bytes
    """SVG; empty where it could not be drawn"""
    note: str
    """what the picture shows: a trained net's answers, or the task alone, or why there is no picture"""


def write_gallery(exhibits: Sequence[Exhibit], title: str, subtitle: str, out: str | Path) -> Path:
    """Write the self-contained page `out`, exhibits in the order of their papers' years; returns its path.

    Raises:
        RunError: the page cannot be written; an older one is left as it is.
    """
    exhibits = sorted(exhibits, key=lambda exhibit: (_year(exhibit.paper), exhibit.title))
    listed = sections.part("contents", [(exhibit.key, exhibit.title) for exhibit in exhibits])
    return write_page(Path(out), title, subtitle, [listed, *map(_section, exhibits)])


def _section(exhibit: Exhibit) -> Markup:
    body = sections.part("sentence", exhibit.explained)
    if exhibit.picture:
        uri = figures.bytes_uri(exhibit.picture, "image/svg+xml")
        wide = _width(exhibit.picture) > WIDE
        body += sections.part("panel", uri, f"{exhibit.title} explained", exhibit.note, wide)
    else:
        body += sections.part("sentence", exhibit.note)
    body += sections.part("faint", exhibit.paper)
    return sections.part("section", exhibit.key, exhibit.title, body)


def _width(svg: bytes) -> float:
    """In points."""
    found = re.search(rb'<svg[^>]*? width="([0-9.]+)pt"', svg)
    return float(found[1]) if found else 0.0


def _year(paper: str) -> int:
    """The last number of "authors, venue and year"; papers without one come last."""
    years = re.findall(r"[0-9]{4}", paper)
    return int(years[-1]) if years else 9999
