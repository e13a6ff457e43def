"""Where a command may write."""

import os
from pathlib import Path

from nolabel.errors import UsageError


def check_apart(out: Path, *read: str | Path | None) -> None:
    """Raise UsageError where the file `out` is one of those that the command reads."""
    for place in read:
        source = Path(os.path.expanduser(place or ""))
        if place and out.exists() and source.exists() and out.samefile(source):
            raise UsageError(
                f"{out} would be written over {place}, which is read: name another file with --out."
            )
