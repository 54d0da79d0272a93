"""Clearing an arena while others read, write and look at its values."""

from __future__ import annotations

import shutil
import signal
import sys
import threading

import pytest

from kappa_shared import arena as arena_module
from kappa_shared import layout
from kappacore.errors import StorageError
from support.arenas import data_file, names, open_arena, other_view, put
from support.kills import kill_self, killed_at_every_line, run_in_child


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


# ---- what was loaded before


def clear_when_asked_for_room(arena, other, monkeypatch):
    """Let another process clear the arena between the call of put_many and its lock."""
    reserve = arena._reserve_space

    def clear_and_reserve(wanted):
        other.clear()
        return reserve(wanted)

    monkeypatch.setattr(arena, "_reserve_space", clear_and_reserve)


def test_what_was_claimed_and_loaded_before_a_clear_is_not_stored_whenever_it_comes(
    arena, monkeypatch
):
    other = other_view(arena)
    arena.claim_many([1], 60)
    clear_when_asked_for_room(arena, other, monkeypatch)
    assert put(arena, 1, b"old")
    assert arena.get(1) is other.get(1) is None


def test_what_was_loaded_without_a_claim_before_a_clear_is_not_stored_either(arena, monkeypatch):
    """Such as the replacement of a value that failed its check."""
    other = other_view(arena)
    other.clear()
    assert put(arena, 1, b"old")  # it has not looked since it was opened
    assert other.get(1) is None
    assert arena.get(1) is None  # now it has
    assert put(arena, 1, b"new")
    assert other.get(1) == b"new"
    clear_when_asked_for_room(arena, other, monkeypatch)
    assert put(arena, 1, b"old")
    assert other.get(1) is None


def test_a_look_by_one_thread_says_nothing_of_what_another_has_loaded(arena):
    other = other_view(arena)
    assert arena.get(1) is None  # … and here this thread begins to load it
    other.clear()
    thread = threading.Thread(target=arena.get, args=(2,))
    thread.start()
    thread.join()
    assert put(arena, 1, b"old")
    assert other.get(1) is None


# ---- a word and its generation


def test_a_word_of_another_generation_is_no_word_of_this_one(arena):
    """On a processor with weak order the generation may be seen later than the word."""
    other = other_view(arena)
    put(arena, 1, b"old")
    assert arena.get(1) == b"old"
    other.clear()
    put(other, 1, b"new")
    current = arena._words

    class Late:
        """The header as it was before, where no lock is held."""

        def __getitem__(self, place):
            late = place == layout.GENERATION and sys._getframe(1).f_code.co_name == "get"
            return arena._generation if late else current[place]

    arena._words = Late()
    assert arena.get(1) == b"new"


def test_a_view_that_slept_through_many_clears_sees_the_present(arena):
    other = other_view(arena)
    put(arena, 1, b"old")
    for _ in range(300):
        other.clear()
    put(other, 1, b"new")
    assert arena.get(1) == b"new"


def test_words_of_a_generation_are_never_those_of_the_last_one_nor_absent():
    for last, following in [(0, 1), (1, 2), (2**18 - 1, 1), (2**64 - 1, 1), (2**64 - 2, 2**18 - 1)]:
        assert layout.base_of(layout.new_generation(last)) == following << 46


# ---- killed


def kill_while_clearing(arena):
    """Kill process after process that clears it, each one line later."""
    return killed_at_every_line(
        lambda: other_view(arena), lambda view: view.clear(), "arena.py", "layout.py"
    )


@pytest.mark.slow
def test_a_process_may_be_killed_at_every_line_of_clear(arena):
    """Either nothing happened, or everything did, as soon as somebody takes the lock."""
    other, cleared = other_view(arena), []
    old = [bytes([key]) * 300_000 for key in range(3)]
    assert arena.put_many([(key, [value]) for key, value in enumerate(old)]) == [True] * 3
    for line in kill_while_clearing(arena):
        held = [other.get(key) for key in range(3)]
        views = [(view, bytes(view)) for view in held if view is not None]
        arena.claim_many([9], 60)
        if put(arena, 9, b"x" * 900_000):
            cleared.append(line)
            assert [arena.get(key) for key in range(3)] == [None] * 3
            assert [other.get(key) for key in range(3)] == [None] * 3
            assert other.get(9) == b"x" * 900_000
        else:
            assert held == old
        assert all(view == copy for view, copy in views)  # nobody wrote over them
        arena.release_many([9])
        fresh = other_view(arena)
        assert names(arena.folder) == ["data-", "index", "lock"]
        fresh.clear()
        assert [arena.get(key) for key in range(10)] == [None] * 10
        assert arena.put_many([(key, [value]) for key, value in enumerate(old)]) == [True] * 3
    assert len(cleared) > 5
    assert cleared == list(range(cleared[0], cleared[-1] + 1))


def test_what_killed_writers_had_reserved_is_room_again_once_nothing_else_is_there(
    arena, monkeypatch
):
    """Without that, the arena would be full for ever, and empty."""
    monkeypatch.setattr(arena_module, "write_value", kill_self)
    code = run_in_child(lambda: put(other_view(arena), 1, b"x" * 900_000))
    assert code == -signal.SIGKILL
    monkeypatch.undo()
    other = other_view(arena)
    other.claim_many([3], 60)
    arena.claim_many([2], 60)
    assert not put(arena, 2, b"y" * 900_000)  # the other may be writing it
    other.release_many([3])
    assert put(arena, 2, b"y" * 900_000)
    assert other.claim_many([2], 60) == [False]
    assert other.get(2) == b"y" * 900_000
    assert not put(arena, 3, b"y" * 900_000)


# ---- files that are gone


def test_clearing_what_was_removed_says_so(arena):
    put(arena, 1, b"value")
    shutil.rmtree(arena.folder)
    expected = rf"shared cache in {arena.folder} is in use, but its file index was removed"
    with pytest.raises(StorageError, match=expected + r".* Close the cache and open it again\."):
        arena.clear()
    assert arena.get(1) == b"value"
    assert put(arena, 2, b"value")


def test_clearing_leaves_alone_what_replaced_the_arena(arena):
    """Such as that of another version of the package, in the same folder."""
    longer = open_arena(arena.folder, 21)
    put(longer, 1, b"theirs")
    with pytest.raises(StorageError, match="its file index was removed or replaced"):
        arena.clear()
    assert other_view(longer).get(1) == b"theirs"


def test_a_generation_whose_file_is_gone_is_an_error_that_names_it(arena):
    other = other_view(arena)
    other.clear()
    data_file(arena.folder).unlink()
    with pytest.raises(StorageError, match=r"its file data-[0-9a-f]{16} was removed"):
        put(arena, 1, b"value")
