"""Tests whose time-outs must be short, on machines that now and then stand still for as long.

Most tests can have time-outs that no machine reaches. Where a time-out itself is tested, it is
waited for, so it is short; and then a busy machine lets pass what is not to pass.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import TYPE_CHECKING, ParamSpec

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")

__all__ = ["repeated_where_stalled"]

_ATTEMPTS = 5
_BEARABLE = 0.01  # seconds; a request that goes from process to process waits for each
_PAUSE = 0.005  # seconds


@contextlib.contextmanager
def _watched() -> Iterator[Callable[[], float]]:
    """Look at the clock all the time; give what says for how long this process stood still."""
    done = threading.Event()
    longest = 0.0

    def watch() -> None:
        nonlocal longest
        last = time.monotonic()
        while not done.wait(_PAUSE):
            now = time.monotonic()
            longest = max(longest, now - last - _PAUSE)
            last = now

    thread = threading.Thread(target=watch, name="stalls", daemon=True)
    thread.start()
    try:
        yield lambda: longest
    finally:
        done.set()
        thread.join()


def repeated_where_stalled(test: Callable[P, None]) -> Callable[P, None]:
    """Run a test again if it fails while this process stood still for longer than 10 ms.

    A failure without that counts at once, and so does the last of five. The test must find nothing
    of an earlier attempt.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            with _watched() as longest_stall:
                try:
                    test(*args, **kwargs)
                except (Exception, pytest.fail.Exception):
                    if attempt == _ATTEMPTS or longest_stall() < _BEARABLE:
                        raise
                else:
                    return

    return run
