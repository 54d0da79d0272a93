"""Large values over a slow network: time-outs grow with them, and one takes no other with it."""

from __future__ import annotations

import signal
import threading
import time
import tracemalloc
import uuid

import pytest

import kappacore
from kappa_redis.backend import RedisBackend
from kappa_redis.servers import pace
from kappacore.errors import CacheWarning
from kappacore.plugin_api import FailedKeysError
from support.stalls import repeated_where_stalled
from support.valkey import SlowProxy, programs, start_node

MB = 1 << 20
TIMEOUT = 0.3  # s; is reached, in most of these tests
SLOWLY = r"failed for a sample: TooSlowError: .* of a request took \d.\d s, which is slower than"


class Source:
    """Samples of given sizes."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, idx):
        return bytes([idx]) * self.sizes[idx]


def open_dataset(url, *sizes, **options):
    options = {"namespace": uuid.uuid4().hex, "timeout": TIMEOUT, "check": False, **options}
    return kappacore.CachedDataset(Source(*sizes), "redis", url=url, **options)


def read(ds):
    """Read all samples in one batch, compare them, and return what that did."""
    before = ds.stats()
    keys = list(range(len(ds)))
    assert ds.__getitems__(keys) == [ds.dataset[key] for key in keys]
    return ds.stats() - before


@pytest.fixture
def slowly():
    """Reaches a server at a number of bytes a second."""
    opened = []

    def reach(server, rate):
        opened.append(SlowProxy(server.port, rate))
        return opened[-1]

    yield reach
    for proxy in opened:
        proxy.close()


@pytest.fixture(params=["valkey", "redis"])
def server(request):
    if request.param not in programs():
        pytest.skip("no redis-server is installed")
    return request.getfixturevalue({"valkey": "node", "redis": "redis_node"}[request.param])


@repeated_where_stalled
def test_large_values_have_more_time(server, slowly, monkeypatch):
    monkeypatch.setattr(pace, "RATE", MB / 4)  # 8 s for the large one
    with open_dataset(slowly(server, 3.5e6).url, 2 * MB, 100, timeout=0.5) as ds:
        assert read(ds).stores == 2  # which takes 0.6 s
        assert read(ds).hits == 2
        assert ds.stats().backend_errors == 0
        ds.clear()


def wait_until_still(proxy):
    """Wait until nothing goes through it any more that was on its way."""
    before = -1
    while proxy.passed != before:
        before = proxy.passed
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True], ids=["write", "read"])
@repeated_where_stalled
def test_a_value_that_is_too_slow_takes_no_other_with_it(server, slowly, stored):
    sizes, namespace = (100, 2 * MB, 100, 1000), uuid.uuid4().hex
    if stored:
        with open_dataset(server.url, *sizes, namespace=namespace) as ds:
            read(ds)
    proxy = slowly(server, 2e6)
    with open_dataset(proxy.url, *sizes, namespace=namespace) as ds:
        with pytest.warns(CacheWarning, match=SLOWLY):
            stats = read(ds)
        assert (stats.hits, stats.source_reads) == ((3, 1) if stored else (0, 4))
        assert stats.backend_errors == (2 if stored else 1)  # it is not stored again
        assert stats.refused == 0
        wait_until_still(proxy)
        passed = proxy.passed
        stats = read(ds)
        assert (stats.hits, stats.source_reads) == (3, 1)
        assert proxy.passed - passed < 20_000  # it is not tried again
        assert "operations of the backend failed" in ds.explain()
        ds.clear()
        assert read(ds).backend_errors == 1  # but after clearing it is
        ds.clear()


@pytest.mark.slow
@repeated_where_stalled
def test_a_value_that_is_too_slow_takes_no_node_of_a_cluster_with_it(cluster, slowly):
    remap = {
        f"127.0.0.1:{node.port}": slowly(node, 2e6).url.removeprefix("redis://") for node in cluster
    }
    sizes = (2 * MB, *[100] * 20)
    options = {"cluster": True, "address_remap": remap}
    with open_dataset(cluster[0].url, *sizes, **options) as ds:
        with pytest.warns(CacheWarning, match=SLOWLY):
            assert read(ds).backend_errors == 1
        assert read(ds).hits == 20
        ds.clear()


@pytest.mark.slow
@repeated_where_stalled
def test_what_was_loaded_before_a_clear_is_not_stored_with_the_rest_of_a_slow_batch(node, slowly):
    name = uuid.uuid4().hex
    slow = RedisBackend(name, 10, url=slowly(node, 2e6).url, timeout=TIMEOUT)
    other = RedisBackend(name, 10, url=node.url)
    assert slow.claim_many([0], 5) == [True]
    other.clear()
    assert slow.get(1) is None
    with pytest.raises(FailedKeysError, match="1 keys failed, the first one with TooSlowError"):
        slow.put_many([(0, [b"outdated"]), (1, [bytes(2 * MB)]), (2, [b"new"])])
    assert other.get_many([0, 2]) == [None, b"new"]  # 1 may arrive yet
    other.clear()
    for backend in (slow, other):
        backend.close()


@pytest.mark.slow
@repeated_where_stalled
def test_values_of_a_size_are_left_alone_after_two_in_a_row(node, slowly, monkeypatch):
    sizes, namespace = (2 * MB,) * 6 + (1000,), uuid.uuid4().hex
    with open_dataset(node.url, *sizes, namespace=namespace) as ds:
        assert read(ds).stores == 7
    proxy = slowly(node, 2e6)
    with open_dataset(proxy.url, *sizes, namespace=namespace) as ds:
        looked_up = look_ups(node)
        with pytest.warns(CacheWarning, match=SLOWLY):
            stats = read(ds)
        assert (stats.hits, stats.source_reads) == (1, 6)
        # All at once, then two large ones and the small one apart, and the cache's header.
        assert look_ups(node) - looked_up == 5
        monkeypatch.setattr(pace, "_LEFT_ALONE", 0)
        wait_until_still(proxy)
        passed = proxy.passed
        assert read(ds).hits == 1
        assert proxy.passed - passed < 20_000
        ds.clear()


def look_ups(node):
    """Return how often a server was asked for values."""
    with node.client() as client:
        return client.info("commandstats")["cmdstat_mget"]["calls"]


@pytest.mark.slow
@repeated_where_stalled
def test_strict_raises_what_was_too_slow(node, slowly):
    with (
        open_dataset(slowly(node, 2e6).url, 2 * MB, strict=True) as ds,
        pytest.raises(pace.TooSlowError, match=rf"after timeout={TIMEOUT} s"),
    ):
        ds[0]


@repeated_where_stalled
def test_a_server_that_hangs_while_a_large_value_is_sent_is_left_alone(monkeypatch):
    monkeypatch.setattr(pace, "RATE", 100)  # bytes a second: a day for the large one
    with start_node() as node, open_dataset(node.url, 8 * MB, 100, 100) as ds:
        assert ds[1] == ds.dataset[1]
        timer = threading.Timer(0, node.send, [signal.SIGSTOP])
        timer.start()
        timer.join()
        started = time.monotonic()
        with pytest.warns(CacheWarning, match=r"'redis' failed: Timeout"):
            assert ds[0] == ds.dataset[0]
        assert ds[2] == ds.dataset[2]
        assert time.monotonic() - started < 60
        node.send(signal.SIGCONT)


def test_values_are_let_go_as_they_are_decoded(node):
    """So that a batch needs its memory once: pages of fresh memory cost more than decoding."""
    with open_dataset(node.url, *[MB] * 24, timeout=1.5) as ds:
        ds.prefill(progress=False)
        tracemalloc.start()
        batch = ds.__getitems__(range(24))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(batch) * MB <= peak < 1.5 * len(batch) * MB
        ds.clear()
