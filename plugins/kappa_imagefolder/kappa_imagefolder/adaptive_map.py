"""A map that starts threads only once its calls turn out to wait.

Listing a folder or asking for a file's size takes microseconds on a local disk, where threads would
only compete for the interpreter. On network storage it takes a round trip, and threads wait for
many of them at once.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

THREADS = 32
_PATIENCE = 0.005  # seconds of waiting before threads are worth starting

T = TypeVar("T")
R = TypeVar("R")


def adaptive_map(function: Callable[[T], R], items: Iterable[T], *, batch: int = 1) -> Iterator[R]:
    """Yield ``function(item)`` for each item, in order.

    Args:
        function: Called in this thread, then in several threads as soon as its calls have waited
            longer than they computed.
        items: Its arguments; taken slightly ahead of the results.
        batch: Number of items that a thread takes at a time.
    """
    remaining = iter(items)
    batches = iter(lambda: list(islice(remaining, batch)), [])

    def run(some: list[T]) -> list[R]:
        return [function(item) for item in some]

    waited = computed = 0.0
    for some in batches:
        began, used = time.perf_counter(), time.thread_time()
        results = run(some)
        used = time.thread_time() - used
        waited += time.perf_counter() - began - used
        computed += used
        yield from results
        if waited > max(computed, _PATIENCE):
            break
    with ThreadPoolExecutor(THREADS, thread_name_prefix="kappa-imagefolder") as pool:
        running = deque(pool.submit(run, some) for some in islice(batches, 2 * THREADS))
        try:
            while running:
                results = running.popleft().result()
                running.extend(pool.submit(run, some) for some in islice(batches, 1))
                yield from results
        finally:
            for future in running:
                future.cancel()
