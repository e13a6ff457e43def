"""One page with a picture and a paragraph for each method, drawn from a person's own images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from nolabel.report import figures, sections
from nolabel.report.page import write_page


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
    """Write the self-contained page `out`; returns its path.

    Raises:
        RunError: the page cannot be written; an older one is left as it is.
    """
    listed = sections.part("contents", [(exhibit.key, exhibit.title) for exhibit in exhibits])
    return write_page(Path(out), title, subtitle, [listed, *map(_section, exhibits)])


def _section(exhibit: Exhibit) -> Markup:
    body = sections.part("sentence", exhibit.explained)
    if exhibit.picture:
        uri = figures.bytes_uri(exhibit.picture, "image/svg+xml")
        body += sections.part("panel", uri, f"{exhibit.title} explained", exhibit.note)
    else:
        body += sections.part("sentence", exhibit.note)
    body += sections.part("faint", exhibit.paper)
    return sections.part("section", exhibit.key, exhibit.title, body)
