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

    Attributes:
        found: Whether they have waited.
    """

    def __init__(self) -> None:
        self.found = False

    def map(
        self, function: Callable[[T], R], items: Iterable[T], threads: int, name: str
    ) -> Iterator[R]:
        """Yield ``function(item)`` for each item, in order.

        Args:
            function: Called in this thread, and in several once it waits.
            items: Its arguments; taken slightly ahead of the results.
            threads: Number of threads.
            name: What their names begin with.
        """
        left = iter(items)
        if threads == 1:
            yield from map(function, left)
            return
        if not self.found:
            watch = Watch()
            for calls, item in enumerate(left, 1):
                yield function(item)
                if watch.waits(calls):
                    self.found = True
                    break
        with ThreadPoolExecutor(threads, name) as pool:
            ahead = deque(pool.submit(function, item) for item in islice(left, 2 * threads))
            try:
                while ahead:
                    result = ahead.popleft().result()
                    ahead.extend(pool.submit(function, item) for item in islice(left, 1))
                    yield result
            finally:
                for future in ahead:
                    future.cancel()


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
