"""Several writers and readers at once, and writers that are killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import pytest

from kappacore.testing.caching.case import LENGTH
from kappacore.testing.caching.content import check_equal, check_sealed, sealed

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Event

    from kappacore.caching.backends.base import CacheBackend
    from kappacore.testing.caching.case import Case

__all__ = ["ConcurrencyTests"]

_BATCH = 4  # values written at once
_BATCHES, _SECONDS = 300, 1.0  # by each writer at most
_WORDS = (0, 1, 100, 1000, 8000)  # up to 64 KB a value
_HELD = 200  # buffers that a reader keeps and looks at again
_KILLS = 50
_LATEST = 0.02  # seconds after which a writer is killed
_MOST = 2000  # batches of a writer that nobody kills


class ConcurrencyTests:
    """What holds when several processes or threads use one namespace."""

    def test_readers_see_whole_values_while_other_processes_write(self, case: Case) -> None:
        case.skip_unless_shared()
        _write(case.open(), 0, LENGTH)  # open here, so that entries do not go with a child
        done = multiprocessing.get_context("fork").Event()
        readers = [case.fork(lambda: _read(case.open(), done)) for _ in range(2)]
        writers = [
            case.fork(lambda version: _write(case.open(), version, _BATCHES), version)
            for version in (1, 2)
        ]
        for writer in writers:
            writer.result()
        done.set()
        for reader in readers:
            assert reader.result() > 0, "a reader saw nothing at all"

    def test_threads_may_share_an_instance(self, case: Case) -> None:
        if not case.cls.thread_safe:
            pytest.skip(f"{case.ref} is not thread_safe: the engine makes one call at a time")
        backend = case.open()
        failures: list[Exception] = []
        done = threading.Event()

        def run(work: Callable[..., object], *args: object) -> None:
            try:
                work(backend, *args)
            except Exception as error:
                failures.append(error)

        reader = threading.Thread(target=run, args=(_read, done))
        writers = [threading.Thread(target=run, args=(_write, n, _BATCHES)) for n in (1, 2)]
        for thread in (reader, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        reader.join()
        if failures:
            raise failures[0]

    def test_a_writer_may_be_killed_at_any_moment(self, case: Case) -> None:
        case.skip_unless_shared()
        case.open()  # so that entries do not go with a child
        moments = random.Random(0)  # noqa: S311 - not a secret
        seen = 0
        for version in range(_KILLS):
            ready, say_ready = os.pipe()
            writer = case.fork(_write_until_killed, case, version, say_ready)
            os.close(say_ready)
            if not (select.select([ready], [], [], case.timeout)[0] and os.read(ready, 1)):
                writer.result()  # fails, and says why
            os.close(ready)
            time.sleep(moments.uniform(0.001, _LATEST))
            writer.kill()
            seen += case.fork(_survey, case, version).result()
        assert seen, f"after {_KILLS} writers were killed, no value was ever there"


def _write(backend: CacheBackend, version: int, batches: int) -> None:
    """Write values over values, in an order that differs between versions."""
    order = random.Random(version)  # noqa: S311 - not a secret
    deadline = time.monotonic() + _SECONDS
    for _ in range(batches):
        if time.monotonic() > deadline:
            break
        keys = order.sample(range(LENGTH), _BATCH)
        versions = [version + 10 * order.randrange(100) for _ in keys]
        backend.put_many(
            [
                (key, sealed(key, number, order.choice(_WORDS)))
                for key, number in zip(keys, versions, strict=True)
            ]
        )


def _read(backend: CacheBackend, done: Event | threading.Event) -> int:
    """Check all values over and over until ``done``; return how many were seen."""
    held = deque[tuple[int, object, bytes]](maxlen=_HELD)
    seen = 0
    last = False
    while not last:
        last = done.is_set()
        for key, buffer in enumerate(backend.get_many(range(LENGTH))):
            if buffer is not None:
                check_sealed(buffer, key)
                held.append((key, buffer, bytes(buffer)))
                seen += 1
    for key, kept, content in held:
        check_equal(kept, content, f"a buffer of key {key} changed while it was held")
    return seen


def _write_until_killed(case: Case, version: int, say_ready: int) -> None:
    backend = case.open()
    os.write(say_ready, b"!")
    _write(backend, version, _MOST)
    time.sleep(case.timeout)


def _survey(case: Case, version: int) -> int:
    """Check all values there are, and that the namespace can still be written to."""
    backend = case.open()
    found = 0
    for key, buffer in enumerate(backend.get_many(range(LENGTH))):
        if buffer is not None:
            check_sealed(buffer, key)
            found += 1
    key = version % LENGTH
    value = sealed(key, version, 100)
    assert backend.put(key, value) is True, "nothing can be stored after a writer was killed"
    check_equal(backend.get(key), b"".join(value))
    if version % 5 == 4 and case.defines("clear"):  # so that it does not take gigabytes
        backend.clear()
    return found
