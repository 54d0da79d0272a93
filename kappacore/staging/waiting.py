"""Threads where storage waits, and only there: where it does not, they wait for each other."""

from __future__ import annotations

import resource
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_PATIENCE = 0.005  # seconds of waiting that threads are started for

T = TypeVar("T")
R = TypeVar("R")


class Watch:
    """Watches whether this thread waits rather than works, from now on."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._worked = time.thread_time()
        self._switches = _switches()

    def waits(self, calls: int) -> bool:
        """Return whether it has waited for longer than it worked, and at least in every other call.

        Args:
            calls: Number of calls since.
        """
        worked = time.thread_time() - self._worked
        waited = time.perf_counter() - self._began - worked
        # Who waits gives up its CPU. Other programs only take it away.
        return waited > max(worked, _PATIENCE) and 2 * (_switches() - self._switches) >= calls


class Waiting:
    """Calls functions in threads once they wait, and from then on.

    Args:
        threads: Number of threads.
        name: What their names begin with.

    Attributes:
        found: Whether they have waited.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.found = False
        self._threads = threads
        # Their start takes a millisecond where others run, so they stay.
        self._pool = ThreadPoolExecutor(threads, name)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield ``function(item)`` for each item, in order.

        Args:
            function: Called in this thread, and in several once it waits.
            items: Its arguments; taken slightly ahead of the results.
        """
        left = iter(items)
        if not self.found:
            watch = Watch()
            for calls, item in enumerate(left, 1):
                yield function(item)
                if self._threads > 1 and watch.waits(calls):
                    self.found = True
                    break
        submit = self._pool.submit
        ahead = deque(submit(function, item) for item in islice(left, 2 * self._threads))
        try:
            while ahead:
                result = ahead.popleft().result()
                ahead.extend(submit(function, item) for item in islice(left, 1))
                yield result
        finally:
            for future in ahead:
                future.cancel()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
