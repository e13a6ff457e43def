"""Ctrl-C and SIGTERM end a run after the step it is at."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether a person or the system asked the run to end."""

    asked: bool = False


@contextlib.contextmanager
def stop_asked() -> Iterator[Stop]:
    """Within it, the first SIGINT or SIGTERM is noted in the `Stop`; the second acts as it did before.

    A signal that is ignored stays ignored (the processes of one run leave SIGINT to their parent). Outside of the
    main thread nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        signal.signal(number, before[signal.Signals(number)])

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
