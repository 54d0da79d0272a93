"""Calling a function for many items: one after the other while that computes, else in threads.

Listing a folder or asking for a size takes microseconds on a local disk, where threads would only
contend for the interpreter, and a round trip on network storage, where they wait together.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["THREADS", "spread"]

THREADS = 32
_PATIENCE = 0.005  # seconds waited before threads are worth their start

T = TypeVar("T")
R = TypeVar("R")


def spread(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order.

    Args:
        function: Called in this thread, and in several as soon as its calls have waited longer than
            they computed.
        items: Taken a few ahead of what was yielded.
    """
    remaining = iter(items)
    waited = computed = 0.0
    for item in remaining:
        began, used = time.perf_counter(), time.thread_time()
        result = function(item)
        used = time.thread_time() - used
        waited += time.perf_counter() - began - used
        computed += used
        yield result
        if waited > max(computed, _PATIENCE):
            break
    yield from _in_threads(function, remaining)


def _in_threads(function: Callable[[T], R], items: Iterator[T]) -> Iterator[R]:
    with ThreadPoolExecutor(THREADS, thread_name_prefix="kappa-imagefolder") as pool:
        running = deque(pool.submit(function, item) for item in islice(items, 2 * THREADS))
        try:
            while running:
                result = running.popleft().result()
                running.extend(pool.submit(function, item) for item in islice(items, 1))
                yield result
        finally:
            for future in running:
                future.cancel()
