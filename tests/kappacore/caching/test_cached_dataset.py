"""Samples of a plain dataset through a cache: read once, and indexed as a list is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kappacore import CachedDataset, ModeWrapper
from kappacore.errors import (
    IndexOutOfRangeError,
    InvalidIndexError,
    InvalidOptionError,
    RandomSourceError,
)
from support.cache_sources import SMALL, BatchItems, BatchSamples, Samples


@pytest.fixture
def cached(log, backend):
    with CachedDataset(Samples(log), backend, **SMALL) as dataset:
        yield dataset


def test_each_sample_is_read_once_and_comes_back_as_it_was(cached):
    source = cached.dataset
    for _ in range(3):
        assert [cached[idx] for idx in range(10)] == [source.sample(idx) for idx in range(10)]
    assert source.log.count() == dict.fromkeys(range(10), 1)
    stats = cached.stats()
    assert (stats.hits, stats.misses, stats.source_reads, stats.stores) == (20, 10, 10, 10)


def test_samples_keep_their_exact_types(log, backend):
    class Mixed(Samples):
        def sample(self, idx):
            return {
                "array": np.arange(idx, dtype=">i2"),
                "tensor": torch.full((2, idx), idx, dtype=torch.bfloat16),
                "rest": [(idx, None), {"deep": (b"bytes", "text", 1.5, True)}],
            }

    with CachedDataset(Mixed(log), backend, **SMALL) as cached:
        for sample in (cached[3], cached[3]):
            assert type(sample) is dict
            assert sample["array"].dtype == np.dtype(">i2")
            assert sample["array"].tolist() == [0, 1, 2]
            assert torch.equal(sample["tensor"], torch.full((2, 3), 3, dtype=torch.bfloat16))
            assert sample["rest"] == [(3, None), {"deep": (b"bytes", "text", 1.5, True)}]
            assert type(sample["rest"][0]) is tuple
            sample["array"][0] = 99  # is the user's own
            sample["tensor"].zero_()


def test_a_batch_is_one_call_to_declared_items_and_later_none(log, backend):
    source = BatchItems(log)
    with CachedDataset(ModeWrapper(source, "x"), backend, **SMALL) as cached:
        assert cached.__getitems__([1, 2, 3]) == [source.sample(idx) for idx in (1, 2, 3)]
        assert cached.__getitems__([2, 3, 4, 5]) == [source.sample(idx) for idx in (2, 3, 4, 5)]
        assert source.log.count() == {-3: 1, -2: 1}


def test_a_batch_of_a_foreign_source_is_read_one_by_one(log, backend):
    source = BatchSamples(log)
    with CachedDataset(source, backend, **SMALL) as cached:
        assert cached.__getitems__([1, 2, 3]) == [source.sample(idx) for idx in (1, 2, 3)]
        assert cached.__getitems__([2, 3, 4, 5]) == [source.sample(idx) for idx in (2, 3, 4, 5)]
        assert source.log.count() == dict.fromkeys(range(1, 6), 1)


def test_a_batch_method_that_is_only_handed_through_is_not_used(log):
    class Doubled(torch.utils.data.Dataset):
        """Changes samples, and forwards every other attribute to what is inside."""

        def __init__(self, inner):
            self.inner = inner

        def __len__(self):
            return len(self.inner)

        def __getitem__(self, idx):
            return self.inner[idx][1] * 2

        def __getattr__(self, name):
            return getattr(self.__dict__["inner"], name)

    with CachedDataset(Doubled(BatchSamples(log)), "memory", **SMALL) as cached:
        assert cached.__getitems__([1, 2]) == [2, 4]


def test_indices_are_those_of_a_list(cached):
    source = cached.dataset
    assert cached[-1] == source.sample(9)
    assert cached[-10] == source.sample(0)
    assert cached[np.int64(3)] == cached[torch.tensor(3)] == source.sample(3)
    assert cached.__getitems__([-1, 9]) == [source.sample(9)] * 2
    assert list(cached) == [source.sample(idx) for idx in range(10)]
    assert source.log.count() == dict.fromkeys(range(10), 1)


@pytest.mark.parametrize("idx", [10, -11, 10**20])
def test_an_index_out_of_range_is_an_index_error(cached, idx):
    with pytest.raises(IndexOutOfRangeError, match=rf"^index {idx} is out of range .* 10 samples"):
        cached[idx]
    with pytest.raises(IndexError):
        cached.__getitems__([0, idx])
    assert cached.stats().source_reads == 0


@pytest.mark.parametrize("idx", ["1", 1.0, None, True])
def test_what_is_no_index_is_refused(cached, idx):
    with pytest.raises(InvalidIndexError, match=r"^CachedDataset is indexed by integers.*; got"):
        cached[idx]
    with pytest.raises(InvalidIndexError, match=r"^CachedDataset takes slices of integers; got"):
        cached["a":idx]


def test_a_sample_named_twice_in_a_batch_is_two_objects(log, backend):
    class Lists(Samples):
        def sample(self, idx):
            return [idx]

    with CachedDataset(Lists(log), backend, **SMALL) as cached:
        for _ in range(2):
            one, two = cached.__getitems__([3, 3])
            one.append("changed")
            assert two == [3]
        assert cached.dataset.log.count() == {3: 1}


def test_an_empty_dataset_can_be_cached(log, backend):
    with CachedDataset(Samples(log, 0), backend, namespace="empty", **SMALL) as cached:
        assert len(cached) == 0
        assert list(cached) == []
        with pytest.raises(IndexOutOfRangeError, match=r"^index 0 is out of range"):
            cached[0]


def test_a_loader_without_workers_takes_batches(log):
    source = BatchItems(log, length=20)
    with CachedDataset(ModeWrapper(source, "x"), "memory", **SMALL) as cached:
        loader = DataLoader(cached, batch_size=10, collate_fn=list)
        assert [sample for batch in loader for sample in batch] == list(
            map(source.sample, range(20))
        )
        assert source.log.count() == {-10: 2}


def test_the_error_of_the_source_passes_as_it_is(cached):
    def fail(idx):
        raise FileNotFoundError(f"no file for {idx}")

    cached.dataset.sample = fail
    with pytest.raises(FileNotFoundError, match="no file for 3"):
        cached[3]


# ---- attributes


def test_public_attributes_pass_through_and_others_do_not(cached):
    cached.dataset._secret = 1
    assert cached.classes == ("cat", "dog")
    assert cached.targets == [0, 1] * 5
    for name in ("_secret", "__array__", "missing"):
        with pytest.raises(AttributeError, match=name):
            getattr(cached, name)


def test_it_prints_what_it_is(cached, backend):
    first, second = repr(cached).splitlines()
    assert first == f"CachedDataset(backend={backend!r}) of 10"
    assert second.startswith("  Samples(")


# ---- transform


def test_the_transform_comes_after_the_cache(log, backend):
    calls = []

    def transform(sample):
        calls.append(sample[1])
        return (len(calls), sample[1])

    with CachedDataset(Samples(log), backend, transform=transform, **SMALL) as cached:
        assert [cached[4], cached[4], *cached.__getitems__([4, 5])] == [
            *((1, 4), (2, 4), (3, 4), (4, 5))
        ]
        assert calls == [4, 4, 4, 5]
        assert cached.dataset.log.count() == {4: 1, 5: 1}
        assert cached.is_random


def test_what_is_no_transform_is_refused(log):
    expected = r"transform='flip' cannot be called; expected a function of one sample"
    with pytest.raises(InvalidOptionError, match=expected):
        CachedDataset(Samples(log), "memory", transform="flip")


def test_a_cache_above_a_cache_with_a_transform_is_refused_and_one_without_is_not(log):
    with (
        CachedDataset(Samples(log), "memory", transform=len, **SMALL) as inner,
        pytest.raises(RandomSourceError),
    ):
        CachedDataset(inner, "memory", **SMALL)
    with (
        CachedDataset(Samples(log), "memory", **SMALL) as inner,
        CachedDataset(inner, "memory", **SMALL) as outer,
    ):
        assert outer[3] == outer[3] == inner.dataset.sample(3)
        assert (outer.stats().hits, inner.stats().hits) == (1, 0)


def test_the_old_dataset_of_kappadata_is_there(log):
    from kappa_shared import SharedDictDataset

    with SharedDictDataset(Samples(log), transform=len, **SMALL) as cached:
        assert isinstance(cached, CachedDataset)
        assert [cached[1], cached[1]] == [2, 2]
        assert (cached.stats().hits, cached.dataset.log.count()) == (1, {1: 1})
    assert SharedDictDataset(Samples(log)).transform is None
