"""How commands print published numbers."""

from collections.abc import Sequence

from nolabel.cli import _screen
from nolabel.published import PUBLISHED_ONLY, Published, grouped

CAUTION = (
    f"Numbers compare only within a group: of one data set, metric, network and protocol. {PUBLISHED_ONLY!r}: no "
    "method here is this, or its network is not built here."
)


def published(rows: Sequence[Published]) -> None:
    """Print the rows, table by table, those of each setting together."""
    _screen.line(CAUTION)
    for table, settings in grouped(rows).items():
        _screen.line(f"\n{table}")
        widest = max(len(row.method) for of_setting in settings.values() for row in of_setting)
        for setting, of_setting in settings.items():
            _screen.line(f"  {setting}")
            for row in of_setting:
                text = (
                    f"{row.shown:>14}  {row.method:<{widest}}  {row.here:<{len(PUBLISHED_ONLY)}}  {row.note}"
                )
                _screen.line(text.rstrip())
