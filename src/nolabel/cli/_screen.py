"""What commands print: lines and tables on standard output, plain when piped; progress on standard error."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.table import Table

from nolabel.report._text import readable


def line(text: str = "") -> None:
    """Print one line, safe for any terminal."""
    print(readable(text), flush=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table; the columns named in `right` are aligned to the right."""
    cells = [[readable(cell) for cell in row] for row in [headings, *rows]]
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for row in cells:
            parts = zip(row, widths, headings, strict=True)
            print("  ".join(f"{c:>{w}}" if h in right else f"{c:<{w}}" for c, w, h in parts).rstrip())
        return
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        grid.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in cells[1:]:
        grid.add_row(*row)
    Console(highlight=False, markup=False, emoji=False).print(grid)


@contextmanager
def counting(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, moved by calls with (done, in all); nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
