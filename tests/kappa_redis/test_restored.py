"""A server that comes back with what it held before a clear serves none of it."""

from __future__ import annotations

import pytest

import kappacore
from kappa_redis.backend import RedisBackend
from kappa_redis.entries import generations
from kappacore.caching.engine import client as engine
from support.valkey import programs, start_node

LENGTH = 20


class Source:
    """Samples whose content changes, and whose name does not."""

    def __init__(self, mark):
        self.mark = mark

    def __len__(self):
        return LENGTH

    def __getitem__(self, idx):
        return self.mark * 20, idx

    def all(self):
        return [self[idx] for idx in range(LENGTH)]


@pytest.fixture(params=programs())
def alone(request):
    """A server of the test's own, of each kind that is installed."""
    with start_node(programs()[request.param]) as running:
        yield running


def snapshot(node):
    with node.client() as client:
        client.save()


def restore(node):
    """Let it come back with its last snapshot."""
    node.kill()
    node.start()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The cache backend 'redis' failed")
def test_what_was_cleared_is_served_to_no_cache_of_the_process(alone, monkeypatch):
    monkeypatch.setattr(engine, "_RETRY_AFTER", 0.1)
    options = {"url": alone.url, "namespace": "words"}
    source = Source(b"old")
    with kappacore.CachedDataset(source, "redis", **options) as ds:
        assert ds[:] == source.all()
        snapshot(alone)
        source.mark = b"new"
        ds.clear()
        assert ds[:] == source.all()
        restore(alone)
        for _ in range(2):
            assert ds[:] == source.all()
        before = ds.stats().hits
        assert ds[:] == source.all()
        assert ds.stats().hits == before + LENGTH  # it is in use again
    for check in (True, False):
        restore(alone)
        with kappacore.CachedDataset(Source(b"new"), "redis", check=check, **options) as ds:
            assert ds[:] == ds.dataset.all()


@pytest.mark.parametrize("knows", ["cleared it", "wrote after it", "read after it"])
def test_who_knows_what_ended_ends_it_again_for_all(alone, knows):
    options = {"url": alone.url}
    first, second, third = (RedisBackend("restored", 10, **options) for _ in range(3))
    assert first.put(1, [b"old"])
    snapshot(alone)
    if knows == "cleared it":
        second.clear()
    else:
        forget_ended()
        RedisBackend("restored", 10, **options).clear()
        forget_ended()  # as another process, which did not see it
        assert third.put(1, [b"new"])
        forget_ended()
        if knows == "read after it":
            assert second.get(1) == b"new"
        else:
            second = third
    restore(alone)
    assert second.get(1) is None
    forget_ended()
    assert RedisBackend("restored", 10, **options).get(1) is None
    assert second.put(1, [b"newer"])
    assert RedisBackend("restored", 10, **options).get(1) == b"newer"
    assert first.get(1) == b"newer"


def test_what_is_restored_to_a_full_server_is_not_served(alone):
    backend = RedisBackend("full", 10, url=alone.url)
    assert backend.put(1, [b"old"])
    snapshot(alone)
    backend.clear()
    restore(alone)
    with alone.client() as client:
        client.config_set("maxmemory", "1")
        assert [backend.get(1), backend.put(2, [b"new"])] == [None, False]
        assert client.keys("*:g") == []
        client.config_set("maxmemory", "0")
    backend.clear()  # which forgets that there was no room
    assert backend.put(1, [b"new"])
    assert backend.get(1) == b"new"
    backend.close()


def test_generations_are_ordered_and_never_the_same(alone):
    backend = RedisBackend("ordered", 10, url=alone.url)
    seen = []
    with alone.client() as client:
        for _ in range(5):
            backend.put(1, [b"value"])
            seen.append(client.get("kappa:ordered:g"))
            backend.clear()
    assert seen == sorted(set(seen))
    assert len({word[11:] for word in seen}) == 5
    backend.close()


def forget_ended():
    """Know as little as a new process."""
    generations.ended.clear()
