"""Threads that share a cache."""

from __future__ import annotations

import pickle
import threading
import time

import pytest

from kappacore.caching.engine import claims
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
