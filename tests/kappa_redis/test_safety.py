"""Harmless to everything else on the server, and never a wrong sample."""

from __future__ import annotations

import pickle
import re
import time

import pytest

import kappacore
from kappa_redis import embedded
from kappa_redis.backend import RedisBackend
from kappacore.cli import main
from kappacore.errors import InvalidOptionError
from kappacore.sizes import format_size
from support.caching import Log, load_bytes, open_cache
from support.stalls import repeated_where_stalled
from support.valkey import start_node

FORBIDDEN = {"flushall", "flushdb", "keys", "config|set", "eval", "evalsha", "script|load"}


@pytest.fixture
def alone():
    """A server of the test's own."""
    with start_node() as running:
        yield running


def names_on(node):
    with node.client() as client:
        return {name.decode() for name in client.scan_iter(count=1000)}


def commands_on(node):
    with node.client() as client:
        return {name.removeprefix("cmdstat_") for name in client.info("commandstats")}


def test_foreign_keys_are_untouched_by_everything(alone):
    foreign = {"kappa": "1", "kappa:other": "2", "0": "3", "kappa:words:v:1": "4", "kappa:ns:": "5"}
    with alone.client() as client:
        client.mset(foreign)
        client.hset("kappa:words:hash", "field", "value")
        client.hset("kappa:another.x.raw.3.v2:g", "field", "value")
    options = {"url": alone.url}
    for _ in range(2):
        cache = open_cache("redis", namespace="words", options=options)
        cache.fetch(list(range(10)), load_bytes())
        cache.infos()
        cache.clear()
        cache.fetch([1, 2], load_bytes())
        cache.close()
    list(RedisBackend.namespaces(**options))
    assert RedisBackend.remove(cache.identity.namespace, **options)
    with alone.client() as client:
        assert client.mget(list(foreign)) == [value.encode() for value in foreign.values()]
        assert client.hget("kappa:words:hash", "field") == b"value"
    assert names_on(alone) == {*foreign, "kappa:words:hash", "kappa:another.x.raw.3.v2:g"}
    assert {"mget", "set", "scan", "unlink"} < commands_on(alone)
    assert not commands_on(alone) & FORBIDDEN


def test_clear_is_seen_at_once_by_an_instance_that_reads_and_by_one_that_writes(node):
    options = {"url": node.url}
    clearing, reading, writing = (RedisBackend("cleared", 10, **options) for _ in range(3))
    for backend in (reading, writing):
        assert backend.put(1, [b"old"])
    clearing.clear()
    assert reading.get_many([1, 2]) == [None, None]
    assert writing.put(2, [b"new"])  # knew nothing of it, and the value is where others look
    assert reading.get_many([1, 2]) == [None, b"new"]
    assert clearing.get(2) == b"new"
    clearing.clear()
    for backend in (clearing, reading, writing):
        backend.close()


def test_clear_leaves_only_what_others_are_loading(alone):
    backend = RedisBackend("swept", 3000, url=alone.url)
    backend.put_many([(key, [b"value"]) for key in range(2500)])
    backend.claim_many([2999], 60)
    with alone.client() as client:  # by a writer that is late
        client.set(backend._namespace.layout.value(7, "0" * 21), "orphan")
    backend.clear()
    assert names_on(alone) == {"kappa:swept:c:2999"}
    backend.close()


@pytest.mark.parametrize("damage", ["foreign", "short", "crossed", "older", "another type"])
def test_a_value_that_is_not_what_was_stored_is_a_miss_and_heals(alone, tmp_path, damage):
    log = Log(tmp_path / "log")
    cache = open_cache("redis", options={"url": alone.url})
    cache.fetch(list(range(10)), load_bytes(log))
    names = {int(name.rpartition(":")[2]): name for name in names_on(alone) if ":v:" in name}
    with alone.client() as client:
        whole = client.get(names[3])
        if damage == "foreign":
            client.set(names[3], b"something else")
        elif damage == "short":
            client.set(names[3], whole[:-1])
        elif damage == "crossed":
            client.set(names[3], client.get(names[4]))
        elif damage == "older":
            client.set(names[3], b"\0" + whole[1:])
        else:
            client.delete(names[3])
            client.hset(names[3], "field", "value")
    log.clear()
    expected = load_bytes()(list(range(10)))
    assert cache.fetch(list(range(10)), load_bytes(log)) == expected
    assert log.count() == {3: 1}
    assert cache.fetch(list(range(10)), load_bytes(log)) == expected
    assert log.count() == {3: 1}
    cache.close()


@pytest.mark.slow
@repeated_where_stalled
def test_what_is_used_stays_and_the_rest_goes(alone):
    with alone.client() as client:
        client.flushall()
    backend = RedisBackend("ttl", 10, url=alone.url, ttl=0.6)
    backend.put_many([(key, [b"value"]) for key in range(2)])
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        assert backend.get(0) == b"value"
        time.sleep(0.05)
    assert backend.get_many([0, 1]) == [b"value", None]
    time.sleep(1.3)  # the generation lives twice as long
    assert names_on(alone) == {"kappa:namespaces"}
    assert list(RedisBackend.namespaces(url=alone.url)) == []
    assert names_on(alone) == set()
    assert backend.get(0) is None
    assert backend.put(0, [b"again"])
    assert backend.get(0) == b"again"
    backend.close()


def test_what_says_whose_the_samples_are_stays_as_long_as_they_do(alone):
    cache = open_cache("redis", namespace="named", fingerprint=None, options={"url": alone.url})
    cache.fetch([1, 2], load_bytes())
    record = next(name for name in names_on(alone) if name.endswith(":10"))
    reader = open_cache("redis", namespace="named", fingerprint=None, options={"url": alone.url})
    with alone.client() as client:
        client.pexpire(record, 10_000)
        worker = pickle.loads(pickle.dumps(reader))  # reads samples, and not the record
        worker.fetch([1, 2], load_bytes())
        assert client.pttl(record) > 2 * 86_400_000
    for each in (cache, reader, worker):
        each.close()


def test_a_reader_renews_each_key_once_a_while_and_with_no_request_more(alone):
    backend = RedisBackend("renewed", 100, url=alone.url)
    backend.put_many([(key, [b"value"]) for key in range(100)])
    backend.close()
    backend = RedisBackend("renewed", 100, url=alone.url)
    for _ in range(5):
        backend.get_many(range(50))
    with alone.client() as client:
        stats = client.info("commandstats")
        assert client.pttl(next(name for name in names_on(alone) if name.endswith(":7"))) > 1e8
    assert stats["cmdstat_pexpire"]["calls"] == 50 + 1  # and the generation
    assert stats["cmdstat_mget"]["calls"] == 6  # the first batch of unknown size is a small one
    backend.close()


def test_entries_stay_as_long_as_the_user_wants_them_kept(alone):
    for keep, ttl, expected in ((10 * 86400, "3d", 10), (60, "3d", 3), (float("inf"), "3d", None)):
        backend = RedisBackend("kept", 10, url=alone.url, ttl=ttl, keep=keep)
        backend.put(1, [b"value"])
        with alone.client() as client:
            name = next(name for name in names_on(alone) if ":v:" in name)
            days = client.pttl(name) / 86_400_000
        assert (days < 0) if expected is None else (expected - 0.01 < days <= expected)
        backend.clear()
        backend.close()


def test_a_value_that_is_too_large_is_refused(node, caplog):
    backend = RedisBackend("large", 10, url=node.url, max_value_bytes="1KiB")
    assert backend.put_many([(1, [bytes(1024)]), (2, [bytes(1000), bytes(25)])]) == [True, False]
    assert backend.get_many([1, 2]) == [bytes(1024), None]
    text = f"A sample of {format_size(1025)} is not stored: max_value_bytes is 1.0 KiB."
    assert text in caplog.text
    backend.clear()
    backend.close()


@pytest.mark.slow
def test_batches_are_parted_by_the_bytes_they_may_have(alone):
    backend = RedisBackend("parted", 100, url=alone.url)
    value = bytes(3 << 20)
    assert backend.put_many([(key, [value]) for key in range(40)]) == [True] * 40
    assert backend.get_many(range(40)) == [value] * 40
    backend.get_many(range(40))
    with alone.client() as client:
        stats = client.info("commandstats")["cmdstat_mget"]
    assert stats["calls"] == 20 + 20  # two of 3 MiB each
    backend.close()
    backend = RedisBackend("parted", 100, url=alone.url)
    backend.get_many(range(40))
    with alone.client() as client:
        assert client.info("commandstats")["cmdstat_mget"]["calls"] == 40 + 1 + 16  # 8 at first
    backend.clear()
    backend.close()


def test_namespaces_are_listed_with_what_they_hold_and_removed(alone):
    options = {"url": alone.url}
    for name, number in (("a", 3), ("b", 5)):
        cache = open_cache("redis", namespace=name, options=options)
        cache.fetch(list(range(number)), load_bytes(size=1000))
        cache.close()
    before = names_on(alone)
    first, second = RedisBackend.namespaces(**options)
    assert names_on(alone) == before
    assert (first.namespace, first.entries, first.dataset) == ("a.x.decoded.10.v2", 4, "Tests")
    assert (second.entries, second.where, second.capacity) == (6, alone.url, None)
    assert 6000 > first.bytes > 3000
    assert 2.9 * 86400 < first.kept_until - time.time() < 3.1 * 86400
    assert RedisBackend.remove(first.namespace, **options) is True
    assert RedisBackend.remove(first.namespace, **options) is False
    assert [info.namespace for info in RedisBackend.namespaces(**options)] == [second.namespace]


@pytest.mark.parametrize("look", [RedisBackend.namespaces, lambda: RedisBackend.remove("any")])
def test_looking_for_namespaces_asks_for_a_server_and_starts_none(look, monkeypatch):
    monkeypatch.delenv("KAPPA_REDIS_URL", raising=False)
    with pytest.raises(InvalidOptionError, match=r"--opt url=redis://host:6379.*KAPPA_REDIS_URL"):
        look()
    assert embedded.running_url() is None


def test_an_eviction_policy_that_hurts_epochs_is_said():
    for policy, says in (
        ("allkeys-lru", "evicts what an epoch reads next"),
        ("allkeys-random", "may evict the small key that says which entries are valid"),
        ("noeviction", ""),
    ):
        with start_node(**{"maxmemory": "100mb", "maxmemory-policy": policy}) as node:
            backend = RedisBackend("policy", 10, url=node.url)
            info = backend.info()
            assert info.capacity == 100_000_000 or info.capacity == 100 << 20
            assert bool(info.advice) is bool(says)
            assert not says or info.advice.startswith(f"maxmemory-policy {policy} {says}")
            backend.close()


def test_the_labels_of_a_dataset_go_there_as_one_value(alone, tmp_path):
    from support.cache_sources import Labels

    ds = kappacore.CacheWrapper(
        Labels(tmp_path / "log", [3, 1, 2]), "redis", items="class", url=alone.url
    )
    assert list(ds.getall_class()) == [3, 1, 2]
    ds.close()
    assert len([name for name in names_on(alone) if ":v:" in name]) >= 2


def test_the_command_line_lists_and_clears(capsys):
    with start_node(**{"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}) as node:
        with kappacore.CachedDataset(["a", "b"], "redis", url=node.url, namespace="letters") as ds:
            assert list(ds) == ["a", "b"]
        there = ["--backend", "redis", "--opt", f"url={node.url}"]
        assert main(["cache", "info", *there]) == 0
        text = capsys.readouterr().out
        assert re.search(r"^namespace +letters\.sample\.sample\.2\.v2$", text, re.MULTILINE)
        assert re.search(r"^entries +2$", text, re.MULTILINE)
        assert re.search(r"^advice +maxmemory-policy allkeys-lru evicts", text, re.MULTILINE)
        assert main(["cache", "clear", "letters", *there]) == 0
        assert names_on(node) == set()
