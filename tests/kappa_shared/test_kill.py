"""A writer that is killed at any moment leaves no wrong value and no lock."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time

import pytest

from kappa_shared.backend import SharedBackend
from support.caching import load_bytes, open_cache

fork = multiprocessing.get_context("fork")
KEYS = 50


def value_of(key, seed):
    """A value that tells by itself whether it is whole, and whose it is."""
    length = (key * 7919 + seed * 104729) % 30_000 + 10
    return bytes([key, seed % 251]) * length


def is_whole(key, value):
    value = bytes(value)
    return value[0] == key and value == value[:2] * (len(value) // 2)


def write_for_ever(seed):
    backend = SharedBackend("killed", KEYS, max_bytes="24MiB")
    rng = random.Random(seed)
    while True:
        keys = rng.sample(range(KEYS), 5)
        backend.claim_many(keys, 60)
        backend.put_many([(key, [value_of(key, rng.randrange(1000))]) for key in keys])
        backend.release_many(keys)
        if rng.random() < 0.02 or backend.info().full:
            backend.clear()


@pytest.mark.slow
def test_no_wrong_value_is_left_by_writers_killed_at_random():
    backend = SharedBackend("killed", KEYS, max_bytes="24MiB")
    rng = random.Random(1)
    seen = 0
    started = time.monotonic()
    for round_ in range(20):
        writers = [
            fork.Process(target=write_for_ever, args=(2 * round_ + n,), daemon=True)
            for n in range(2)
        ]
        for writer in writers:
            writer.start()
        end = time.monotonic() + rng.uniform(0.02, 0.12)
        while time.monotonic() < end:
            for key in range(KEYS):
                value = backend.get(key)
                if value is not None:
                    assert is_whole(key, value)
                    seen += 1
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        for key, value in enumerate(backend.get_many(range(KEYS))):
            assert value is None or is_whole(key, value)
        # Nobody holds a lock, and everything works.
        assert backend.put(0, [value_of(0, 1)]) or backend.info().full
    assert seen > 1000
    assert time.monotonic() - started < 20
    backend.close()


def test_processes_killed_while_they_use_a_cache_leave_it_correct():
    cache = open_cache(length=KEYS, options={"max_bytes": "8MiB"})
    rng = random.Random(2)

    def use_for_ever():
        while True:
            batch = random.sample(range(KEYS), 8)
            cache.fetch(batch, load_bytes(size=20_000))
            if random.random() < 0.05:
                cache.clear()

    for _ in range(10):
        user = fork.Process(target=use_for_ever, daemon=True)
        user.start()
        time.sleep(rng.uniform(0.02, 0.08))
        os.kill(user.pid, signal.SIGKILL)
        user.join()
    # The last one's claims may live on for a while; without them all is read at once.
    cache.clear()
    everything = list(range(KEYS))
    assert cache.fetch(everything, load_bytes(size=20_000)) == load_bytes(size=20_000)(everything)
    before = cache.stats()
    assert cache.fetch(everything, load_bytes(size=20_000)) == load_bytes(size=20_000)(everything)
    assert (cache.stats() - before).hits == KEYS
    assert cache.stats().corrupt == 0
    cache.close()


@pytest.mark.parametrize("_attempt", range(3))
def test_a_process_killed_while_it_opens_a_cache_hinders_nobody(_attempt, tmp_path):
    rng = random.Random(_attempt)

    def open_and_close_for_ever():
        while True:
            open_cache(length=1000, options={"max_bytes": "1MiB"}).close()

    for _ in range(5):
        user = fork.Process(target=open_and_close_for_ever, daemon=True)
        user.start()
        time.sleep(rng.uniform(0.005, 0.05))
        os.kill(user.pid, signal.SIGKILL)
        user.join()
        cache = open_cache(length=1000, options={"max_bytes": "1MiB"})
        assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])
        assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])
        assert cache.stats().hits >= 2
        cache.close()
