"""What is cached is what a single read gives, whatever batch it was read with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from kappacore import (
    CachedDataset,
    CacheWrapper,
    KDConcatDataset,
    KDDataset,
    KDSubset,
    ModeWrapper,
    as_kd,
)
from kappacore.errors import InvalidItemError
from kappacore.wrappers import RepeatWrapper, TransformWrapper
from support.workers import workers

LENGTH = 40
OPTIONS = {"check": False}


class Padded(Dataset[Any]):
    """Its batches are padded to their longest."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, idx: int) -> Any:
        return torch.full((1 + idx % 7,), float(idx))

    def __getitems__(self, indices: list[int]) -> list[Any]:
        longest = max(1 + idx % 7 for idx in indices)
        return [torch.full((longest,), float(idx)) for idx in indices]


class Reused(Dataset[Any]):
    """Reads every sample into one buffer, or into parts of one."""

    def __init__(self, nested: bool = False) -> None:
        self.buffer = np.zeros(3)
        self.nested = nested

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, idx: int) -> Any:
        self.buffer[:] = idx
        if self.nested:
            return {"x": [self.buffer[:2], torch.from_numpy(self.buffer)], "y": (idx, self.buffer)}
        return self.buffer


class ReusedItems(KDDataset):
    def __init__(self) -> None:
        self.buffer = bytearray(4)

    def __len__(self) -> int:
        return LENGTH

    def getitem_x(self, idx: int) -> Any:
        self.buffer[:] = bytes([idx] * 4)
        return self.buffer

    def getraw_y(self, idx: int) -> Any:
        return self.getitem_x(idx)

    def decode_y(self, raw: Any) -> Any:
        return bytes(raw)

    def getitem_class(self, idx: int) -> int:
        return idx % 3


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and torch.equal(a, b)


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_a_foreign_getitems_does_not_say_what_a_sample_is(backend):
    plain = Padded()
    with CachedDataset(plain, backend, **OPTIONS) as cached:
        for _ in range(2):
            samples = cached.__getitems__(list(range(9)))
            assert all(same(sample, plain[idx]) for idx, sample in enumerate(samples))
        assert cached.prefill(progress=False) == LENGTH - 9
        assert all(same(cached[idx], plain[idx]) for idx in range(LENGTH))
    items = CacheWrapper(as_kd(Padded(), ["x"]), backend, **OPTIONS)
    with ModeWrapper(items, "x") as mode:
        for _ in range(2):
            samples = mode.__getitems__(list(range(LENGTH)))
            assert all(same(sample, plain[idx]) for idx, sample in enumerate(samples))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("backend", ["memory", "shared", ["memory", "shared"]])
@pytest.mark.parametrize("filled_by", ["prefill", "batch"])
def test_a_reader_that_reuses_its_buffer_is_cached_as_it_reads(backend, nested, filled_by):
    with CachedDataset(Reused(nested), backend, **OPTIONS) as cached:
        if filled_by == "prefill":
            cached.prefill(progress=False)
        else:
            first = cached.__getitems__(list(range(LENGTH)))
            assert repr(first) == repr([Reused(nested)[idx] for idx in range(LENGTH)])
        assert all(repr(cached[idx]) == repr(Reused(nested)[idx]) for idx in range(LENGTH))


def test_what_a_miss_returns_does_not_change_with_the_next_read():
    with CachedDataset(Reused(), "memory", **OPTIONS) as cached:
        one = cached[1]
        cached[2]
        assert one.tolist() == [1, 1, 1]
        one[:] = 9
        assert cached[1].tolist() == [1, 1, 1]


def kind_of(value: Any) -> Any:
    """Return the types in a value, and what can be written there."""
    if isinstance(value, tuple | list | dict):
        parts = value.values() if isinstance(value, dict) else value
        return type(value), *map(kind_of, parts)
    if isinstance(value, np.ndarray):
        return type(value), value.dtype, value.flags.writeable, value.flags.aligned
    return type(value), getattr(value, "dtype", None), getattr(value, "readonly", None)


VALUES = [
    b"abc",
    bytearray(b"abc"),
    np.arange(4.0),
    np.zeros(0),
    np.array([(1, 2.5)], "u1,f8"),
    np.arange(6.0).reshape(2, 3).T,
    torch.arange(3),
    torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last),
    (b"abc", 7),
    (7, "seven", None),
    {"x": torch.arange(300), "y": [np.arange(300), b"abc" * 99, {"z": bytearray(3)}]},
]


@pytest.mark.parametrize("backend", ["memory", "shared", ["memory", "shared"]])
@pytest.mark.parametrize("copy", [True, False, "unsafe"])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_a_miss_returns_is_what_a_hit_returns(value, copy, backend):
    with CachedDataset([value] * 6, backend, copy=copy, **OPTIONS) as cached:
        hit = [cached[0], cached[0]][1]
        found = [cached[1], *cached.__getitems__([2, 3, 3, 0, 0])]
        assert [kind_of(each) for each in found] == [kind_of(hit)] * len(found)
        assert {repr(each) for each in found if copy is True} <= {repr(value)}


def writable_parts(value: Any) -> list[Any]:
    if isinstance(value, tuple | list | dict):
        parts = value.values() if isinstance(value, dict) else value
        return [each for part in parts for each in writable_parts(part)]
    return [value] if isinstance(value, np.ndarray | torch.Tensor | bytearray) else []


@pytest.mark.parametrize("backend", ["memory", "shared", ["memory", "shared"]])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_is_written_to_a_miss_reaches_nobody_else(value, backend):
    with CachedDataset([value] * 6, backend, **OPTIONS) as cached:
        wanted = repr(value)
        found = [cached[1], *cached.__getitems__([2, 3, 3, 2])]
        for number, each in enumerate(found):
            for part in writable_parts(each):
                part[:] = bytes(len(part)) if isinstance(part, bytearray) else 0
            rest = found[number + 1 :]
            assert [repr(other) for other in rest] == [wanted] * len(rest)
        assert [repr(cached[idx]) for idx in range(6)] == [wanted] * 6
        assert repr(value) == wanted


@pytest.mark.parametrize(
    "around",
    [
        lambda ds: ds,
        lambda ds: KDSubset(ds, range(LENGTH)),
        lambda ds: KDConcatDataset([KDSubset(ds, range(20)), KDSubset(ds, range(20, 40))]),
        lambda ds: TransformWrapper(ds, lambda value: value, "x"),
    ],
)
@pytest.mark.parametrize("mode", ["x", "x class", "class x", "index x", "y x"])
def test_items_in_a_reused_buffer_are_cached_as_they_are_read(around, mode):
    def plain() -> Any:
        return ModeWrapper(around(ReusedItems()), mode)

    def wanted(idx: int) -> str:
        return repr(plain()[idx])

    everything = list(range(LENGTH))
    with ModeWrapper(
        CacheWrapper(around(ReusedItems()), "memory", items="x y", **OPTIONS), mode
    ) as ds:
        ds.dataset.prefill(progress=False)
        assert [repr(ds[idx]) for idx in everything] == list(map(wanted, everything))
    with CachedDataset(plain(), "memory", **OPTIONS) as cached:
        for _ in range(2):
            assert list(map(repr, cached.__getitems__(everything))) == list(map(wanted, everything))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_cache_what_single_reads_give(method):
    for source in (Reused(), Padded()):
        with CachedDataset(source, "shared", **OPTIONS) as cached:
            loader = DataLoader(cached, 8, collate_fn=list, **workers(method))
            for _ in range(2):
                found = [sample for batch in loader for sample in batch]
                assert [sample.tolist() for sample in found] == [
                    source[idx].tolist() for idx in range(LENGTH)
                ]


# ---- forms that are declared


class Declared(KDDataset):
    calls: list[list[int]]

    def __init__(self, pad: bool = False) -> None:
        self.calls = []
        self.pad = pad

    def __len__(self) -> int:
        return LENGTH

    def getitems_x(self, indices: Any) -> list[Any]:
        self.calls.append(list(indices))
        size = max(1 + idx % 7 for idx in indices)
        return [np.full(size if self.pad else 1 + idx % 7, idx) for idx in indices]

    def getitem_class(self, idx: int) -> int:
        return idx % 3


def test_a_declared_batch_form_is_used_in_one_call():
    source = Declared()
    with ModeWrapper(CacheWrapper(source, "memory", **OPTIONS), "x class") as mode:
        mode.__getitems__([3, 5, 6])
    assert source.calls == [[3, 5, 6]]
    source = Declared()
    with CachedDataset(ModeWrapper(RepeatWrapper(source, 1), "x class"), "memory", **OPTIONS) as ds:
        assert [label for _, label in ds.__getitems__([3, 5, 6])] == [0, 2, 0]
    assert source.calls == [[3, 5, 6]]


@pytest.mark.parametrize(
    "cache",
    [
        lambda ds: ModeWrapper(CacheWrapper(ds, "memory"), "x"),
        lambda ds: CachedDataset(ModeWrapper(ds, "x"), "memory"),
        lambda ds: CachedDataset(ModeWrapper(ds, "x class"), "memory"),
    ],
)
def test_a_declared_batch_form_that_gives_other_samples_is_refused(cache):
    with cache(Declared()) as good:
        good.__getitems__([3, 5, 6])
    with pytest.raises(InvalidItemError, match=r"read in a batch .* read alone") as caught:
        cache(Declared(pad=True)).__getitems__([3, 5, 6])
    assert "collate_fn" in str(caught.value)


def test_a_declared_batch_form_that_differs_from_the_single_form_is_refused():
    class Two(Declared):
        getitems_x = Declared.getitems_x

        def getitem_x(self, idx: int) -> Any:
            return np.full(1, -idx)

    with pytest.raises(InvalidItemError):
        ModeWrapper(CacheWrapper(Two(), "memory"), "x").__getitems__([3, 5, 6])
    with pytest.raises(InvalidItemError):
        CachedDataset(ModeWrapper(Two(), "x"), "memory").__getitems__([3, 5, 6])


def test_a_declared_batch_form_is_looked_at_with_samples_of_different_sizes():
    class Mostly(Declared):
        def getitems_x(self, indices: Any) -> list[Any]:
            sizes = [2 if idx in (5, 11) else 1 for idx in indices]
            return [np.full(max(sizes), idx) for idx in indices]

    with pytest.raises(InvalidItemError):
        ModeWrapper(CacheWrapper(Mostly(), "memory"), "x").__getitems__([3, 5, 6])
