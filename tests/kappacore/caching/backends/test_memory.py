from __future__ import annotations

import gc
import multiprocessing

import numpy as np
import pytest

from kappacore.caching.backends.memory import MemoryBackend, _stores
from kappacore.errors import InvalidOptionError

fork = multiprocessing.get_context("fork")


@pytest.fixture
def backend():
    opened = MemoryBackend("test", 10, max_bytes=1000)
    yield opened
    opened.close()


def test_pieces_are_stored_as_one_value(backend):
    assert backend.put(3, [b"ab", bytearray(b"cd"), memoryview(b"ef")])
    assert bytes(backend.get(3)) == b"abcdef"
    assert backend.get(4) is None


def test_a_value_does_not_change_with_what_it_was_made_of(backend):
    piece = bytearray(b"before")
    backend.put(1, [piece])
    piece[:] = b"after!"
    assert bytes(backend.get(1)) == b"before"


def test_a_value_stays_valid_whatever_becomes_of_the_backend(backend):
    backend.put(1, [b"value"])
    held = backend.get(1)
    backend.put(1, [b"other"])
    backend.clear()
    backend.close()
    assert bytes(held) == b"value"


def test_values_beyond_the_limit_are_refused_and_the_others_stay(backend):
    assert backend.put(1, [b"x" * 600])
    assert not backend.put(2, [b"x" * 600])
    assert backend.put(3, [b"x" * 400])
    assert not backend.put(4, [b"x"])
    info = backend.info()
    assert (info.entries, info.bytes, info.capacity, info.full) == (2, 1000, 1000, True)


def test_a_value_that_is_replaced_gives_its_room_back(backend):
    assert backend.put(1, [b"x" * 900])
    assert backend.put(1, [b"y" * 1000])
    assert backend.info().bytes == 1000
    assert backend.put(1, [b"z" * 10])
    assert backend.info().bytes == 10
    assert not backend.put(1, [b"z" * 1001])
    assert bytes(backend.get(1)) == b"z" * 10


def test_clearing_gives_all_room_back(backend):
    backend.put(1, [b"x" * 1000])
    backend.put(2, [b"x"])
    backend.clear()
    assert backend.get(1) is None
    assert (backend.info().bytes, backend.info().full) == (0, False)
    assert backend.put(2, [b"x" * 1000])


def test_one_namespace_is_one_store_within_a_process_and_others_are_apart(backend):
    same = MemoryBackend("test", 10)
    other = MemoryBackend("other", 10)
    backend.put(1, [b"value"])
    assert same.get(1) == b"value"
    assert other.get(1) is None
    other.clear()
    assert same.get(1) == b"value"
    same.close()
    other.close()


def test_the_largest_limit_that_was_asked_for_counts(backend):
    larger = MemoryBackend("test", 10, max_bytes=2000)
    smaller = MemoryBackend("test", 10, max_bytes=5)
    assert backend.info().capacity == smaller.info().capacity == 2000
    larger.close()
    smaller.close()


def test_the_last_user_takes_the_values_away():
    one, two = MemoryBackend("gone", 1), MemoryBackend("gone", 1)
    one.put(0, [b"value"])
    one.close()
    one.close()
    assert two.get(0) == b"value"
    del two
    gc.collect()
    assert "gone" not in _stores
    fresh = MemoryBackend("gone", 1)
    assert fresh.get(0) is None
    fresh.close()


def test_a_forked_child_finds_what_was_there_and_keeps_what_it_adds_to_itself(backend):
    backend.put(1, [b"parent"])
    answers = fork.SimpleQueue()

    def in_child():
        mine = MemoryBackend("test", 10)
        mine.put(2, [b"child"])
        answers.put((bytes(mine.get(1)), bytes(mine.get(2))))

    child = fork.Process(target=in_child, daemon=True)
    child.start()
    assert answers.get() == (b"parent", b"child")
    child.join()
    assert backend.get(2) is None


@pytest.mark.parametrize("max_bytes", ["1MiB", 2**20, "1048576"])
def test_the_limit_is_written_as_people_do(max_bytes):
    backend = MemoryBackend("sizes", 1, max_bytes=max_bytes)
    assert backend.info().capacity == 2**20
    backend.close()


@pytest.mark.parametrize("max_bytes", ["a lot", 0, -5, 2.5])
def test_a_limit_that_is_no_size_is_refused(max_bytes):
    with pytest.raises(InvalidOptionError, match="is not a size"):
        MemoryBackend("sizes", 1, max_bytes=max_bytes)
    assert "sizes" not in _stores


def test_the_default_limit_is_half_of_what_is_available():
    from kappacore.machine.space import available_memory

    backend = MemoryBackend("sizes", 1)
    assert backend.info().capacity == pytest.approx(available_memory() / 2, rel=0.2)
    backend.close()


def test_holes_of_what_was_replaced_are_given_back(monkeypatch):
    monkeypatch.setattr("kappacore.caching.backends.memory._BLOCK", 10_000)
    backend = MemoryBackend("holes", 10, max_bytes=100_000)
    backend.put(1, [b"one"])
    held = backend.get(1)
    for version in range(200):
        backend.put(2, [bytes([version]) * 1000])
        assert sum(map(len, backend._store.blocks)) <= 40_000
    assert (bytes(backend.get(1)), bytes(held)) == (b"one", b"one")
    assert bytes(backend.get(2)) == bytes([199]) * 1000
    assert backend.info().bytes == 1003
    located = backend.locate_many(np.array([2, 3, 1]))
    assert located.region.tolist()[1] == -1
    assert located.sizes().tolist() == [1000, 0, 3]
    first = np.frombuffer(located.regions[0], np.uint8).ctypes.data
    assert ((first + located.offset[[0, 2]]) % 64 == 0).all()
