"""One side of a comparison in a process of its own, which stands still while the other side has its turn."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any


class Elsewhere:
    """`build(*arguments)` and the work it gives, in a new process with the settings of its own library alone.

    Out of its turn the process and the workers of its loader are stopped: else they would prepare batches while the
    other side is timed, and take its cores. Use it as a context manager; a call does the work once and gives its count.
    """

    def __init__(self, build: Callable[..., Callable[[], int]], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, build, arguments))
        self.process.start()
        far_end.close()
        self.pipe.recv()
        self._signal(signal.SIGSTOP)

    def __call__(self) -> int:
        self._signal(signal.SIGCONT)
        self.pipe.send(None)
        count = self.pipe.recv()
        self._signal(signal.SIGSTOP)
        return count

    def __enter__(self) -> "Elsewhere":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._signal(signal.SIGKILL)
        self.process.join()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        os.killpg(self.process.pid, number)


def _serve(pipe: Connection, build: Callable[..., Callable[[], int]], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    work = build(*arguments)
    pipe.send(None)
    while True:
        pipe.recv()
        pipe.send(work())
