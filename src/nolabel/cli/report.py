"""`nolabel report RUN`: the run's page, written again from its files."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.report.page import write_report


def report(
    run: Path,
    /,
    *,
    thumbnails: Annotated[
        bool, Parameter(help="show pictures of the images; leave them out to share the page")
    ] = True,
) -> None:
    """Write a run's report.html again.

    Parameters
    ----------
    run
        The folder of a run.
    """
    _screen.line(f"The report is {write_report(run, thumbnails)}.")
