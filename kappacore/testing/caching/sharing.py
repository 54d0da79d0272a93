"""What several processes or threads share: values, claims, and the choice of a backend."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import pytest

from kappacore.testing.caching.case import LENGTH, run_program, slow
from kappacore.testing.caching.content import check_equal, check_sealed, sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.synchronize import Barrier, Event

    from kappacore.caching.backends.base import CacheBackend
    from kappacore.testing.caching.case import Case

_BATCH = 4  # values written at once
_BATCHES, _SECONDS = 300, 1.0  # by each writer at most
_WORDS = (0, 1, 100, 1000, 8000)  # up to 64 KB a value
_HELD = 200  # buffers that a reader keeps and looks at again
_KILLS = 50
_LATEST = 0.02  # seconds after which a writer is killed
_MOST = 2000  # batches of a writer that nobody kills


class ConcurrencyTests:
    """What holds when several processes or threads use one namespace."""

    @slow
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

    def test_threads_may_share_an_instance(self, case: Case, store: CacheBackend) -> None:
        if not case.cls.thread_safe:
            pytest.skip(f"{case.ref} is not thread_safe: the engine makes one call at a time")
        failures: list[Exception] = []
        done = threading.Event()

        def run(work: Callable[..., object], *args: object) -> None:
            try:
                work(store, *args)
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

    @slow
    def test_a_writer_may_be_killed_at_any_moment(self, case: Case) -> None:
        case.skip_unless_shared()
        case.open()  # so that entries do not go with a child
        moments = random.Random(0)  # noqa: S311 - not a secret
        seen = 0
        for version in range(_KILLS):
            found, say_found = os.pipe()
            writer = case.fork(_write_until_killed, case, version, say_found)
            os.close(say_found)
            said = os.read(found, 1) if select.select([found], [], [], case.timeout)[0] else b""
            if not said:
                writer.result()  # fails, and says why
            os.close(found)
            seen += said[0]
            time.sleep(moments.uniform(0.001, _LATEST))
            writer.kill()
        seen += case.fork(_survey, case, _KILLS).result()
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


def _write_until_killed(case: Case, version: int, say_found: int) -> None:
    """Say how many values the writers before have left, and write until killed."""
    found = _survey(case, version)
    backend = case.open()
    os.write(say_found, bytes([found]))
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


_LONG = 60.0  # seconds: outlasts the test
_SHORT = 0.5  # seconds: runs out within it


class ClaimTests:
    """What claim_many and release_many promise to processes that share a namespace."""

    @pytest.fixture
    def claims(self, case: Case) -> CacheBackend:
        case.skip_unless_shared()
        case.skip_unless_defined("claim_many")
        return case.open()

    def test_a_claim_is_one_process_s_alone(self, case: Case, claims: CacheBackend) -> None:
        assert claims.claim_many([1, 2], _LONG) == [True, True]
        assert _ask_elsewhere(case, [0, 1, 2, 3]) == [True, False, False, True]
        assert claims.claim_many([], _LONG) == []

    @pytest.mark.usefixtures("claims")
    def test_claims_at_the_same_moment_go_to_one_process_each(self, case: Case) -> None:
        barrier = multiprocessing.get_context("fork").Barrier(2)
        first, second = case.fork(_race, case, barrier), case.fork(_race, case, barrier)
        both = sorted(first.result() + second.result())
        assert both == list(range(LENGTH)), "a key was granted to two processes, or to none"

    def test_a_claim_of_the_same_process_is_renewed(self, case: Case, claims: CacheBackend) -> None:
        assert claims.claim_many([1, 2], _SHORT) == [True, True]
        assert claims.claim_many([1], _LONG) == [True], "it was not granted again"
        time.sleep(1.5 * _SHORT)
        # Claims that a load holds last as long as it, here as long as the instance.
        assert _ask_elsewhere(case, [1, 2]) == [False, not case.defines("begin_load")]

    def test_a_claim_runs_out(self, case: Case, claims: CacheBackend) -> None:
        if case.defines("begin_load"):
            pytest.skip(f"claims of {case.ref} end with their load")
        claimed = time.monotonic()
        assert claims.claim_many([1], _SHORT) == [True]
        asked = _ask_elsewhere(case, [1])
        if time.monotonic() < claimed + _SHORT:  # the machine may have been busy
            assert asked == [False]
        time.sleep(1.5 * _SHORT)
        assert _ask_elsewhere(case, [1]) == [True]

    def test_a_claim_ends_with_its_load(self, case: Case, claims: CacheBackend) -> None:
        case.skip_unless_defined("begin_load")
        load = claims.begin_load()
        assert load is not None, "begin_load() gave no load"
        with load:
            claim_many: Callable[..., list[bool]] = claims.claim_many
            assert claim_many([1], _SHORT, load) == [True]
            time.sleep(1.5 * _SHORT)
            assert _ask_elsewhere(case, [1]) == [False], "it ran out before its load was over"
        assert _ask_elsewhere(case, [1]) == [True], "it outlived its load"

    def test_the_claims_of_a_killed_process_run_out(self, case: Case, claims: CacheBackend) -> None:
        receiver, sender = multiprocessing.Pipe(duplex=False)

        def claim() -> None:
            sender.send(case.open().claim_many([1], 2 * _SHORT))
            time.sleep(case.timeout)

        claimant = case.fork(claim)
        assert receiver.poll(case.timeout), "claim_many() hangs"
        assert receiver.recv() == [True]
        claimant.kill()
        deadline = time.monotonic() + min(case.timeout, _LONG)
        while claims.claim_many([1], _LONG) == [False]:
            assert time.monotonic() < deadline, "the claim of a killed process never runs out"
            time.sleep(_SHORT / 10)

    def test_a_released_claim_is_free(self, case: Case, claims: CacheBackend) -> None:
        claims.claim_many([1, 2], _LONG)
        claims.release_many([1])
        assert _ask_elsewhere(case, [1, 2]) == [True, False]
        claims.release_many([1, 2, 3])  # what is not held is nothing to give back
        assert _ask_elsewhere(case, [1, 2, 3]) == [True, True, True]

    def test_nobody_else_releases_a_claim(self, case: Case, claims: CacheBackend) -> None:
        claims.claim_many([1], _LONG)
        case.fork(lambda: case.open().release_many([1])).result()
        assert _ask_elsewhere(case, [1]) == [False]

    def test_what_is_stored_is_not_granted(self, case: Case, claims: CacheBackend) -> None:
        claims.claim_many([1, 2], _LONG)
        claims.put(1, [b"loaded"])
        claims.release_many([1, 2])
        assert _ask_elsewhere(case, [1, 2]) == [False, True]


def _ask_elsewhere(case: Case, keys: Sequence[int]) -> list[bool]:
    """Claim keys in another process and give them back; return what was granted."""

    def ask() -> list[bool]:
        backend = case.open()
        granted = backend.claim_many(keys, _LONG)
        backend.release_many([key for key, ok in zip(keys, granted, strict=True) if ok])
        return granted

    result: list[bool] = case.fork(ask).result()
    return result


def _race(case: Case, barrier: Barrier) -> list[int]:
    """Claim key after key at the same moment as another process; return which were granted."""
    backend = case.open()
    granted = []
    for key in range(LENGTH):
        barrier.wait(case.timeout)
        if backend.claim_many([key], _LONG) == [True]:
            granted.append(key)
    barrier.wait(case.timeout)  # none is given back before both have asked for all
    return granted


_SECOND_USER = """
ref, namespace, length, fixed = arguments
backend = ref.open(namespace, length, **fixed)
found = backend.get(0)
assert found is not None and bytes(found) == b"by the first", f"another process finds {found!r}"
assert backend.put(1, [b"by the ", b"second"]) is True
backend.close()
"""

_DISCOVERY = """
import contextlib, importlib, io, json, sys

(target,) = arguments
module = target.partition(":")[0]
package = module.partition(".")[0]
heavy = [module, "torch", "numpy"]
if package != module:
    importlib.import_module(package)
    loaded = [name for name in heavy if name in sys.modules]
    assert not loaded, f"importing {package} imports {loaded}: keep its __init__.py empty or lazy"
from kappacore.cli import main

listing = io.StringIO()
with contextlib.redirect_stdout(listing):
    main(["plugins", "--json"])
assert module not in sys.modules, f"looking for plugins imports {module}"
rows = [
    row for row in json.loads(listing.getvalue())
    if (row["kind"], row["target"]) == ("backend", target)
]
print(json.dumps(rows))
"""


class ProcessTests:
    """What holds between unrelated processes."""

    def test_a_choice_survives_pickling(self, case: Case) -> None:
        case.skip_unless_sendable()
        again = pickle.loads(pickle.dumps(case.ref))  # noqa: S301 - just made
        assert (again.name, again.target) == (case.ref.name, case.ref.target)
        assert list(again.options) == list(case.ref.options)
        assert again.load() is case.cls

    @slow
    def test_an_unrelated_process_sees_the_entries(self, case: Case, store: CacheBackend) -> None:
        case.skip_unless_shared()
        case.skip_unless_sendable()
        store.put(0, [b"by the first"])
        fixed = {"keep": 0.0} if case.keeps else {}
        run_program(case.timeout, _SECOND_USER, case.ref, case.namespace, LENGTH, fixed)
        check_equal(store.get(1), b"by the second", "the entry of another process is not seen")
        check_equal(store.get(0), b"by the first")

    def test_it_is_found_without_being_imported(self, case: Case) -> None:
        if not case.ref.distribution:
            pytest.skip(f"{case.ref} is registered in code: there is nothing to be found")
        rows = json.loads(run_program(case.timeout, _DISCOVERY, case.ref.target))
        assert rows, f"`kappacore plugins` lists no backend {case.ref.target}"
        for row in rows:
            assert row["scope"] == case.cls.scope, "the scopes of its spec and its class differ"
            assert row["status"] == "ok", row["reason"]
