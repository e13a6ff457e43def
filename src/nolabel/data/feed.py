"""Steps prepared ahead of the one that trains, in a thread; what they hold does not depend on it."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """Iterates `prepare(step)` for first <= step < last, in order, at most `ahead` steps ahead (0: inline).

    Use it as a context manager: leaving ends the thread after the step it is at. An exception of `prepare`
    is raised where its result would have come.
    """

    def __init__(self, prepare: Callable[[int], T], first: int, last: int, ahead: int = 1) -> None:
        self.prepare = prepare
        self.steps = range(first, last)
        self.ahead = ahead
        self.waited = 0.0
        """seconds that the consumer waited for results so far (with ahead=0: that `prepare` took)"""
        self._pool = ThreadPoolExecutor(1, "feed") if ahead else None

    def __enter__(self) -> "Feed[T]":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[T]:
        if self._pool is None:
            for step in self.steps:
                yield self._timed(lambda step=step: self.prepare(step))
            return
        coming: deque[Future[T]] = deque()
        for step in self.steps:
            while len(coming) <= self.ahead and step + len(coming) < self.steps.stop:
                coming.append(self._pool.submit(self.prepare, step + len(coming)))
            yield self._timed(coming.popleft().result)

    def _timed(self, call: Callable[[], T]) -> T:
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.waited += time.perf_counter() - start
