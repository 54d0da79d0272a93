"""Processes that are killed while they use or open a cache; for writers, see the suite."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from contextlib import nullcontext

import pytest

from kappa_shared import arena as arena_module
from kappa_shared.backend import SharedBackend
from kappacore.errors import CacheWarning
from support.caching import load_bytes, open_cache
from support.kills import kill_self, run_in_child

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


@pytest.mark.parametrize("claimed", [False, True])
def test_a_sample_that_would_fit_an_empty_cache_is_no_error_whatever_kills_left(
    claimed, monkeypatch
):
    cache = open_cache(options={"max_bytes": "1MiB"})
    other = SharedBackend(cache.identity.namespace, 12)

    def write_and_be_killed():
        monkeypatch.setattr(arena_module, "write_value", kill_self)
        SharedBackend(cache.identity.namespace, 12).put(1, [bytes(1_000_000)])

    assert run_in_child(write_and_be_killed) == -signal.SIGKILL
    if claimed:  # it may be writing into the room that is taken
        assert other.claim_many([5], 60) == [True]
    load = load_bytes(size=900_000)
    told = pytest.warns(CacheWarning, match="full: 0 of 10") if claimed else nullcontext()
    for attempt in (told, nullcontext()):
        with attempt:
            assert cache.fetch([1], load) == load([1])
    assert cache.stats().hits == (0 if claimed else 1)
    other.close()
    cache.close()
