"""The core and kappa-shared: samples found by a second dataset of the same name."""

import importlib.util

import kappacore
from kappa_shared import SharedDictDataset

assert importlib.util.find_spec("kappa_imagefolder") is None

words = ["one", "two", "three"]
with SharedDictDataset(words, namespace="smoke") as first:
    assert [first[i] for i in range(3)] == words
    with kappacore.CachedDataset(words, "shared", namespace="smoke") as second:
        assert second[2] == "three"
        assert second.stats().source_reads == 3
