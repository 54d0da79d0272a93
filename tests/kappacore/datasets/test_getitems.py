"""An inherited batch form does not skip an override of the single one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from kappacore import CachedDataset, CacheWrapper, KDDataset, ModeWrapper, as_kd
from support.pairs import BatchPairs


class Numbers(KDDataset):
    def __len__(self) -> int:
        return 8

    def getitem_x(self, idx: int) -> float:
        return float(idx)


class Source(Dataset[Any]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, idx: int) -> float:
        return float(idx)


def cached(cls: type) -> Any:
    return cls(Source(), "memory")


def moded(cls: type) -> Any:
    return cls(Numbers(), "x")


KINDS = [(CachedDataset, cached), (ModeWrapper, moded)]


def batches(dataset: Any) -> list[Any]:
    return [float(x) for batch in DataLoader(dataset, batch_size=4) for x in batch]


@pytest.mark.parametrize(("kind", "make"), KINDS)
def test_an_override_of_getitem_alone_is_read_by_a_dataloader(kind, make):
    class Higher(kind):
        def __getitem__(self, idx: Any) -> Any:
            return super().__getitem__(idx) + 1000

    dataset = make(Higher)
    wanted = [1000.0 + idx for idx in range(8)]
    assert [dataset[idx] for idx in range(8)] == wanted
    assert batches(dataset) == wanted
    assert list(dataset) == wanted

    class Highest(Higher):
        def __getitem__(self, idx: Any) -> Any:
            return super().__getitem__(idx) + 1_000_000

    assert batches(make(Highest)) == [1_001_000.0 + idx for idx in range(8)]


@pytest.mark.parametrize(("kind", "make"), KINDS)
def test_a_mixin_counts_as_an_override(kind, make):
    class Doubling:
        def __getitem__(self, idx: Any) -> Any:
            return 2 * super().__getitem__(idx)

    assert batches(make(type("Mixed", (Doubling, kind), {}))) == [2.0 * idx for idx in range(8)]


@pytest.mark.parametrize(("kind", "make"), KINDS)
def test_what_a_subclass_with_both_forms_calls_by_super_is_the_form_above_it(kind, make):
    class Higher(kind):
        def __getitem__(self, idx: Any) -> Any:
            return super().__getitem__(idx) + 1000

    class Both(Higher):
        def __getitem__(self, idx: Any) -> Any:
            return -super().__getitem__(idx)

        def __getitems__(self, indices: Any) -> list[Any]:
            return [-sample for sample in super().__getitems__(indices)]

    dataset = make(Both)
    assert batches(dataset) == [dataset[idx] for idx in range(8)] == [-1000.0 - i for i in range(8)]

    class OnlyBoth(kind):
        def __getitem__(self, idx: Any) -> Any:
            return -super().__getitem__(idx)

        def __getitems__(self, indices: Any) -> list[Any]:
            return [-sample for sample in super().__getitems__(indices)]

    assert batches(make(OnlyBoth)) == [-float(idx) for idx in range(8)]


@pytest.mark.parametrize(("kind", "make"), KINDS)
def test_an_override_that_handles_lists_is_applied_once(kind, make):
    class Higher(kind):
        def __getitem__(self, idx: Any) -> Any:
            found = super().__getitem__(idx)
            return [x + 1000 for x in found] if isinstance(found, list) else found + 1000

    dataset = make(Higher)
    assert dataset[[1, 2]] == dataset[1:3] == [1001.0, 1002.0]


def test_a_cache_keeps_what_an_override_gives():
    class Higher(ModeWrapper):
        def __getitem__(self, idx: Any) -> Any:
            return super().__getitem__(idx) + 1000

    with CachedDataset(Higher(Numbers(), "x"), "memory", namespace="higher") as dataset:
        assert batches(dataset) == batches(dataset) == [1000.0 + idx for idx in range(8)]

    class Kept(CachedDataset):
        def __getitem__(self, idx: Any) -> Any:
            return super().__getitem__(idx) + 1

    with CachedDataset(cached(Kept), "memory") as dataset:
        assert batches(dataset) == batches(dataset) == [1.0 + idx for idx in range(8)]


def test_as_kd_reads_a_subclass_that_overrides_getitem_alone():
    class Other(BatchPairs):
        def __getitem__(self, idx: int) -> Any:
            return "other", idx

    mode = ModeWrapper(as_kd(Other()), "x class")
    assert mode.__getitems__([1, 2]) == [("other", 1), ("other", 2)]
    with ModeWrapper(CacheWrapper(as_kd(Other()), "memory"), "x class") as mode:
        assert mode.__getitems__([1, 2]) == [("other", 1), ("other", 2)]


def test_a_tensor_of_an_override_is_its_own():
    class Shifted(CachedDataset):
        def __getitem__(self, idx: Any) -> Any:
            return super().__getitem__(idx).add_(1)

    source = [torch.full((4,), float(idx)) for idx in range(8)]
    with Shifted(source, "memory") as dataset:
        for _ in range(2):
            found = next(iter(DataLoader(dataset, batch_size=8)))
            assert found[:, 0].tolist() == [1.0 + idx for idx in range(8)]
    assert source[0].tolist() == [0.0] * 4
