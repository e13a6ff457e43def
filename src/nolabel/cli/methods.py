"""`nolabel methods`: what there is to pretrain with; reads files only, imports no torch."""

from nolabel import catalog
from nolabel.cli import _screen


def methods() -> None:
    """List the methods."""
    rows = [(name.replace("_", "-"), catalog.summary("methods", name)) for name in catalog.names("methods")]
    _screen.table(("method", "idea"), rows)
    _screen.line()
    _screen.line(
        "nolabel pretrain METHOD --help shows its options. METHOD may be a dotted path or a .py file too."
    )
