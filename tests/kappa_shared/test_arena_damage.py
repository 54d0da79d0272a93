"""An arena whose files are damaged, foreign or missing never gives a wrong value."""

from __future__ import annotations

import numpy as np
import pytest

from kappa_shared import arena as arena_module
from kappa_shared import layout
from support.arenas import MIB, data_file, names, open_arena, other_view, put


def damage(arena, key, data):
    """Write over the memory just before a value."""
    with data_file(arena.folder).open("r+b") as file:
        file.seek(arena._values[key])
        file.write(data)


@pytest.mark.parametrize("prefix", [bytes(16), b"\xff" * 16, b"\xff" * 8 + b"\x05" + bytes(7)])
def test_a_value_lost_in_a_crash_of_the_machine_is_no_value_and_not_absent(arena, prefix):
    """Absent, it could neither be read nor claimed, and everybody would wait for it."""
    put(arena, 5, b"value" * 100)
    damage(arena, 5, prefix)
    found = arena.get(5)
    assert found is not None
    assert found != b"value" * 100
    assert put(arena, 5, b"again")
    assert arena.get(5) == b"again"


@pytest.mark.parametrize("place", [1, 47, 2**20 + 63, 2**20 + 64, 2**40, 2**64 - 1])
def test_a_place_outside_the_data_is_no_value(arena, place):
    put(arena, 1, b"value")
    arena._values[1] = place
    assert arena.get(1) == b""
    assert put(arena, 1, b"again")
    assert arena.get(1) == b"again"


def test_after_a_crash_nothing_is_written_over_values_that_are_still_there(arena, monkeypatch):
    """The index's first page may be older on the disk than what comes after it."""
    for key in range(5):
        put(arena, key, bytes([key]) * 1000)
    arena._words[layout.CURSOR] = 64
    monkeypatch.setattr(arena_module, "boot", lambda: 12345)
    other = other_view(arena)
    assert put(other, 5, b"new" * 1000)
    for key in range(5):
        assert other.get(key) == bytes([key]) * 1000


# ---- arenas of another kind


@pytest.mark.parametrize("content", [b"", b"garbage", bytes(5000)])
def test_an_index_that_cannot_be_read_is_set_aside_and_made_anew(arena, content):
    put(arena, 1, b"value")
    held = arena.get(1)
    (arena.folder / "index").write_bytes(content)
    assert layout.map_index(arena.folder) is None
    fresh = open_arena(arena.folder, 20, MIB)
    assert fresh.get(1) is None
    assert put(fresh, 1, b"again")
    assert fresh.get(1) == b"again"
    assert held == b"value"
    assert names(arena.folder) == ["data-", "index", "lock"]


@pytest.mark.parametrize(
    ("what", "place", "change"),
    [("magic", 0, 1), ("version", 8, 1), ("byte order", 12, 3), ("length", 16, 1), ("name", 24, 1)],
)
def test_an_arena_of_another_format_is_never_misread(arena, what, place, change):
    put(arena, 1, b"value")
    del what
    with (arena.folder / "index").open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ change]))
    fresh = open_arena(arena.folder, 20, MIB)
    assert fresh.get(1) is None
    assert put(fresh, 1, b"again")
    assert other_view(fresh).get(1) == b"again"


def test_an_arena_of_another_length_is_made_anew_and_its_users_go_on(arena):
    put(arena, 1, b"before")
    longer = open_arena(arena.folder, 21, MIB)
    assert longer.get(1) is None
    assert put(longer, 1, b"after")
    assert put(arena, 2, b"apart")
    assert (arena.get(1), arena.get(2)) == (b"before", b"apart")
    assert (longer.get(1), longer.get(2)) == (b"after", None)


def test_an_arena_whose_values_were_removed_is_made_anew(arena):
    """Such as by a tidying of temporary files."""
    put(arena, 1, b"value")
    data_file(arena.folder).unlink()
    fresh = other_view(arena, MIB)
    assert (fresh.get(1), fresh.index.fill()["entries"]) == (None, 0)
    assert put(fresh, 1, b"again")
    assert other_view(fresh).get(1) == b"again"
    assert arena.get(1) == b"value"


def test_what_a_process_left_that_was_killed_at_making_an_arena_is_removed(folder):
    (folder / "index.1234").write_bytes(bytes(100))
    (folder / "data-1234").write_bytes(bytes(100))
    arena = open_arena(folder, 20, MIB)
    assert put(arena, 1, b"value")
    assert names(folder) == ["data-", "index", "lock"]


@pytest.mark.parametrize("place", [1, 47, 2**20 + 63, 2**20 + 64, 2**40, 2**64 - 1])
def test_a_place_outside_the_data_is_located_as_no_value(arena, place):
    for key in range(4):
        put(arena, key, b"value" * key)
    arena._values[1] = place
    keys = np.array([3, 1, 2, 9, 0, 1])
    located = arena.locate_many(keys)
    assert located.region.tolist() == [0, 0, 0, -1, 0, 0]
    assert located.sizes().tolist() == [15, 0, 10, 0, 0, 0]
    for row, key in enumerate(keys.tolist()):
        start, size = located.offset.item(row), located.sizes().item(row)
        value = arena.get(key)
        if value is not None:
            assert located.regions[0][start : start + size] == value


@pytest.mark.parametrize("prefix", [bytes(16), b"\xff" * 16, b"\xff" * 8 + b"\x05" + bytes(7)])
def test_a_value_lost_in_a_crash_is_located_as_no_value(arena, prefix):
    put(arena, 5, b"value" * 100)
    damage(arena, 5, prefix)
    located = arena.locate_many(np.array([5]))
    assert (located.region.tolist(), located.sizes().tolist()) == ([0], [0])
