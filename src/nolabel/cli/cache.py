"""`nolabel cache`: the decoded images, and the results of baselines, that are kept between runs."""

import time

from cyclopts import App

from nolabel.cli import _screen
from nolabel.data import cache as stores

cache = App(
    name="cache",
    help="See or clear the decoded images and the results of baselines that are kept between runs. "
    "NOLABEL_CACHE names another folder for them, NOLABEL_CACHE_GB another limit.",
    help_format="plaintext",
)


@cache.command(name="list")
def list_() -> None:
    """Show what is kept, the entry used last first."""
    kept = stores.entries()
    used = sum(entry.bytes for entry in kept)
    _screen.line(f"{stores.folder()}: {gigabytes(used)} of {gigabytes(stores.limit())}, {len(kept)} stores")
    if kept:
        rows = [
            (
                e.source,
                f"{e.images:,}",
                gigabytes(e.bytes),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(e.used)),
            )
            for e in kept
        ]
        _screen.table(("source", "images", "size", "last used"), rows, right=("images", "size"))
    results = stores.baselines()
    if results:
        size = gigabytes(sum(file.stat().st_size for file in results))
        _screen.line(f"{len(results):,} results of baselines, {size}: one baseline under one protocol each")


@cache.command
def clear() -> None:
    """Remove all that is kept; it is decoded and measured again when it is needed."""
    _screen.line(f"Freed {gigabytes(stores.clear())} in {stores.folder()}.")


def gigabytes(count: int) -> str:
    """`count` bytes as GB (10^9 bytes), or MB below 0.1 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
