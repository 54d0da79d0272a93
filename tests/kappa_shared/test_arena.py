from __future__ import annotations

import array
import fcntl
import gc
import os
import random
import re

import numpy as np
import pytest

from kappa_shared import arena as arena_module
from kappa_shared import layout
from kappa_shared.arena import Arena
from kappacore.errors import StorageError
from support.caching import open_files
from support.interrupts import interrupts

MIB = 2**20


@pytest.fixture
def folder(cache_folder):
    """A folder on memory, as arenas have."""
    path = cache_folder / "arena"
    path.mkdir()
    return path


@pytest.fixture
def arena(folder):
    return Arena(folder, 20, MIB, grow=False)


def other_view(arena, capacity=0, *, grow=False):
    """What another process sees."""
    return Arena(arena.folder, arena.length, capacity, grow=grow)


def put(arena, key, *pieces):
    return arena.put_many([(key, pieces)])[0]


def names(folder):
    """The arena's files, data without its number."""
    return sorted(re.sub("-.*", "-", path.name) for path in folder.iterdir())


def data_file(folder):
    (path,) = folder.glob("data-*")
    return path


# ---- values


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 64 * 1024, 16 * MIB])
def test_values_of_any_size_come_back_in_every_view(folder, size):
    arena = Arena(folder, 3, 40 * MIB, grow=False)
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
    assert arena.entries == 1


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


# ---- clearing


def test_clearing_is_seen_by_everybody_and_makes_room(arena):
    other = other_view(arena)
    for view in (arena, other):
        assert put(view, 1, b"x" * 900_000)
        assert not put(other, 2, b"x" * 900_000)
        assert (arena.full, other.full) == (True, True)
        other.clear()
        assert arena.get(1) is None
        assert other.get(1) is None
        assert (arena.entries, arena.used, arena.full) == (0, 0, False)


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
    assert not arena.full
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


# ---- the limit


def test_what_does_not_fit_is_refused_and_what_does_is_taken(arena):
    assert put(arena, 1, b"x" * 600_000)
    assert not arena.full
    assert arena.put_many([(2, [b"x" * 600_000]), (3, [b"y" * 100])]) == [False, True]
    assert arena.full
    assert arena.get(2) is None
    assert arena.get(3) == b"y" * 100
    assert arena.used <= arena.capacity == MIB


def test_the_whole_limit_can_be_used(folder):
    arena = Arena(folder, 2, 1024, grow=False)
    assert not put(arena, 0, b"x" * 1025)
    assert put(arena, 0, b"x" * (1024 - 64))
    assert not put(arena, 1, b"")


def test_a_limit_that_another_process_raises_holds_for_everybody(arena):
    put(arena, 1, b"x" * 1_000_000)
    assert not put(arena, 2, b"y" * 1_000_000)
    larger = other_view(arena, 4 * MIB, grow=True)
    assert larger.capacity == arena.capacity == 4 * MIB
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
    assert arena.capacity == MIB


def test_who_has_less_memory_than_the_others_stops_sooner(arena):
    """Such as in a container of its own."""
    poor = Arena(arena.folder, arena.length, 10, grow=False, ceiling=300_000)
    assert put(poor, 1, b"x" * 200_000)
    assert not put(poor, 2, b"x" * 200_000)
    assert put(arena, 2, b"x" * 200_000)
    assert poor.get(2) == b"x" * 200_000


def test_what_must_stay_free_in_the_file_system_stays_free(folder, monkeypatch):
    """Who passes batches through a full /dev/shm is killed by a bus error."""
    system = os.statvfs(folder)
    free = system.f_bavail * system.f_frsize
    arena = Arena(folder, 20, free, grow=False, reserve=free - MIB)
    assert put(arena, 1, b"x" * 500_000)
    assert not put(arena, 2, b"x" * 2_000_000)
    assert arena.full


def test_no_value_is_refused_without_asking_for_memory(folder):
    left = 0
    arena = Arena(folder, 20, 100 * MIB, grow=False, memory=lambda: left)
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
    arena = Arena(folder, 20, 100 * MIB, grow=False, memory=lambda: left)
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
    arena = Arena(folder, 10, 10**12, grow=False)
    data = data_file(folder)
    assert data.stat().st_size > 10**12
    assert data.stat().st_blocks == 0
    put(arena, 1, b"x" * 5000)
    assert data.stat().st_blocks * 512 < 20_000


# ---- claims


def test_a_claim_is_one_users_until_it_is_released(arena):
    other = other_view(arena)
    assert arena.claim_many([1, 2], 60) == [True, True]
    assert other.claim_many([2, 3], 60) == [False, True]
    assert arena.claim_many([1, 2, 3], 60) == [True, True, False]
    other.release_many([1, 2, 3])
    assert other.claim_many([1, 2], 60) == [False, False]
    arena.release_many([1, 2])
    assert other.claim_many([1, 2], 60) == [True, True]


def test_a_claim_expires_unless_it_is_renewed(arena):
    other = other_view(arena)
    assert arena.claim_many([1, 2], 0.0) == [True, True]
    assert arena.claim_many([2], 60) == [True]
    assert other.claim_many([1, 2], 60) == [True, False]


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
    lock = os.open(arena.folder / "lock", os.O_RDWR)
    moments = 0
    for _held in interrupts(lambda: use_all(arena, other)):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if it is taken
        fcntl.flock(lock, fcntl.LOCK_UN)
        moments += 1
    os.close(lock)
    assert moments > 50
    assert arena.get(1) == other.get(1) == b"value"


# ---- files that are damaged


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
    assert layout.read_length(arena.folder) is None
    fresh = Arena(arena.folder, 20, MIB, grow=False)
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
    fresh = Arena(arena.folder, 20, MIB, grow=False)
    assert fresh.get(1) is None
    assert put(fresh, 1, b"again")
    assert other_view(fresh).get(1) == b"again"


def test_an_arena_of_another_length_is_made_anew_and_its_users_go_on(arena):
    put(arena, 1, b"before")
    longer = Arena(arena.folder, 21, MIB, grow=False)
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
    assert (fresh.get(1), fresh.entries) == (None, 0)
    assert put(fresh, 1, b"again")
    assert other_view(fresh).get(1) == b"again"
    assert arena.get(1) == b"value"


def test_what_a_process_left_that_was_killed_at_making_an_arena_is_removed(folder):
    (folder / "index.1234").write_bytes(bytes(100))
    (folder / "data-1234").write_bytes(bytes(100))
    arena = Arena(folder, 20, MIB, grow=False)
    assert put(arena, 1, b"value")
    assert names(folder) == ["data-", "index", "lock"]


def test_a_folder_that_is_not_there_is_an_error(folder):
    with pytest.raises(FileNotFoundError):
        Arena(folder / "missing", 3, 1000, grow=False)


def test_no_file_stays_open(folder):
    gc.collect()
    before = open_files()
    for _ in range(5):
        arena = Arena(folder, 20, MIB, grow=False)
        other = other_view(arena, 2 * MIB, grow=True)
        put(other, 1, b"x")
        arena.get(1)
        arena.clear()
        other.get(1)
        del arena, other
    gc.collect()
    assert open_files() == before


def test_the_size_of_the_index_is_reserved_when_it_is_made(folder):
    Arena(folder, 10_000, 1000, grow=False)
    assert (folder / "index").stat().st_blocks * 512 >= 160_000


def test_an_index_without_room_is_an_error_that_says_what_to_do(folder, monkeypatch):
    def no_room(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    expected = r"No room for the index of a shared cache in .*arena \(4416 bytes for 20 samples\)"
    with pytest.raises(StorageError, match=expected + r".*raise --shm-size"):
        Arena(folder, 20, 1000, grow=False)
    assert "index" not in names(folder)
