"""Claims on the samples of an arena, and its lock."""

from __future__ import annotations

import fcntl
import os

from kappa_shared import arena as arena_module
from support.arenas import other_view, put
from support.interrupts import interrupts


def test_a_claim_is_one_users_until_it_is_released(arena):
    other = other_view(arena)
    assert arena.claim_many([1, 2], 60) == [True, True]
    assert other.claim_many([2, 3], 60) == [False, True]
    assert arena.claim_many([1, 2, 3], 60) == [True, True, False]
    other.release_many([1, 2, 3])
    assert other.claim_many([1, 2], 60) == [False, False]
    arena.release_many([1, 2])
    assert other.claim_many([1, 2], 60) == [True, True]


def test_a_claim_ends_with_its_load_and_not_before(arena):
    other = other_view(arena)
    load = arena.claims.begin_load()
    assert arena.claim_many([1, 2], 0.0, load) == [True, True]
    assert arena.claim_many([2, 3], 0.0) == [False, True], "another load of the same process"
    assert other.claim_many([1, 2], 0.0) == [False, False]
    found = other.claims.claimants([1, 5])
    assert (found[0].pid, found[1]) == (os.getpid(), None)
    load.close()
    assert other.claim_many([1, 2, 3], 0.0) == [True, True, False]


def test_what_is_stored_cannot_be_claimed(arena):
    put(arena, 1, b"value")
    assert arena.claim_many([1, 2], 60) == [False, True]
    assert other_view(arena).claim_many([1], 60) == [False]


def test_clearing_gives_up_all_claims(arena):
    arena.claim_many([1], 60)
    arena.clear()
    assert other_view(arena).claim_many([1], 60) == [True]


def test_claims_of_before_a_reboot_are_void(arena, monkeypatch):
    arena.claim_many([1], 10**9)
    put(arena, 2, b"value")
    monkeypatch.setattr(arena_module, "boot", lambda: 12345)
    other = other_view(arena)
    assert other.claim_many([1], 60) == [True]
    assert other.get(2) == b"value"


# ---- interrupts


def use_all(arena, other):
    arena.claim_many([1, 2], 60)
    put(arena, 1, b"value")
    arena.release_many([1, 2])
    other.clear()
    arena.get(1)
    put(arena, 1, b"value")
    arena.get(1)


def test_an_interrupt_at_any_moment_leaves_no_lock(arena):
    """The others would hang until the interrupted process, a notebook perhaps, ends."""
    other = other_view(arena)
    moments = 0
    for _held in interrupts(lambda: use_all(arena, other)):
        for path in arena.folder.iterdir():
            with path.open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if it is taken
        moments += 1
    assert moments > 50
    assert arena.get(1) == other.get(1) == b"value"
