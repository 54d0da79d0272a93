"""A server that dies, hangs, forgets or is full costs its samples' time, and no sample."""

from __future__ import annotations

import signal
import threading
import time

import pytest
import redis

import kappacore
from kappa_redis.servers import address
from kappacore.caching.engine import client as engine
from kappacore.errors import CacheWarning
from support.stalls import repeated_where_stalled
from support.valkey import fail_over_after, start_cluster, start_node, wait_until

pytestmark = pytest.mark.slow

LENGTH, BATCH = 96, 8
TIMEOUT = 0.3  # s, of servers that hang


_RETRY_AFTER = engine._RETRY_AFTER
DEFAULT = dict(address._TIMEOUTS)


class Source:
    def __init__(self, size=1000):
        self.size = size

    def __len__(self):
        return LENGTH

    def __getitem__(self, idx):
        return bytes([idx]) * self.size, idx

    def sample_fingerprint(self):
        return "faults"


@pytest.fixture(autouse=True)
def tried_again_soon(monkeypatch):
    """Seconds for which the engine leaves a failing backend alone."""
    monkeypatch.setattr(engine, "_RETRY_AFTER", 0.3)


def open_dataset(node, *, size=1000, **options):
    return kappacore.CachedDataset(Source(size), "redis", url=node.url, check=False, **options)


def read_epoch(ds, meanwhile=lambda: None):
    """Read all samples and compare them; do something after a third of them."""
    before = ds.stats()
    for start in range(0, LENGTH, BATCH):
        if start == LENGTH // 3:
            meanwhile()
        batch = list(range(start, start + BATCH))
        assert ds.__getitems__(batch) == [ds.dataset[idx] for idx in batch]
    return ds.stats() - before


def wait_for_hits(ds):
    """Read epoch after epoch until one is served; return how long that took."""
    return wait_until(lambda: read_epoch(ds).hits == LENGTH)


def expect_warning():
    return pytest.warns(CacheWarning, match="The cache backend 'redis' failed")


def test_a_server_that_is_killed_in_an_epoch_and_comes_back_empty(monkeypatch):
    with start_node() as node, open_dataset(node) as ds:
        assert read_epoch(ds).stores == LENGTH
        assert read_epoch(ds).hits == LENGTH
        monkeypatch.setattr(engine, "_RETRY_AFTER", 60)  # longer than the rest of an epoch
        with expect_warning():
            stats = read_epoch(ds, node.kill)
        assert stats.hits == LENGTH // 3
        assert stats.source_reads == LENGTH - stats.hits
        assert stats.backend_errors == 1
        node.start()
        ds._cache._open().client._down_until = 1  # s: that is over
        wait_for_hits(ds)


@repeated_where_stalled
def test_a_server_that_hangs_in_an_epoch_and_goes_on():
    with start_node() as node, open_dataset(node, timeout=TIMEOUT) as ds:
        read_epoch(ds)
        with expect_warning():
            stats = read_epoch(ds, lambda: node.send(signal.SIGSTOP))
        assert stats.source_reads == LENGTH - LENGTH // 3
        assert 1 <= stats.backend_errors <= 3
        stopped = time.monotonic()
        before = ds.stats()
        while time.monotonic() < stopped + 1.5:
            assert read_epoch(ds).source_reads == LENGTH
            time.sleep(0.05)
        # Each try costs a timeout at most, and there is one each time it was left alone.
        assert (ds.stats() - before).backend_errors <= 1.5 / 0.3
        node.send(signal.SIGCONT)
        wait_for_hits(ds)


@pytest.mark.slow
@repeated_where_stalled
def test_a_server_that_hangs_for_seconds_is_tried_once_and_costs_one_timeout(monkeypatch):
    monkeypatch.setattr(engine, "_RETRY_AFTER", _RETRY_AFTER)
    with (
        start_node() as node,
        kappacore.CachedDataset(Source(), "redis", url=node.url, check=False, **DEFAULT) as ds,
    ):
        read_epoch(ds)
        node.send(signal.SIGSTOP)
        timer = threading.Timer(4, node.send, [signal.SIGCONT])
        timer.start()
        errors = 0
        with expect_warning():
            while timer.is_alive():
                stats = read_epoch(ds)
                assert stats.hits + stats.source_reads == LENGTH
                errors += stats.backend_errors
        assert errors == 1  # it is left alone for 5 s, longer than it hangs
        wait_for_hits(ds)


def test_a_server_that_restarts_empty_between_epochs_is_filled_again():
    with start_node() as node, open_dataset(node) as ds:
        read_epoch(ds)
        node.kill()
        node.start()
        stats = read_epoch(ds)
        assert (stats.source_reads, stats.backend_errors) == (LENGTH, 0)
        assert read_epoch(ds).hits == LENGTH


def test_a_full_server_keeps_what_it_has_and_the_rest_comes_from_the_source():
    with start_node(maxmemory="8mb") as node, open_dataset(node, size=100_000) as ds:
        with pytest.warns(CacheWarning, match=r"is full: \d+ of 96 samples .* has no ro"):
            first = read_epoch(ds)
        assert 10 < first.stores < LENGTH
        assert (first.stores + first.refused, first.backend_errors) == (LENGTH, 0)
        assert first.source_reads == LENGTH
        second = read_epoch(ds)
        assert second.hits == first.stores
        assert second.source_reads == LENGTH - first.stores
        assert ds._cache.infos()[0].full
        with node.client() as client:
            calls = client.info("commandstats")["cmdstat_set"]["calls"]
            read_epoch(ds)
            assert client.info("commandstats")["cmdstat_set"]["calls"] == calls  # none is tried
        ds.clear()
        assert read_epoch(ds).stores > 10


def test_a_server_that_may_not_be_written_to_is_read():
    with start_node() as node, open_dataset(node) as ds:
        read_epoch(ds)
        with node.client() as client:
            client.execute_command("CONFIG", "SET", "min-replicas-to-write", "1")
        assert read_epoch(ds).hits == LENGTH
        with open_dataset(node, namespace="another") as other:
            stats = read_epoch(other)
            assert (stats.source_reads, stats.backend_errors) == (LENGTH, 0)


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
@repeated_where_stalled
def test_a_node_of_a_cluster_that_fails_costs_its_own_samples(signal_):
    timeout = TIMEOUT if signal_ == signal.SIGSTOP else None
    with (
        start_cluster(**{"cluster-require-full-coverage": "no"}) as nodes,
        open_dataset(nodes[0], cluster=True, timeout=timeout) as ds,
    ):
        read_epoch(ds)
        assert read_epoch(ds).hits == LENGTH
        with expect_warning():
            stats = read_epoch(ds, lambda: nodes[1].send(signal_))
        assert stats.hits + stats.source_reads == LENGTH
        assert stats.backend_errors == 1
        time.sleep(0.5)
        stats = read_epoch(ds)
        assert LENGTH / 3 < stats.hits < LENGTH  # the other nodes serve on
        assert stats.backend_errors == 0
        nodes[1].send(signal.SIGCONT)


def test_who_comes_while_a_node_is_dead_uses_the_others():
    with start_cluster(**{"cluster-require-full-coverage": "no"}) as nodes:
        nodes[1].kill()
        with expect_warning(), open_dataset(nodes[0], cluster=True) as ds:
            for _ in range(2):  # the first one finds out
                read_epoch(ds)
                time.sleep(0.6)  # longer than the cluster is left alone
            assert "of 96 samples" in ds.explain()
            stats = read_epoch(ds)
            assert LENGTH / 3 < stats.hits < LENGTH
            assert (stats.backend_errors, stats.refused) == (0, 0)


@pytest.mark.slow
def test_a_cluster_that_is_down_as_a_whole_is_left_alone():
    with start_cluster() as nodes, open_dataset(nodes[0], cluster=True) as ds:
        read_epoch(ds)
        fail_over_after(nodes, 1000)
        nodes[1].kill()

        def down():
            stats = read_epoch(ds)
            assert stats.hits + stats.source_reads == LENGTH
            return state(nodes[0]) == "fail"

        with expect_warning():
            wait_until(down)
        read_epoch(ds)  # which may find out
        time.sleep(0.6)
        before, rejected, epochs = ds.stats(), refusals(nodes[0]), 0
        started = time.monotonic()
        while time.monotonic() < started + 1.5:
            assert read_epoch(ds).hits == 0
            epochs += 1
        stats = ds.stats() - before
        assert stats.source_reads == epochs * LENGTH
        assert stats.backend_errors <= 2  # the nodes that say so, once each
        assert refusals(nodes[0]) - rejected < epochs * LENGTH / 10
        nodes[1].start()

        def back():
            read_epoch(ds)
            return all(state(node) == "ok" for node in nodes)

        wait_until(back)
        assert wait_for_hits(ds) < 15  # it asks twice a second


def state(node):
    with node.client() as client:
        return client.execute_command("CLUSTER INFO")["cluster_state"]


def refusals(node):
    """Return how many commands a node has refused because its cluster is down."""
    with node.client() as client:
        return client.info("errorstats").get("errorstat_CLUSTERDOWN", {"count": 0})["count"]


def test_keys_lie_evenly_over_the_nodes_of_a_cluster(cluster):
    before = sizes(cluster)
    with open_dataset(cluster[0], cluster=True, namespace="even") as ds:
        read_epoch(ds)
        added = [after - count for after, count in zip(sizes(cluster), before, strict=True)]
        # The record, the index, and a generation for each, as there are more tags than keys.
        assert sum(added) == LENGTH + 2 + LENGTH + 1
        assert min(added) > 0.8 * max(added)
        ds.clear()


def sizes(nodes):
    found = []
    for node in nodes:
        with node.client() as client:
            found.append(client.dbsize())
    return found


def test_slots_that_move_to_another_node_are_followed():
    with start_cluster() as nodes, open_dataset(nodes[0], cluster=True) as ds:
        read_epoch(ds)
        first, second = nodes[:2]
        with first.client() as source, second.client() as target:
            to = target.execute_command("CLUSTER", "MYID")
            try:
                source.execute_command(
                    "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", "0", "5000", "NODE", to
                )
            except redis.ResponseError as error:
                pytest.skip(f"this server moves no slots by itself: {error}")
            wait_until(lambda: source.dbsize() <= 12)
        stats = read_epoch(ds)
        assert (stats.hits, stats.backend_errors) == (LENGTH, 0)
