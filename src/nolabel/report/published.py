"""The lecture's and the papers' published numbers of the methods shown, beside what was measured here."""

from collections.abc import Sequence

from markupsafe import Markup

from nolabel.published import PUBLISHED_ONLY, Published, grouped, placed, tables
from nolabel.report._text import count
from nolabel.report.records import Record, method_in_words
from nolabel.report.sections import part

CAUTION = (
    "Numbers that the papers and today's libraries printed of these methods, each on its own images and network, and "
    "of others in the same tables on the same images. They stand under what they were measured on and how; none "
    "compares with a number under another heading, nor with one measured here unless its data set, encoder and "
    f"protocol are the same. {PUBLISHED_ONLY.capitalize()}: no method here is this, or its network is not built here."
)


def published(records: Sequence[Record], key: str = "published") -> Markup:
    """The tables of each method, folded; nothing where no number of these methods was published."""
    folded = Markup()
    for method in dict.fromkeys(record.method for record in records):
        own = tables(lambda row, method=method: row.implements == method)
        if own:
            rows = placed(own)
            told = f"{count(len(own))} published numbers, beside {count(len(rows) - len(own))} of others"
            folded += part("folded", f"{method_in_words(method)}: {told}", _tables(rows, method))
    return part("section", key, "Published numbers", part("sentence", CAUTION) + folded) if folded else folded


def _tables(rows: Sequence[Published], method: str) -> Markup:
    found = Markup()
    for table, settings in grouped(rows).items():
        groups = [
            (setting, [(row, row.implements == method) for row in of_setting])
            for setting, of_setting in settings.items()
        ]
        found += part("published", table, groups)
    return found
