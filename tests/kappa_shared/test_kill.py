"""Processes that are killed while they use or open a cache; for writers, see the suite."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time

import pytest

from support.caching import load_bytes, open_cache

fork = multiprocessing.get_context("fork")
KEYS = 50


@pytest.mark.slow
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
