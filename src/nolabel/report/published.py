"""The lecture's and the papers' published numbers of the methods shown, beside what was measured here."""

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from nolabel.published import Published, tables
from nolabel.report._text import count
from nolabel.report.records import Record, method_in_words
from nolabel.report.sections import part

COLUMNS = ("data set", "encoder", "protocol", "metric", "value")
CAUTION = (
    "Numbers that the papers and today's libraries printed of these methods, each on its own images and network. "
    "Protocols differ, so none of these compares with a number measured here unless its data set, encoder and "
    "protocol are the same."
)


def published(records: Sequence[Record], key: str = "published") -> Markup:
    """The tables of each method, folded; nothing where no number of these methods was published."""
    folded = Markup()
    for method in dict.fromkeys(record.method for record in records):
        rows = tables(lambda row, method=method: row.implements == method)
        if rows:
            body = Markup().join(_table(name, list(of_table)) for name, of_table in groupby(rows, _name))
            folded += part("folded", f"{method_in_words(method)}: {count(len(rows))} published numbers", body)
    return part("section", key, "Published numbers", part("sentence", CAUTION) + folded) if folded else folded


def _name(row: Published) -> str:
    return f"{row.table} ({row.source})"


def _table(name: str, rows: Sequence[Published]) -> Markup:
    lines = []
    for row in rows:
        value = f"{row.value:g}" + ("" if row.sd is None else f" ± {row.sd:g}")
        told = (row.dataset, row.encoder, row.protocol, row.metric)
        cells = [{"value": text, "detail": ""} for text in told] + [{"value": value, "detail": row.note}]
        lines.append({"name": row.method, "own": False, "cells": cells})
    return part("accuracies", name, COLUMNS, lines, "published as")
