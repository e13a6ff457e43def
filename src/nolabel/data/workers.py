"""Files decoded by child processes, results in order. A child imports no torch and needs no `__main__` guard.

Small files hold Python's lock while they are decoded (two threads: no gain on CIFAR-10), so the children are
processes; they talk through their standard input and output, end when the parent does, and one that a
broken file brings down costs that file only.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from nolabel.data.read import Decoded, Unreadable, read_image
from nolabel.errors import RunError

Blob = bytes | str
"""the bytes of a file, or the reason why there are none"""

_READY = b"ready"
CHUNK_FILES = 64
CHUNK_BYTES = 1 << 24


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode_all(blobs: Iterable[Blob], shorter: int, workers: int) -> Iterator[Decoded | str]:
    """Each blob decoded by `read_image(blob, shorter)`, in order; a string says why there is no picture."""
    idle: SimpleQueue[_Child] = SimpleQueue()
    children = [_Child(shorter) for _ in range(workers)]
    for child in children:
        idle.put(child)

    def work(chunk: list[Blob]) -> list[Decoded | str]:
        child = idle.get()
        try:
            return child.decode(chunk)
        finally:
            idle.put(child)

    waiting: deque[Future[list[Decoded | str]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for chunk in _chunks(blobs):
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > 2 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for child in children:
            child.close()


def _chunks(blobs: Iterable[Blob]) -> Iterator[list[Blob]]:
    chunk: list[Blob] = []
    size = 0
    for blob in blobs:
        chunk.append(blob)
        size += len(blob)
        if len(chunk) == CHUNK_FILES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _Child:
    """A process that decodes; started when first needed, started again when a file brought it down."""

    def __init__(self, shorter: int) -> None:
        self.shorter = shorter
        self.process: subprocess.Popen[bytes] | None = None

    def decode(self, chunk: list[Blob]) -> list[Decoded | str]:
        try:
            return self._ask(chunk)
        except (EOFError, OSError, pickle.UnpicklingError):
            self.close()
            if len(chunk) > 1:
                return [result for blob in chunk for result in self.decode([blob])]
            return ["damaged: the decoder crashed"]

    def _ask(self, chunk: list[Blob]) -> list[Decoded | str]:
        process = self.process or self._start()
        assert process.stdin
        assert process.stdout
        pickle.dump((self.shorter, chunk), process.stdin, protocol=5)
        process.stdin.flush()
        return pickle.load(process.stdout)

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).strip(
            os.pathsep
        )
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "nolabel.data.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoding libraries written in C print there
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self.process.stdout
        if self.process.stdout.read(len(_READY)) != _READY:
            raise RunError(f"The image reader cannot be started with {sys.executable}: run `nolabel doctor`.")
        return self.process

    def close(self) -> None:
        if self.process is None:
            return
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
        self.process = None


def _decode_one(blob: Blob, shorter: int) -> Decoded | str:
    if isinstance(blob, str):
        return blob
    try:
        return read_image(blob, shorter)
    except Unreadable as error:
        return str(error)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """What a child does until its input ends."""
    while True:
        try:
            shorter, chunk = pickle.load(requests)
        except EOFError:
            return
        pickle.dump([_decode_one(blob, shorter) for blob in chunk], answers, protocol=5)
        answers.flush()


def _main() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    answers.write(_READY)
    answers.flush()
    with contextlib.suppress(BrokenPipeError):
        _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    _main()
