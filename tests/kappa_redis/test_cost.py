"""What a cache costs a server: memory, requests, and looking at keys that are not its own."""

from __future__ import annotations

import math

import pytest

import kappacore
from kappa_redis.backend import RedisBackend
from kappa_redis.entries import inspection
from kappacore.cli import main
from kappacore.errors import InvalidOptionError
from support.valkey import programs, start_node


@pytest.fixture(params=programs())
def alone(request):
    """A server of the test's own, of each kind that is installed."""
    with start_node(programs()[request.param], **{"enable-debug-command": "local"}) as running:
        yield running


def calls(node):
    """Return how often each command was called, but for those that open or inspect."""
    with node.client() as client:
        stats = client.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): each["calls"]
        for name, each in stats.items()
        if not name.startswith(("cmdstat_client", "cmdstat_info"))
    }


def test_only_clearing_looks_at_foreign_keys(alone, capsys):
    with alone.client() as client:
        client.execute_command("DEBUG", "POPULATE", 20_000, "foreign", 10)
    there = ["--backend", "redis", "--opt", f"url={alone.url}"]
    for _ in range(2):
        with kappacore.CachedDataset(["a"] * 50, "redis", url=alone.url, namespace="few") as ds:
            assert list(ds) == ["a"] * 50
            assert "50 of 50 samples" in ds.explain()
        assert main(["cache", "ls", *there]) == 0
        assert main(["cache", "info", "few", *there]) == 0
    assert "few.sample.sample.50.v2" in capsys.readouterr().out
    assert calls(alone)["scan"] == 2  # one page each time it was opened, to see whether it may
    assert main(["cache", "clear", "few", *there]) == 0
    assert main(["cache", "ls", *there]) == 0
    with alone.client() as client:
        assert client.dbsize() == 20_000


def test_entries_are_counted_in_namespaces_of_any_length(alone, monkeypatch):
    monkeypatch.setattr(inspection, "_PAGE", 64)
    backend = RedisBackend("counted", 1000, url=alone.url)
    assert backend.info().entries == 0
    backend.put_many([(key, [bytes(50)]) for key in range(0, 1000, 4)])
    info = backend.info()
    assert info.entries == 250
    assert 250 * 50 < info.bytes < 250 * 400
    monkeypatch.setattr(inspection, "COUNTED_IN_ALL", 500)  # of more, as many are drawn
    [listed] = RedisBackend.namespaces(url=alone.url)
    assert math.isclose(listed.entries, 250, rel_tol=0.3)
    backend.clear()
    assert backend.info().entries == 0
    assert list(RedisBackend.namespaces(url=alone.url)) == []
    backend.close()


def test_a_user_who_may_not_list_may_do_the_rest(alone):
    """One with the rights that were enough before namespaces were listed."""
    rights = "on >x ~kappa:* +get +mget +set +type +pexpire +unlink +scan +strlen +pttl"
    with alone.client() as client:
        client.execute_command("ACL", "SETUSER", "old", "reset", *rights.split())
    options = {"url": alone.url, "username": "old", "password": "x", "namespace": "old"}
    with kappacore.CachedDataset(["a", "b"], "redis", strict=True, **options) as ds:
        assert list(ds) == ["a", "b"]
        assert ds._cache.infos()[0].entries == 2
        ds.clear()
    with alone.client() as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("command", ["EXISTS", "HSET", "HDEL", "INFO"])
def test_a_server_without_a_command_that_is_not_needed_does_the_rest(command):
    with start_node(**{"rename-command": f'{command} ""'}) as node:
        with kappacore.CachedDataset(
            ["a", "b"], "redis", url=node.url, namespace="few", strict=True
        ) as ds:
            assert list(ds) == ["a", "b"]
            assert ds._cache.infos()[0].entries == 2
            ds.clear()
        with node.client() as client:
            assert client.keys("*v:*") == []


def test_a_server_without_a_command_that_is_needed_is_refused():
    with start_node(**{"rename-command": 'UNLINK ""'}) as node:
        expected = r"lacks a command \(unknown command 'UNLINK'.* renamed or disabled"
        with pytest.raises(InvalidOptionError, match=expected):
            kappacore.CachedDataset(["a", "b"], "redis", url=node.url, namespace="few")


@pytest.fixture
def counted(alone):
    """A cache of (bytes, int) whose namespace is proved, and what was sent since it was asked."""
    samples = [(bytes(1000), idx) for idx in range(300)]
    before = {}

    def spent():
        now = calls(alone)
        more = {name: count - before.get(name, 0) for name, count in now.items()}
        before.update(now)
        return {name: count for name, count in more.items() if count}

    with kappacore.CachedDataset(samples, "redis", url=alone.url, namespace="counted") as ds:
        assert ds[0] == samples[0]
        trips = Trips(ds._cache._open().client.backend._namespace.server)
        spent()
        yield ds, trips, spent


class Trips:
    """Counts what is sent to a server at once."""

    def __init__(self, server):
        self.number = 0
        run = server.run

        def counting(commands):
            self.number += 1
            return run(commands)

        server.run = counting


def test_a_miss_takes_three_requests_and_renews_nothing(counted):
    ds, trips, spent = counted
    assert ds[1] == ds.dataset[1]
    assert trips.number == 3
    assert spent() == {"mget": 1, "set": 2, "type": 1, "get": 1, "unlink": 1}
    trips.number = 0
    assert ds[100:164] == ds.dataset[100:164]
    assert trips.number <= 4  # the first batch of unknown size is a small one
    assert "pexpire" not in spent()


def test_a_hit_takes_one_request_and_renews_what_was_found_with_the_next(counted, alone):
    ds, _, spent = counted
    ds.prefill(progress=False)
    with kappacore.CachedDataset(ds.dataset, "redis", url=alone.url, namespace="counted") as other:
        assert other[5] == ds.dataset[5]
        spent()
        other[6], other[7]
        assert spent() == {"mget": 2, "pexpire": 2}
    assert spent() == {"pexpire": 1}
    assert ds[5] == ds.dataset[5]
    assert spent() == {"mget": 1}  # it has stored that itself


def test_waiting_for_others_asks_more_and_more_rarely(node):
    with kappacore.CachedDataset(["a", "b"], "redis", url=node.url, namespace="waiting") as ds:
        assert ds[0] == "a"
        other = RedisBackend(ds._cache.identity.namespace, 4, url=node.url)
        assert other.claim_many([1], 3.0) == [True]
        before = calls(node)
        assert ds[1] == "b"  # after 3 s, when the claim has ended
        assert sum(calls(node).values()) - sum(before.values()) < 300
        other.close()
        ds.clear()


@pytest.mark.slow
def test_a_value_takes_little_more_memory_than_a_plain_key(alone):
    number, size = 4000, 100
    samples = [idx.to_bytes(4, "big") * (size // 4) for idx in range(number)]
    with alone.client() as client:

        def used(fill):
            before = client.info("memory")["used_memory"]
            fill()
            return client.info("memory")["used_memory"] - before

        def plain():
            pipeline = client.pipeline(transaction=False)
            for idx, sample in enumerate(samples):
                pipeline.set(f"k:{idx}", sample, px=10**8)
            pipeline.execute()

        expected = used(plain)
        client.execute_command("FLUSHALL", "SYNC")
        with kappacore.CachedDataset(
            samples, "redis", url=alone.url, namespace="imagenet-1k-train"
        ) as ds:
            assert (used(lambda: ds.prefill(progress=False)) - expected) / number <= 60


@pytest.mark.parametrize("kind", ["full", "replica"])
def test_a_server_that_takes_nothing_more_is_read(alone, kind):
    writing, reading = (RedisBackend("full", 10, url=alone.url) for _ in range(2))
    assert writing.put(1, [b"value"])
    with alone.client() as client:
        if kind == "full":
            client.config_set("maxmemory", "1")
        else:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
    for _ in range(2):
        assert reading.get_many([1, 2]) == [b"value", None]
    writing.close()
    reading.close()
