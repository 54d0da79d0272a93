"""Values in an arena, as every process sees them."""

from __future__ import annotations

import array
import gc
import random

import numpy as np
import pytest

from support.arenas import MIB, open_arena, other_view, put
from support.caching import open_files


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 64 * 1024, 16 * MIB])
def test_values_of_any_size_come_back_in_every_view(folder, size):
    arena = open_arena(folder, 3, 40 * MIB)
    other = other_view(arena)
    value = random.Random(size).randbytes(size)
    assert put(arena, 1, value)
    assert arena.get(1) == other.get(1) == value
    assert arena.get(0) is None
    assert arena.get(2) is None


def test_the_pieces_of_a_value_are_stored_one_behind_the_other(arena):
    pieces = [b"", b"ab", bytearray(b"cd"), memoryview(b"-ef-")[1:3], b""]
    assert put(arena, 1, *pieces)
    assert arena.get(1) == b"abcdef"
    assert put(arena, 2)
    assert arena.get(2) == b""


def test_a_piece_of_larger_elements_counts_in_bytes(arena):
    numbers = array.array("q", range(10))
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert put(arena, 1, memoryview(numbers), memoryview(matrix))
    assert put(arena, 2, b"next")
    assert arena.get(1) == numbers.tobytes() + matrix.tobytes()
    assert arena.get(2) == b"next"


def test_more_pieces_than_the_system_takes_at_once_are_all_written(arena):
    pieces = [bytes([number % 256]) * (number % 5) for number in range(5000)]
    assert put(arena, 1, *pieces)
    assert arena.get(1) == b"".join(pieces)


def test_values_are_read_only_and_begin_at_a_multiple_of_64_bytes(arena):
    for key in range(5):
        put(arena, key, b"x" * (10 * key + 1))
        view = arena.get(key)
        assert view.readonly
        assert np.frombuffer(view, np.uint8).ctypes.data % 64 == 0


def test_a_value_is_replaced_for_everybody(arena):
    other = other_view(arena)
    put(arena, 1, b"before")
    assert other.get(1) == b"before"
    put(other, 1, b"a longer value")
    assert arena.get(1) == other.get(1) == b"a longer value"
    assert arena.index.fill()["entries"] == 1


def test_a_buffer_stays_what_it_was_across_put_clear_and_the_end_of_the_arena(arena):
    put(arena, 1, b"held" * 1000)
    held = arena.get(1)
    put(arena, 1, b"other" * 1000)
    assert held == b"held" * 1000
    arena.clear()
    for key in range(20):
        put(arena, key, b"later" * 1000)
    assert held == b"held" * 1000
    del arena
    gc.collect()
    assert held == b"held" * 1000


def test_a_folder_that_is_not_there_is_an_error(folder):
    with pytest.raises(FileNotFoundError):
        open_arena(folder / "missing", 3, 1000)


def test_no_file_stays_open(folder):
    gc.collect()
    before = open_files()
    for _ in range(5):
        arena = open_arena(folder, 20, MIB)
        other = other_view(arena, 2 * MIB, grow=True)
        put(other, 1, b"x")
        arena.get(1)
        arena.clear()
        other.get(1)
        del arena, other
    gc.collect()
    assert open_files() == before
