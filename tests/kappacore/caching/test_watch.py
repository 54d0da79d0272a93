"""A dataset that changes below its cache: attributes are set there, the rest is an error."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch.utils.data
from torch.utils.data import ConcatDataset, DataLoader, Dataset, StackDataset, Subset

from kappacore import (
    CachedDataset,
    CacheWrapper,
    KDConcatDataset,
    KDDataset,
    KDSubset,
    ModeWrapper,
    as_kd,
)
from kappacore.errors import DatasetChangedError, InvalidOptionError
from support.workers import workers


class Source(Dataset[Any]):
    def __init__(self, length: int = 20) -> None:
        self.values = list(range(length))
        self.k = 1
        self.targets = [0] * length

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, idx: int) -> int:
        return self.values[idx] * 10


class Items(KDDataset):
    k = 1

    def __init__(self, length: int = 20) -> None:
        self.values = list(range(length))
        self.targets = [0] * length

    def __len__(self) -> int:
        return len(self.values)

    def getitem_x(self, idx: int) -> int:
        return self.values[idx] * 10


def all_reads(cached: Any) -> list[Any]:
    return [
        lambda: cached[0],
        lambda: cached.__getitems__([0, 1]),
        lambda: cached[0:2],
        lambda: next(iter(DataLoader(cached, 2))),
    ]


def refuses(cached: Any, match: str) -> None:
    for read in all_reads(cached):
        with pytest.raises(DatasetChangedError, match=match):
            read()


@pytest.mark.parametrize("length", [19, 21])
def test_another_length_is_an_error_at_the_next_read(length):
    source = Source()
    with CachedDataset(source, "memory") as cached:
        cached[0]
        source.values[:] = range(length)
        refuses(cached, rf"Source was changed .* it has {length} samples, and had 20")
    items = Items()
    with ModeWrapper(CacheWrapper(items, "memory"), "x") as mode:
        assert mode.__getitems__([0, 3]) == [0, 30]
        items.values[:] = range(length)
        with pytest.raises(DatasetChangedError):
            mode[0]
        with pytest.raises(DatasetChangedError):
            mode.__getitems__([0])


def test_indices_that_are_assigned_anew_or_in_place_are_an_error():
    def reverse(subset: Any) -> None:
        subset.indices = subset.indices[::-1]

    def swap(subset: Any) -> None:
        subset.indices[0], subset.indices[1] = subset.indices[1], subset.indices[0]

    for change in (reverse, swap):
        for nested in (False, True):
            inner = Subset(Source(), list(range(5, 15)))
            with CachedDataset(Subset(inner, range(10)) if nested else inner, "memory") as cached:
                cached[0], cached[1]
                change(inner)
                refuses(cached, "indices of its Subset changed")


class Formatted(Source):
    """Its fingerprint changes with its format, as that of Hugging Face does."""

    _fingerprint = "a"

    def __init__(self) -> None:
        super().__init__()
        self._fingerprint = "plain"

    def set_format(self) -> None:
        self._fingerprint = "numpy"


class Holder(Dataset[Any]):
    def __init__(self, inner: Any) -> None:
        self.inner = [inner]

    def __len__(self) -> int:
        return len(self.inner[0])

    def __getitem__(self, idx: int) -> Any:
        return self.inner[0][idx]


AROUND = {
    "concat": lambda ds: ConcatDataset([ds, Source()]),
    "stack": lambda ds: StackDataset(ds, ds),
    "held": Holder,
    "items": lambda ds: ModeWrapper(as_kd(ds, ["x"]), "x"),
    "concat of items": lambda ds: ModeWrapper(
        KDConcatDataset([as_kd(ds, ["x"]), as_kd(Source(), ["x"])]), "x"
    ),
    "subset of a concat": lambda ds: Subset(ConcatDataset([ds, ds]), range(5)),
}


@pytest.mark.filterwarnings("ignore::kappacore.errors.CacheWarning")
@pytest.mark.parametrize("around", AROUND)
def test_what_changes_further_inside_is_an_error(around):
    subset = Subset(Source(), list(range(5, 15)))
    with CachedDataset(AROUND[around](subset), "memory") as cached:
        cached[0], cached[1]
        subset.indices = list(subset.indices)
        assert cached[0] == cached.__getitems__([0])[0]
        pickle.loads(pickle.dumps(cached))[0]
        subset.indices = subset.indices[::-1]
        refuses(cached, "indices of its Subset changed")
    formatted = Formatted()
    with CachedDataset(AROUND[around](formatted), "memory") as cached:
        cached[0]
        formatted.set_format()
        refuses(cached, "format of its Formatted changed")


def test_prefill_and_columns_are_reads_too():
    for filled in (False, True):
        subset = Subset(Source(), list(range(5, 15)))
        with CachedDataset(subset, "memory") as cached:
            if filled:
                cached.prefill(progress=False)
            subset.indices[3] = 0
            with pytest.raises(DatasetChangedError, match="sample 3 was sample 8 inside, and is 0"):
                cached.prefill(progress=False)
    items = Items()
    with CacheWrapper(items, "memory") as wrapped:
        items.values.pop()
        with pytest.raises(DatasetChangedError):
            wrapped.prefill(progress=False)
        with pytest.raises(DatasetChangedError):
            wrapped.getall_x()


def test_equal_indices_are_no_change():
    subset = Subset(Source(), list(range(5, 15)))
    with CachedDataset(subset, "memory") as cached:
        subset.indices = list(subset.indices)
        assert cached[0] == 50
        again = pickle.loads(pickle.dumps(cached))
        assert again.__getitems__([0, 1]) == [50, 60]


def test_indices_of_a_kdsubset_that_are_assigned_anew_are_an_error():
    subset = KDSubset(Items(), range(5, 15))
    with ModeWrapper(CacheWrapper(subset, "memory"), "x") as mode:
        assert mode[0] == 50
        with pytest.raises(InvalidOptionError, match="indices of a KDSubset are fixed"):
            subset.indices = subset.indices[::-1].copy()
        assert mode[0] == 50


# ---- attributes


class Folder(CachedDataset):
    own: int = 5


@pytest.mark.parametrize(
    "wrap",
    [
        lambda ds: CachedDataset(ds, "memory"),
        lambda ds: CachedDataset(CachedDataset(ds, "memory"), "memory"),
    ],
)
def test_setting_an_attribute_of_the_dataset_inside_sets_it_there(wrap):
    source = Source()
    with wrap(source) as cached:
        cached.k = 9
        assert (source.k, cached.k) == (9, 9)
        assert "k" not in vars(cached)
        cached.new = 3
        assert not hasattr(source, "new")
        cached.transform = lambda sample: -sample
        assert cached[1] == -10


def test_setting_an_attribute_through_a_cache_of_items_reaches_where_it_comes_from():
    source = Items()
    subset = KDSubset(source, range(5))
    with CacheWrapper(subset, "memory") as cached:
        cached.k = 9
        assert (source.k, subset.k, cached.k) == (9, 9, 9)
        cached.targets = [1] * 5  # those of the subset
        assert (cached.targets, source.targets) == ([1] * 5, [0] * 20)
        cached.is_random = False


def test_the_attributes_of_a_subclass_are_its_own_and_the_datasets_transform_stays():
    source = Source()
    source.own = 1
    source.transform = abs
    with Folder(source, "memory") as cached:
        cached.own = 7
        assert (cached.own, source.own) == (7, 1)
        cached.transform = None
        assert source.transform is abs


def _set(_: int) -> None:
    torch.utils.data.get_worker_info().dataset.k = 9


class Reported(Source):
    def __getitem__(self, idx: int) -> int:
        return self.k


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_worker_sets_attributes_of_the_dataset_inside(method):
    with CachedDataset(Reported(), "shared", check=False) as cached:
        loader = DataLoader(cached, 5, worker_init_fn=_set, **workers(method))
        assert {int(value) for batch in loader for value in batch} == {9}
