"""What a cache costs a server: memory, requests, and looking at keys that are not its own."""

from __future__ import annotations

import math

import pytest

import kappacore
from kappa_redis import inspection
from kappa_redis.backend import RedisBackend
from kappacore.cli import main
from support.valkey import programs, start_node


@pytest.fixture(params=programs())
def alone(request):
    """A server of the test's own, of each kind that is installed."""
    with start_node(programs()[request.param], **{"enable-debug-command": "local"}) as running:
        yield running


def calls(node):
    """Return how often each command was called."""
    with node.client() as client:
        stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}


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
