"""Clearing an arena while others read, write and look at its values."""

from __future__ import annotations

import pytest

from kappa_shared import arena as arena_module
from support.arenas import names, other_view, put


def test_clearing_is_seen_by_everybody_and_makes_room(arena):
    other = other_view(arena)
    for view in (arena, other):
        assert put(view, 1, b"x" * 900_000)
        assert not put(other, 2, b"x" * 900_000)
        assert (arena.index.fill()["full"], other.index.fill()["full"]) == (True, True)
        other.clear()
        assert arena.get(1) is None
        assert other.get(1) is None
        assert (
            arena.index.fill()["entries"],
            arena.index.fill()["bytes"],
            arena.index.fill()["full"],
        ) == (0, 0, False)


def test_what_was_loaded_before_a_clear_is_not_stored_after_it(arena):
    other = other_view(arena)
    assert arena.claim_many([1, 2], 60) == [True, True]
    other.clear()  # such as because the source has changed
    assert arena.claim_many([1], 60) == [True]  # renewed: it was loaded before all the same
    items = [(1, [b"old"]), (3, [b"unclaimed"]), (2, [b"old"])]
    assert arena.put_many(items) == [True, True, True]
    assert [arena.get(key) for key in (1, 2, 3)] == [None, None, b"unclaimed"]
    arena.release_many([1, 2])
    assert arena.claim_many([1], 60) == [True]
    assert put(arena, 1, b"new")
    assert other.get(1) == b"new"


def test_clearing_leaves_one_data_file(arena):
    for _ in range(3):
        put(arena, 1, b"x")
        arena.clear()
    assert names(arena.folder) == ["data-", "index", "lock"]


def test_what_is_written_while_another_clears_is_gone_and_no_sign_of_missing_room(
    arena, monkeypatch
):
    other = other_view(arena)
    write = arena_module.write_value

    def write_and_let_another_clear(*args):
        done = write(*args)
        other.clear()
        return done

    monkeypatch.setattr(arena_module, "write_value", write_and_let_another_clear)
    assert put(arena, 1, b"value")  # as if it had been cleared right after
    monkeypatch.undo()
    assert arena.get(1) is None
    assert other.get(1) is None
    assert not arena.index.fill()["full"]
    assert put(arena, 1, b"value")
    assert other.get(1) == b"value"


def test_a_process_killed_while_clearing_lets_nobody_overwrite_what_others_look_at(
    arena, monkeypatch
):
    put(arena, 1, b"held" * 100)
    held = arena.get(1)
    victim = other_view(arena)

    class Killed(BaseException):
        pass

    class Words:
        """The header, written word by word until the process is killed at the n-th."""

        def __init__(self, words, left):
            self.words, self.left = words, left

        def __getitem__(self, place):
            return self.words[place]

        def __setitem__(self, place, value):
            if self.left == 0:
                raise Killed
            self.left -= 1
            self.words[place] = value

    for left in range(3):
        victim = other_view(arena)
        victim._words = Words(victim._words, left)
        with pytest.raises(Killed):
            victim.clear()
        survivor = other_view(arena)
        assert put(survivor, 2, b"new" * 100)
        assert held == b"held" * 100
        assert survivor.get(2) == arena.get(2) == b"new" * 100
        assert names(arena.folder) == ["data-", "index", "lock"]
