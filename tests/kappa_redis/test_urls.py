"""What a URL says beside the address, and what the cache's names on a server may hold."""

from __future__ import annotations

import pytest

import kappacore
from kappa_redis.backend import RedisBackend
from kappa_redis.servers.address import read_address
from kappacore.errors import CacheWarning, InvalidOptionError, StorageError
from support.valkey import programs, start_node

WORDS = ["one", "two", "three"]


@pytest.fixture(params=programs())
def alone(request):
    """A server of the test's own, of each kind that is installed."""
    with start_node(programs()[request.param]) as running:
        yield running


@pytest.mark.parametrize(
    ("query", "options", "expected"),
    [
        ("", {}, (1.5, 1.0)),
        ("?socket_timeout=7.5&socket_connect_timeout=3", {}, (7.5, 3.0)),
        ("?socket_timeout=7.5&socket_connect_timeout=3", {"timeout": 2}, (2, 3.0)),
        ("?socket_timeout=7.5", {"connect_timeout": 0.5}, (7.5, 0.5)),
    ],
)
def test_timeouts_of_the_url_hold_unless_others_are_given(monkeypatch, query, options, expected):
    monkeypatch.undo()  # the time-outs that tests have
    arguments = read_address(f"redis://host{query}", **options).arguments
    assert (arguments["socket_timeout"], arguments["socket_connect_timeout"]) == expected


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("name", ["socket_timeout", "socket_connect_timeout"])
def test_a_timeout_of_the_url_is_checked_too(name, seconds):
    with pytest.raises(InvalidOptionError, match=rf"{name}=\S+ in url= is not a positive number"):
        read_address(f"redis://host?{name}={seconds}")


def test_what_the_url_says_of_certificates_holds_unless_another_is_given():
    url = "rediss://host?ssl_cert_reqs=none"
    for options, expected in (({}, ("none", False)), ({"tls_verify": True}, ("required", True))):
        arguments = read_address(url, **options).arguments
        assert (arguments["ssl_cert_reqs"], arguments["ssl_check_hostname"]) == expected
    assert read_address("rediss://host").arguments["ssl_check_hostname"] is True


def test_the_schemes_of_valkey_are_those_of_redis(alone):
    url = alone.url.replace("redis:", "valkey:")
    with kappacore.CachedDataset(WORDS, "redis", url=url, namespace="scheme") as ds:
        assert list(ds) == list(ds) == WORDS
    assert read_address("valkeys://me:pw@host:7/2") == read_address("rediss://me:pw@host:7/2")
    assert "pw" not in repr(kappacore.backend("redis", url="valkeys://me:pw@host"))


@pytest.mark.parametrize("kind", ["hash", "string"])
def test_a_foreign_key_at_the_name_of_the_generation_is_named(alone, kind):
    name = "kappa:words.sample.sample.3.v2:g"
    with alone.client() as client:
        if kind == "hash":
            client.hset(name, "field", "value")
        else:
            client.set(name, "something")
        before = client.dump(name)
        options = {"url": alone.url, "namespace": "words"}
        with pytest.warns(CacheWarning, match=rf"The key '{name}' on the Redis server .* another"):
            ds = kappacore.CachedDataset(WORDS, "redis", **options)
        assert list(ds) == WORDS
        ds.close()
        with pytest.raises(StorageError, match=rf"The key '{name}' .* Remove it, or give the cac"):
            kappacore.CachedDataset(WORDS, "redis", strict=True, **options)
        backend = RedisBackend("words.sample.sample.3.v2", 5, url=alone.url)
        with pytest.raises(StorageError, match=rf"The key '{name}' "):
            backend.clear()
        backend.close()
        assert client.dump(name) == before


def test_a_foreign_key_at_the_name_of_a_claim_is_named(alone):
    backend = RedisBackend("words", 10, url=alone.url)
    with alone.client() as client:
        client.rpush("kappa:words:c:3", "value")
        with pytest.raises(StorageError, match=r"The key 'kappa:words:c:3' on the Redis server"):
            backend.claim_many([1, 3], 5)
        backend.clear()
        assert client.lrange("kappa:words:c:3", 0, -1) == [b"value"]
    backend.close()


def test_clearing_touches_no_key_of_another_type(alone):
    backend = RedisBackend("words", 10, url=alone.url)
    backend.put(1, [b"value"])
    ended = backend._namespace.layout.values(0, "0" * 21)
    foreign = [f"{ended}2", f"{ended}x", "kappa:words:c:7"]
    with alone.client() as client:
        for name in foreign:
            client.hset(name, "field", "value")
        backend.clear()
        assert sorted(client.keys()) == sorted(name.encode() for name in foreign)
        backend.put(1, [b"value"])
        assert RedisBackend.remove("words", url=alone.url)
        assert sorted(client.keys()) == sorted(name.encode() for name in foreign)
    backend.close()
