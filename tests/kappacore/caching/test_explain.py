"""``explain`` says in plain words what a cache holds, how it is used, and what to change."""

from __future__ import annotations

import random
import re
import time
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, StackDataset, Subset

import kappacore
from kappacore import (
    CacheBackend,
    CachedDataset,
    CacheWrapper,
    ModeWrapper,
    TransformWrapper,
    explain,
)
from kappacore.errors import CacheClosedError, CacheWarning
from support.cache_sources import Images, Samples, Stream
from support.stalls import repeated_where_stalled

SMALL = {"max_bytes": "1MiB"}


def slow(sample):
    time.sleep(0.002)
    return sample


def last_line(target):
    return explain(target).splitlines()[-1]


# ---- the stack


def test_each_part_of_a_loaders_stack_is_a_line(log, backend):
    images = Images(log, known=True)
    with CacheWrapper(images, backend, **SMALL) as cached:
        dataset = ModeWrapper(TransformWrapper(cached, torch.neg, is_random=True), "x class")
        lines = explain(DataLoader(dataset, batch_size=4, num_workers=2)).splitlines()
    assert lines[0].startswith("DataLoader(batch_size=4, num_workers=2)")
    assert lines[1] == "  ModeWrapper(mode='x class') of 10"
    assert lines[2].startswith("    TransformWrapper(")
    assert lines[3] == "      CacheWrapper() of 10"
    assert lines[4] == f"        cache '{backend}': 'x' of Images, raw"
    assert "        Images() of 10" in lines
    assert lines.index("        Images() of 10") > 4


def test_each_cached_item_is_listed(log):
    with CacheWrapper(Images(log), items={"x": "shared", "class": "memory"}) as cached:
        text = explain(cached)
    assert "cache 'shared': 'x' of Images, raw" in text
    assert "cache 'memory': 'class' of Images, decoded" in text


def test_both_tiers_are_listed(log):
    with CachedDataset(Samples(log), ["memory", "shared"]) as cached:
        list(cached)
        text = explain(cached)
    assert "cache 'memory': 'sample' of Samples, sample" in text
    assert "cache 'shared': 'sample' of Samples, sample" in text
    assert text.count("fill: 10 of 10 samples") == 2


@pytest.mark.parametrize(
    "wrap",
    [
        lambda dataset: Subset(dataset, [1, 2]),
        lambda dataset: ConcatDataset([dataset] * 2),
        lambda dataset: StackDataset(left=dataset),
    ],
)
def test_a_cache_inside_torchs_own_wrappers_is_found(log, wrap):
    with CachedDataset(Samples(log), "memory", **SMALL) as cached:
        list(cached)
        text = explain(wrap(cached))
    assert "  CachedDataset() of 10" in text
    assert "There is no cache" not in text


@pytest.mark.parametrize(
    "target", [lambda log: Samples(log), lambda _: [1, 2], lambda _: DataLoader([1, 2])]
)
def test_without_a_cache_it_says_so(log, target):
    expected = "There is no cache: every sample is read from the source in every epoch."
    assert last_line(target(log)) == expected


def test_a_dataset_without_a_length_can_be_explained():
    text = explain(DataLoader(Stream()))
    assert text.splitlines()[1] == "  Stream()"


def test_a_closed_cache_cannot_be_explained(log):
    cached = CachedDataset(Samples(log), "memory", **SMALL)
    cached.close()
    with pytest.raises(CacheClosedError):
        explain(cached)


# ---- a cache's own


def test_the_parts_of_the_identity_are_listed(log, backend):
    with CacheWrapper(Images(log, known=True), backend, namespace="n", **SMALL) as cached:
        lines = cached.explain().splitlines()
        assert lines[0] == f"cache '{backend}': 'x' of Images, raw"
        assert lines[1] == "  namespace: n.x.raw.10.v2"
        assert lines[2] == "  fingerprint: images 0 x True"
    with CachedDataset(Samples(log), backend, namespace="n", **SMALL) as cached:
        assert "fingerprint: unknown; only the namespace identifies it" in cached.explain()
        assert "private" not in cached.explain()
    with CachedDataset(Samples(log), backend, **SMALL) as cached:
        assert "(private to this object and its workers)" in cached.explain()


def test_fill_budget_and_hit_rate_are_listed(log, backend):
    with CachedDataset(Samples(log), backend, **SMALL) as cached:
        assert "fill: 0 of 10 samples" in cached.explain()
        assert "use: nothing was read yet" in cached.explain()
        cached.__getitems__([1, 2, 3])
        cached.__getitems__([1, 2, 3])
        cached.__getitems__([1, 2])
        lines = cached.explain().splitlines()
    assert lines[3].startswith("  fill: 3 of 10 samples, ")
    assert " of 1.0 MiB (" in lines[3]
    assert lines[4].startswith("  use: 62.5% hits; a sample takes ")
    for stage in ("ms from the source", "ms to look up", "ms to turn from bytes into its value"):
        assert stage in lines[4]


def test_a_column_of_labels_is_not_taken_for_a_sample(log, backend):
    with CacheWrapper(Images(log), backend, items="class", **SMALL) as cached:
        cached.prefill()
        cached.getall_class()
        assert "fill: 10 of 10 samples" in cached.explain()


def test_explaining_one_cache_reads_no_sample(log, backend):
    with CachedDataset(Samples(log), backend, check=False, **SMALL) as cached:
        cached.explain()
        assert cached.dataset.log.count() == {}


def test_a_backend_that_fails_is_not_said_to_know_nothing(log):
    with (
        pytest.warns(CacheWarning, match="no route to host"),
        CachedDataset(Samples(log), "flawed", flaw="raises") as cached,
    ):
        assert "fill: unknown, because the backend fails" in cached.explain()
    with CachedDataset(Samples(log), "flawed", flaw="") as cached:
        assert "fill: unknown, because the backend defines no info()" in cached.explain()


# ---- what limits the epoch


@repeated_where_stalled
def test_a_first_epoch_over_a_slow_source(log, backend):
    with CachedDataset(Samples(log, delay=0.005), backend, **SMALL) as cached:
        cached.__getitems__([0, 1, 2, 3])
        assert last_line(cached) == (
            "The epoch waits for the source, as a first one does: later epochs will not, and "
            "prefill(threads=…) reads ahead of the first."
        )


@repeated_where_stalled
def test_a_full_cache(log, backend):
    with (
        warnings.catch_warnings(),
        CachedDataset(Samples(log, 50, size=1000), backend, max_bytes="10KiB") as cached,
    ):
        warnings.simplefilter("ignore")
        list(cached)
        text = explain(cached)
    assert ", full: the rest comes from the source" in text
    assert text.splitlines()[-1] == (
        "The cache is full, so the epoch waits for the source: raise max_bytes, cache a smaller "
        "form, or add a tier behind it."
    )


@pytest.mark.parametrize(("workers", "more"), [(0, "more workers"), (2, "more than 2 workers")])
@repeated_where_stalled
def test_slow_transforms(log, backend, workers, more):
    with CachedDataset(Samples(log), backend, transform=slow, **SMALL) as cached:
        cached.prefill()
        lines = explain(DataLoader(cached, num_workers=workers)).splitlines()
    measured = next(line for line in lines if line.startswith("decoding and transforms above"))
    assert 2 <= float(measured.split()[-4]) < 50  # milliseconds a sample
    assert lines[-1].startswith(
        f"Decoding and transforms limit the epoch, not the storage: use {more},"
    )


@repeated_where_stalled
def test_nothing_but_the_cache(log, backend):
    class Large(Samples):
        def sample(self, idx):
            return [list(range(idx, idx + 2000))]  # long to turn from bytes into a list

    with CachedDataset(Large(log, delay=0.005), backend, **SMALL) as cached:
        for _ in range(50):  # so that the first epoch's reads count for little
            list(cached)
        assert last_line(cached) == (
            "The cache limits the epoch: copy=False spares the copy, larger batches the look-ups."
        )


class Flawed(CacheBackend):
    """Of two methods; each may be slow, change what is stored, forget it, or raise."""

    scope = "process"

    def __init__(self, namespace, length, *, flaw):
        self.values = {}
        self.flaw = flaw

    def get(self, key):
        if self.flaw == "raises":
            raise OSError("no route to host")
        if self.flaw == "slow":
            time.sleep(0.01)
        value = self.values.get(key)
        return value and value[:-1] + bytes([value[-1] ^ (self.flaw == "corrupts")])

    def put(self, key, value):
        if self.flaw != "forgets":
            self.values[key] = b"".join(value)
        return True


@pytest.mark.filterwarnings("ignore:The cache backend")
@pytest.mark.parametrize(
    ("flaw", "expected"),
    [
        (
            "slow",
            r"The cache costs more than it saves: a sample takes \d\d[. ].*ms from the cache and ",
        ),
        ("corrupts", "The cache is of no use: 10 stored values failed their check, and 0 passed"),
        ("forgets", "The cache loses what it stores: for 10 samples 20 values were stored, and 0"),
        ("raises", r"The cache backend fails \(operations so far: 1\), so samples come from the "),
    ],
)
@repeated_where_stalled
def test_a_backend_that_costs_more_than_it_saves(flaw, expected):
    samples = [str(idx) for idx in range(10)]
    with CachedDataset(samples, "flawed", flaw=flaw) as cached:
        for _ in range(2):
            assert list(cached) == samples
        assert re.match(expected, last_line(cached))


@pytest.fixture(autouse=True, scope="module")
def flawed():
    kappacore.register_cache_backend("flawed", Flawed)
    yield
    kappacore.plugins.unregister_cache_backend("flawed")


@repeated_where_stalled
def test_a_form_is_only_advised_where_there_is_one(log):
    with CacheWrapper(Images(log), "memory", form="raw", **SMALL) as cached:
        dataset = ModeWrapper(TransformWrapper(cached, slow), "x")
        assert "or form='decoded' if the cache has room" in last_line(dataset)
    with CachedDataset(Samples(log), "memory", transform=slow, **SMALL) as cached:
        assert last_line(cached) == (
            "Decoding and transforms limit the epoch, not the storage: use more workers, or "
            "cheaper transforms."
        )


# ---- it changes nothing


@pytest.mark.parametrize("chosen", ["memory", ["memory", "shared"]])
def test_its_own_reads_are_not_counted(log, chosen):
    with CachedDataset(Samples(log), chosen) as cached:
        cached.__getitems__([0, 1, 1])
        before = cached.stats()
        explain(cached)
        assert cached.stats() == before
        cached.__getitems__([0, 1])
        assert (cached.stats() - before).hits == 2


def test_random_states_are_as_before(log):
    def draw(sample=None):
        return random.random(), np.random.rand(), torch.rand(1).item()

    with CachedDataset(Samples(log), "memory", transform=draw, **SMALL) as cached:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        expected = draw()
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        explain(cached)
        assert draw() == expected


def test_it_is_found_at_the_top_after_its_module_was_imported():
    import kappacore.caching.datasets  # which imports what explains

    assert callable(kappacore.explain)


def test_it_says_which_part_keeps_a_cache_apart_from_others_of_such_a_dataset(log):
    with (
        CacheWrapper(Images(log, known=True), "shared", max_bytes="1MiB") as raw,
        CacheWrapper(Images(log, known=True), "shared", form="decoded", max_bytes="1MiB") as other,
        CacheWrapper(Images(log, 12, known=True), "shared", max_bytes="1MiB") as longer,
        CacheWrapper(Images(log, seed=1, known=True), "shared", max_bytes="1MiB") as changed,
    ):
        for cached in (raw, other, longer, changed):
            cached.getitem_x(0)  # an empty cache does not say whose it is
        text = raw.explain()
        for cached, difference in (
            (other, "form (decoded, here raw)"),
            (longer, "length (12, here 10)"),
            (changed, "fingerprint or name ("),
        ):
            namespace = cached._caches["x"][0].identity.namespace
            (line,) = (line for line in text.splitlines() if namespace in line)
            assert line.startswith(f"  not shared with {namespace}: other ")
            assert difference in line
