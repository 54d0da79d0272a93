"""A backend that fails costs the cache and not the samples."""

from __future__ import annotations

import pickle

import pytest

import kappacore
from kappacore.caching.backends.base import CacheBackend
from kappacore.caching.engine import client
from kappacore.errors import BrokenPluginError, CacheClosedError, CacheWarning
from support.caching import RecordingBackend, load_bytes, open_cache
from support.recording import load


@pytest.mark.parametrize("operation", ["get", "put", "claim", "release"])
def test_a_failing_backend_costs_the_cache_and_not_the_samples(cache, operation):
    RecordingBackend.failing.add(operation)
    with pytest.warns(CacheWarning) as caught:
        three = [cache.fetch([1, 2], load) for _ in range(3)]
    assert three == [[[1, b"x" * 50], [2, b"x" * 50]]] * 3
    assert cache.fetch_one(1, load) == [1, b"x" * 50]
    assert len(caught) == 1
    assert str(caught[0].message).startswith(
        f"The cache backend 'recording' failed: ConnectionError: {operation} does not work today. "
        f"Samples are read from the source meanwhile; it is tried again every 5 s."
    )
    assert cache.stats().backend_errors == 1  # and then it was left alone
    assert [name for name, _ in RecordingBackend.take_calls()].count(operation) == 1


def test_a_backend_that_fails_for_one_sample_costs_no_sample(cache):
    RecordingBackend.failing.add("get")
    with pytest.warns(CacheWarning, match=r"backend 'recording' failed: ConnectionError: get does"):
        assert cache.fetch_one(1, load) == [1, b"x" * 50]


def test_a_backend_that_recovers_is_used_again(cache, monkeypatch):
    monkeypatch.setattr(client, "_RETRY_AFTER", 0.0)
    RecordingBackend.failing.add("get")
    with pytest.warns(CacheWarning):
        cache.fetch([1], load)
    RecordingBackend.failing.clear()
    cache.fetch([1], load)
    cache.fetch([1], load)
    assert cache.stats().hits >= 1


@pytest.mark.parametrize("operation", ["get", "put", "claim", "release"])
def test_a_strict_cache_raises_what_the_backend_raises(recording, operation):
    cache = open_cache("recording", strict=True)
    recording.failing.add(operation)
    with pytest.raises(ConnectionError, match=f"{operation} does not work today"):
        cache.fetch([1, 2], load)
    with pytest.raises(ConnectionError, match=f"{operation} does not work today"):
        cache.fetch_one(3, load)
    recording.failing.clear()
    cache.close()


def test_a_failure_to_clear_is_raised_since_the_caller_relies_on_it(cache):
    RecordingBackend.failing.add("clear")
    with pytest.raises(ConnectionError):
        cache.clear()


class Forgetful(CacheBackend):
    """Takes everything and keeps nothing."""

    scope = "process"

    def __init__(self, namespace, length):
        pass

    def get(self, key):
        return None

    def put(self, key, value):
        return True


def test_a_backend_that_loses_everything_is_slow_and_not_a_hang():
    kappacore.register_cache_backend("forgetful", Forgetful)
    cache = open_cache("forgetful", fingerprint=None, namespace="lost")
    for _ in range(2):
        assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])
    assert cache.stats().source_reads == 4
    with pytest.raises(
        BrokenPluginError, match=r"Forgetful cannot be cleared: it does not define clear"
    ):
        cache.clear()
    cache.close()
    kappacore.plugins.unregister_cache_backend("forgetful")


class Away(RecordingBackend):
    """A server that may be away when a worker wants to connect."""

    away = False

    def __init__(self, namespace, length):
        if self.away:
            raise ConnectionError("connection refused")
        super().__init__(namespace, length)


def test_a_backend_that_is_away_when_a_worker_starts_costs_no_sample(recording, monkeypatch):
    monkeypatch.setattr(client, "_RETRY_AFTER", 0.0)
    kappacore.register_cache_backend("away", Away)
    try:
        Away.away = True
        with pytest.raises(ConnectionError, match="refused"):
            open_cache("away", strict=True)
        Away.away = False
        cache = open_cache("away")
        Away.away = True
        worker = pickle.loads(pickle.dumps(cache))
        with pytest.warns(CacheWarning, match="backend 'away' failed: ConnectionError: connection"):
            assert worker.fetch([1], load) == [[1, b"x" * 50]]
        assert worker.fetch_one(1, load) == [1, b"x" * 50]
        assert worker.stats().backend_errors >= 2
        Away.away = False
        worker.fetch([1], load)
        assert worker.fetch_one(1, load) == [1, b"x" * 50]
        assert worker.stats().hits == 1
        worker.close()
        with pytest.raises(CacheClosedError):
            worker.fetch([1], load)
        cache.close()
    finally:
        Away.away = False
        kappacore.plugins.unregister_cache_backend("away")
