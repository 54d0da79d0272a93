"""The core and kappa-redis: a server of the program's own, found by a second dataset."""

import importlib.util

import kappacore
from kappa_redis import RedisDataset

assert importlib.util.find_spec("kappa_shared") is None

words = ["one", "two", "three"]
with RedisDataset(words, namespace="smoke", timeout=60) as first:
    assert [first[i] for i in range(3)] == words
    with kappacore.CachedDataset(words, "redis", namespace="smoke", timeout=60) as second:
        assert second[2] == "three"
        assert second.stats().source_reads == 3
