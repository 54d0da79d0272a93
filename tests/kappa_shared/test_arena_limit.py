"""How much an arena may hold: its limit, the file system and the memory that is left."""

from __future__ import annotations

import os

import pytest

from kappacore.errors import StorageError
from support.arenas import MIB, data_file, names, open_arena, other_view, put


def test_what_does_not_fit_is_refused_and_what_does_is_taken(arena):
    assert put(arena, 1, b"x" * 600_000)
    assert not arena.index.fill()["full"]
    assert arena.put_many([(2, [b"x" * 600_000]), (3, [b"y" * 100])]) == [False, True]
    assert arena.index.fill()["full"]
    assert arena.get(2) is None
    assert arena.get(3) == b"y" * 100
    assert arena.index.fill()["bytes"] <= arena.index.fill()["capacity"] == MIB


def test_the_whole_limit_can_be_used(folder):
    arena = open_arena(folder, 2, 1024)
    assert not put(arena, 0, b"x" * 1025)
    assert put(arena, 0, b"x" * (1024 - 64))
    assert not put(arena, 1, b"")


def test_a_limit_that_another_process_raises_holds_for_everybody(arena):
    put(arena, 1, b"x" * 1_000_000)
    assert not put(arena, 2, b"y" * 1_000_000)
    larger = other_view(arena, 4 * MIB, grow=True)
    assert larger.index.fill()["capacity"] == arena.index.fill()["capacity"] == 4 * MIB
    assert put(larger, 2, b"y" * 1_000_000)  # straddles the old limit
    assert put(larger, 3, b"z" * 1_000_000)  # lies behind it
    for view in (arena, larger, other_view(arena)):
        assert view.get(1) == b"x" * 1_000_000
        assert view.get(2) == b"y" * 1_000_000
        assert view.get(3) == b"z" * 1_000_000
    assert put(arena, 4, b"w" * 1_000_000)


def test_a_limit_is_never_lowered_nor_raised_unasked(arena):
    other_view(arena, 10, grow=True)
    other_view(arena, 9 * MIB)
    assert arena.index.fill()["capacity"] == MIB


def test_who_has_less_memory_than_the_others_stops_sooner(arena):
    """Such as in a container of its own."""
    poor = open_arena(arena.folder, arena.index.length, 10, ceiling=300_000)
    assert put(poor, 1, b"x" * 200_000)
    assert not put(poor, 2, b"x" * 200_000)
    assert put(arena, 2, b"x" * 200_000)
    assert poor.get(2) == b"x" * 200_000


def test_what_must_stay_free_in_the_file_system_stays_free(folder, monkeypatch):
    """Who passes batches through a full /dev/shm is killed by a bus error."""
    system = os.statvfs(folder)
    free = system.f_bavail * system.f_frsize
    arena = open_arena(folder, 20, free, reserve=free - MIB)
    assert put(arena, 1, b"x" * 500_000)
    assert not put(arena, 2, b"x" * 2_000_000)
    assert arena.index.fill()["full"]


def test_no_value_is_refused_without_asking_for_memory(folder):
    left = 0
    arena = open_arena(folder, 20, 100 * MIB, memory_left=lambda: left)
    assert not put(arena, 1, b"")
    left = 100
    assert put(arena, 1, b"")
    left = 0
    assert not put(arena, 2, b"x")
    left = 100
    assert put(arena, 2, b"x")


def test_memory_is_asked_for_again_after_a_while(folder):
    """What was free when the arena was opened may have been taken by others since."""
    left = 20 * MIB
    arena = open_arena(folder, 20, 100 * MIB, memory_left=lambda: left)
    assert put(arena, 1, bytes(15 * MIB))
    left = MIB
    assert not put(arena, 2, bytes(4 * MIB))
    assert put(arena, 2, bytes(MIB // 2))
    left = 0
    assert put(arena, 3, bytes(MIB // 4))  # not asked
    assert not put(arena, 4, bytes(MIB // 2))
    left = 20 * MIB
    assert put(arena, 4, bytes(MIB // 2))


def test_no_memory_is_taken_before_values_are_written(folder):
    arena = open_arena(folder, 10, 10**12)
    data = data_file(folder)
    assert data.stat().st_size > 10**12
    assert data.stat().st_blocks == 0
    put(arena, 1, b"x" * 5000)
    assert data.stat().st_blocks * 512 < 20_000


# ---- the index


def test_the_size_of_the_index_is_reserved_when_it_is_made(folder):
    open_arena(folder, 10_000, 1000)
    assert (folder / "index").stat().st_blocks * 512 >= 160_000


def test_an_index_without_room_is_an_error_that_says_what_to_do(folder, monkeypatch):
    def no_room(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    expected = r"No room for the index of a shared cache in .*arena \(4416 bytes for 20 samples\)"
    with pytest.raises(StorageError, match=expected + r".*raise --shm-size"):
        open_arena(folder, 20, 1000)
    assert "index" not in names(folder)
