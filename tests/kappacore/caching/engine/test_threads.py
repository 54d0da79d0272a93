"""Threads that share a cache."""

from __future__ import annotations

import pickle
import threading
import time

import pytest

from kappacore.caching.engine import claims
from kappacore.machine import waiting
from support.caching import Log, load_bytes, open_cache


def test_threads_may_share_a_cache(tmp_path):
    log = Log(tmp_path / "reads")
    cache = open_cache("memory", length=200)
    load = load_bytes(log)
    wrong = []

    def read():
        for start in range(0, 200, 10):
            batch = list(range(start, start + 10))
            if cache.fetch(batch, load) != load_bytes()(batch):
                wrong.append(batch)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    stats = cache.stats()
    assert stats.samples == 800
    assert sum(log.count().values()) == stats.source_reads
    cache.close()


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_threads_wait_for_each_other_however_slow_the_source_is(tmp_path, monkeypatch, backend):
    monkeypatch.setattr(claims, "CLAIM_TTL", 0.2)
    log = Log(tmp_path / "reads")

    def slow(indices):
        time.sleep(0.7)
        return load_bytes(log)(indices)

    cache = open_cache(backend)
    threads = [threading.Thread(target=cache.fetch, args=([1, 2], slow)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.count() == {1: 1, 2: 1}
    cache.close()


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_threads_that_come_first_open_it_once(tmp_path, backend):
    log = Log(tmp_path / "reads")
    original = open_cache(backend)
    copy = pickle.loads(pickle.dumps(original))
    start = threading.Barrier(6)

    def use():
        start.wait()
        copy.fetch(list(range(10)), load_bytes(log))

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.count() == dict.fromkeys(range(10), 1)
    copy.close()
    original.close()


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_a_thread_that_waits_for_anothers_first_look_says_so(backend, monkeypatch, caplog):
    monkeypatch.setattr(waiting, "SAY_AFTER", 0.05)
    cache = open_cache(backend, prove=False)
    looking, said = threading.Event(), threading.Event()
    say = waiting._say
    monkeypatch.setattr(waiting, "_say", lambda text: (say(text), said.set()))

    def slow(indices):
        looking.set()
        assert said.wait(100)
        return load_bytes()(indices)

    first = threading.Thread(target=cache.fetch, args=([1], slow))
    first.start()
    looking.wait()
    assert cache.fetch([2], load_bytes()) == load_bytes()([2])
    first.join()
    texts = [record.getMessage() for record in caplog.records]
    [text] = [text for text in texts if text.startswith("Still waiting") and "first look" in text]
    assert text.endswith("is being taken by another thread of this process.")
    cache.close()


def test_threads_take_the_first_look_once(tmp_path):
    log = Log(tmp_path / "reads")
    alone = open_cache("memory", length=100, prove=False)
    alone.fetch([1], load_bytes(log))
    alone.close()
    reads = log.count()
    log.clear()
    cache = open_cache("memory", length=100, prove=False)
    start = threading.Barrier(6)

    def use():
        start.wait()
        cache.fetch([1], load_bytes(log, delay=0.001))

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.count() == reads
    cache.close()


def test_a_source_that_clears_its_own_cache_does_not_wait_for_itself():
    cache = open_cache("shared", prove=False)

    def clearing(indices):
        cache.clear()
        return load_bytes()(indices)

    got = []
    thread = threading.Thread(target=lambda: got.append(cache.fetch([1], clearing)), daemon=True)
    thread.start()
    thread.join(100)
    assert got == [load_bytes()([1])]
    cache.close()
