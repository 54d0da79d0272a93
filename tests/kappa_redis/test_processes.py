"""Forked processes and threads: handles per process, whole whatever the parent was doing."""

from __future__ import annotations

import threading
import time

import pytest
from torch.utils.data import DataLoader

import kappacore
from kappacore.errors import CacheWarning
from kappacore.testing.caching.case import forks_are_meant
from support.cache_sources import Samples
from support.valkey import start_node

LENGTH = 64


def read(loader):
    with forks_are_meant():
        return [sample for batch in loader for sample in batch]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["server", "cluster"])
def test_workers_may_be_forked_while_threads_use_the_cache(node, cluster, tmp_path, kind):
    options = {"url": node.url} if kind == "server" else {"url": cluster[0].url, "cluster": True}
    source = Samples(tmp_path / "log", LENGTH, size=10_000)
    expected = [source.sample(idx) for idx in range(LENGTH)]
    with kappacore.CachedDataset(source, "redis", namespace="forks", check=False, **options) as ds:
        done = threading.Event()
        failures = []

        def use():
            while not done.is_set():
                if ds.__getitems__(range(LENGTH)) != expected:
                    failures.append("another sample")

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            assert read(DataLoader(ds, 8, num_workers=2, collate_fn=list)) == expected
        done.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert set(source.log.count().values()) == {1}
        assert ds.stats().backend_errors == 0
        ds.clear()


@pytest.mark.slow
def test_workers_may_start_while_the_server_is_dead(tmp_path):
    source = Samples(tmp_path / "log", LENGTH)
    expected = [source.sample(idx) for idx in range(LENGTH)]
    with (
        start_node() as node,
        kappacore.CachedDataset(source, "redis", url=node.url, namespace="dead", check=False) as ds,
    ):
        loader = DataLoader(ds, 8, num_workers=2, collate_fn=list)
        assert read(loader) == expected
        node.kill()
        with pytest.warns(CacheWarning, match="'redis' failed"):
            assert ds[0] == expected[0]
        before = ds.stats()
        assert read(loader) == expected
        stats = ds.stats() - before
        assert (stats.hits, stats.source_reads) == (0, LENGTH)
        assert stats.backend_errors >= 2  # each worker has found out for itself
        node.start()
        started = time.monotonic()
        assert read(loader) == expected
        assert read(loader) == expected
        assert ds.stats().hits >= LENGTH, time.monotonic() - started
