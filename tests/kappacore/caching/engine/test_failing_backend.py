"""A backend that fails costs the cache and not the samples."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import threading
import warnings
from types import SimpleNamespace
from typing import ClassVar

import pytest

import kappacore
from kappacore.caching.backends.base import CacheBackend, FailedKeysError
from kappacore.caching.engine import claims, client
from kappacore.errors import BrokenPluginError, CacheClosedError, CacheWarning
from kappacore.machine import waiting
from kappacore.machine.processes import Claimant
from support.caching import Log, RecordingBackend, load_bytes, open_cache
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


def test_a_backend_may_say_when_it_is_tried_again(cache, monkeypatch):
    now = 100.0
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(RecordingBackend, "retry_after", 0.01)
    RecordingBackend.failing.add("get")
    with pytest.warns(CacheWarning, match=r"it is tried again every 0.01 s"):
        cache.fetch([1], load)
    now += 0.009
    cache.fetch([1], load)
    assert cache.stats().backend_errors == 1
    now += 0.002
    cache.fetch([1], load)
    assert cache.stats().backend_errors == 2


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


class Partial(RecordingBackend):
    """Fails for key 1 alone."""

    def get_many(self, keys):
        return self.answer(keys, super().get_many(keys))

    def put_many(self, items):
        return self.answer([key for key, _ in items], super().put_many(items))

    def answer(self, keys, answers):
        if 1 not in keys:
            return answers
        self.values.pop(1, None)
        answers[keys.index(1)] = TimeoutError("too slow")
        raise FailedKeysError(answers)


def test_keys_that_a_backend_fails_for_take_no_others_with_them(recording):
    kappacore.register_cache_backend("partial", Partial)
    try:
        cache = open_cache("partial")
        with pytest.warns(CacheWarning, match=r"for a sample: TimeoutError: too slow. It is read"):
            cache.fetch([1, 2], load)
        assert cache.fetch([1, 2], load) == [[1, b"x" * 50], [2, b"x" * 50]]
        stats = cache.stats()
        assert (stats.hits, stats.source_reads, stats.stores, stats.refused) == (1, 3, 1, 0)
        assert stats.backend_errors >= 4
        cache.close()
        with pytest.raises(TimeoutError, match="too slow"):
            open_cache("partial", strict=True).fetch([1, 2], load)
    finally:
        kappacore.plugins.unregister_cache_backend("partial")


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


def test_a_worker_whose_backend_fails_leaves_what_was_proved(recording, tmp_path):
    fork = multiprocessing.get_context("fork")
    log = Log(tmp_path / "reads")
    cache = open_cache("recording")

    def fail_soon(self, keys, *, calls=itertools.count()):  # noqa: B008 - of all of a process
        if next(calls):  # not the first one, which is made before anything is proved
            raise ConnectionError("today no more")
        return [self.values.get(key) for key in keys]

    def read(get_many):
        warnings.simplefilter("ignore")
        recording.get_many = get_many
        assert cache.fetch([1], load_bytes(log)) == load_bytes()([1])

    for get_many in (fail_soon, recording.get_many):
        worker = fork.Process(target=read, args=(get_many,))
        worker.start()
        worker.join()
        assert worker.exitcode == 0
    assert log.count() == {1: 2}  # none of them looked at other samples
    cache.close()


class NeverGrants(CacheBackend):
    """A backend whose claims are never granted; nobody has them."""

    scope = "process"

    asked: ClassVar[list[int]] = []

    def __init__(self, namespace: str, length: int) -> None:
        self.values: dict[int, bytes] = {}

    def get(self, key):
        return self.values.get(key)

    def put(self, key, value):
        self.values[key] = b"".join(value)
        return True

    def claim_many(self, keys, ttl):
        self.asked.append(len(keys))
        return [False] * len(keys)


def read(log):
    cache = open_cache("never-grants")
    assert cache.fetch([1, 2], load_bytes(log)) == load_bytes()([1, 2])
    NeverGrants.asked.clear()
    assert cache.fetch([1, 2, 3], load_bytes(log)) == load_bytes()([1, 2, 3])
    cache.close()


@pytest.mark.parametrize("found", ["nobody", "somebody who is gone"])
def test_claims_that_are_never_granted_are_waited_for_once(monkeypatch, caplog, tmp_path, found):
    monkeypatch.setattr(claims, "DOUBT_AFTER", 0.3)
    monkeypatch.setattr(waiting, "SAY_AFTER", 0.1)
    if found != "nobody":
        gone = Claimant(pid=1, host="here", state="gone")
        monkeypatch.setattr(NeverGrants, "claimants", lambda self, keys: [gone] * len(keys))
    log = Log(tmp_path / "reads")
    kappacore.register_cache_backend("never-grants", NeverGrants)
    try:
        with pytest.warns(CacheWarning, match=r"'never-grants' has granted no claim") as caught:
            read(log)
    finally:
        kappacore.plugins.unregister_cache_backend("never-grants")
    assert NeverGrants.asked == []  # any more
    assert log.count() == {1: 1, 2: 1, 3: 1}
    assert len(caught) == 1
    assert "Still waiting" in caplog.text


def test_a_claim_of_somebody_who_lives_is_waited_for_as_long_as_it_takes(monkeypatch):
    monkeypatch.setattr(claims, "DOUBT_AFTER", 0.1)
    somebody = Claimant(pid=os.getpid(), host="here")
    monkeypatch.setattr(NeverGrants, "claimants", lambda self, keys: [somebody] * len(keys))
    kappacore.register_cache_backend("never-grants", NeverGrants)
    try:
        cache = open_cache("never-grants", prove=False)
        thread = threading.Thread(target=cache.prove, args=(load_bytes(),), daemon=True)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        monkeypatch.setattr(NeverGrants, "claim_many", lambda self, keys, ttl: [True] * len(keys))
        thread.join(100)
        assert not thread.is_alive()
        cache.close()
    finally:
        kappacore.plugins.unregister_cache_backend("never-grants")
