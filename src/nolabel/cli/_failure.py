"""What is said of a failure that no part of the program foresaw: one line, and a log with the traceback."""

import errno
import os
import platform
import shlex
import tempfile
import time
import traceback
from collections.abc import Sequence


def failed(error: Exception, tokens: Sequence[str]) -> str:
    """The sentence for an unexpected `error` of the command `tokens`; its traceback goes to a log file."""
    log = _write_log(error, tokens)
    place = f"the details are in {log}" if log else "no log could be written"
    if _out_of_memory(error):
        return f"Out of memory: choose a smaller --batch-size, --size or --encoder; {place}."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return (
            f"The disk is full ({error.filename or 'no file named'}): free space and run it again; {place}."
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"Cannot use {os.fsdecode(error.filename)}: {error.strerror}; {place}."
    return f"Failed with {type(error).__name__}, a bug in nolabel; {place}: please report it with that file."


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _write_log(error: Exception, tokens: Sequence[str]) -> str | None:
    """The log's path, or None where even the temporary folder cannot be written."""
    try:
        descriptor, path = tempfile.mkstemp(prefix=time.strftime("nolabel-%Y%m%d-%H%M%S-"), suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(
                f"nolabel {shlex.join(tokens)}\n{platform.platform()}, Python {platform.python_version()}\n\n"
            )
            file.writelines(traceback.format_exception(error))
    except OSError:
        return None
    return path
