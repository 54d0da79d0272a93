"""Claims: who loads a sample while the others wait."""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING

from kappacore.testing.caching.case import LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.synchronize import Barrier

    from kappacore.caching.backends.base import CacheBackend
    from kappacore.testing.caching.case import Case

__all__ = ["ClaimTests"]

_LONG = 60.0  # seconds: outlasts the test
_SHORT = 0.5  # seconds: runs out within it


class ClaimTests:
    """What claim_many and release_many promise to processes that share a namespace."""

    def test_a_claim_is_one_process_s_alone(self, case: Case) -> None:
        backend = _open(case)
        assert backend.claim_many([1, 2], _LONG) == [True, True]
        assert _ask_elsewhere(case, [0, 1, 2, 3]) == [True, False, False, True]
        assert backend.claim_many([], _LONG) == []

    def test_claims_at_the_same_moment_go_to_one_process_each(self, case: Case) -> None:
        _open(case)
        barrier = multiprocessing.get_context("fork").Barrier(2)
        first, second = case.fork(_race, case, barrier), case.fork(_race, case, barrier)
        both = sorted(first.result() + second.result())
        assert both == list(range(LENGTH)), "a key was granted to two processes, or to none"

    def test_a_claim_of_the_same_process_is_renewed(self, case: Case) -> None:
        backend = _open(case)
        assert backend.claim_many([1, 2], _SHORT) == [True, True]
        assert backend.claim_many([1], _LONG) == [True], "it was not granted again"
        time.sleep(1.5 * _SHORT)
        assert _ask_elsewhere(case, [1, 2]) == [False, True]

    def test_a_claim_runs_out(self, case: Case) -> None:
        backend = _open(case)
        claimed = time.monotonic()
        assert backend.claim_many([1], _SHORT) == [True]
        asked = _ask_elsewhere(case, [1])
        if time.monotonic() < claimed + _SHORT:  # the machine may have been busy
            assert asked == [False]
        time.sleep(1.5 * _SHORT)
        assert _ask_elsewhere(case, [1]) == [True]

    def test_the_claims_of_a_killed_process_run_out(self, case: Case) -> None:
        backend = _open(case)
        receiver, sender = multiprocessing.Pipe(duplex=False)

        def claim() -> None:
            sender.send(case.open().claim_many([1], 2 * _SHORT))
            time.sleep(case.timeout)

        claimant = case.fork(claim)
        assert receiver.poll(case.timeout), "claim_many() hangs"
        assert receiver.recv() == [True]
        claimant.kill()
        deadline = time.monotonic() + 10 * _SHORT
        while backend.claim_many([1], _LONG) == [False]:
            assert time.monotonic() < deadline, "the claim of a killed process never runs out"
            time.sleep(_SHORT / 10)

    def test_a_released_claim_is_free(self, case: Case) -> None:
        backend = _open(case)
        backend.claim_many([1, 2], _LONG)
        backend.release_many([1])
        assert _ask_elsewhere(case, [1, 2]) == [True, False]
        backend.release_many([1, 2, 3])  # what is not held is nothing to give back
        assert _ask_elsewhere(case, [1, 2, 3]) == [True, True, True]

    def test_nobody_else_releases_a_claim(self, case: Case) -> None:
        backend = _open(case)
        backend.claim_many([1], _LONG)
        case.fork(lambda: case.open().release_many([1])).result()
        assert _ask_elsewhere(case, [1]) == [False]

    def test_what_is_stored_is_not_granted(self, case: Case) -> None:
        backend = _open(case)
        backend.claim_many([1, 2], _LONG)
        backend.put(1, [b"loaded"])
        backend.release_many([1, 2])
        assert _ask_elsewhere(case, [1, 2]) == [False, True]


def _open(case: Case) -> CacheBackend:
    case.skip_unless_shared()
    case.skip_unless_defined("claim_many")
    return case.open()


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
