"""Samples that repeat: below a cache, and within a batch."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from kappacore import CachedDataset, CacheWrapper, KDConcatDataset, KDDataset, ModeWrapper
from kappacore.errors import CacheWarning
from kappacore.wrappers import OversamplingWrapper, RepeatWrapper, ShuffleWrapper, SubsetWrapper


class Uneven(KDDataset):
    def __len__(self) -> int:
        return 220

    def getitem_x(self, idx: int) -> float:
        return float(idx)

    def getall_class(self) -> list[int]:
        return [0] * 150 + [1] * 50 + [2] * 20


class Floats(Dataset[Any]):
    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, idx: int) -> float:
        return float(idx)


ABOVE = [
    (OversamplingWrapper, "440 samples are stored of 220 different ones, as OversamplingWrapper"),
    (lambda ds: RepeatWrapper(ds, 3), "660 samples are stored of 220 .* as RepeatWrapper"),
    (lambda ds: SubsetWrapper(ds, [1, 2, 1]), "3 samples are stored of 2 .* as SubsetWrapper"),
    (lambda ds: ShuffleWrapper(RepeatWrapper(ds, 2)), "440 samples are stored of 220"),
    (lambda ds: ds + ds, "440 samples are stored of 220 different ones, as KDConcatDataset"),
    (
        lambda ds: KDConcatDataset([ds, Uneven(), ds]),
        "660 samples are stored of 440 different ones, as KDConcatDataset",
    ),
]


@pytest.mark.parametrize(("repeat", "message"), ABOVE)
@pytest.mark.parametrize(
    "cache",
    [
        lambda ds: CacheWrapper(ds, "memory"),
        lambda ds: CachedDataset(ModeWrapper(ds, "x"), "memory"),
    ],
)
def test_a_cache_above_repeats_says_once_which_order_is_right(repeat, message, cache):
    with pytest.warns(CacheWarning, match=message) as caught:
        cached = cache(repeat(Uneven()))
    assert len(caught) == 1
    with cached, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "below" in str(caught[0].message)
        line = next(line for line in cached.explain().splitlines() if "repeats:" in line)
        assert line.split("repeats: ")[1] in str(caught[0].message)
        _ = cached.stats()


def test_torchs_subset_may_repeat_too():
    source = [float(idx) for idx in range(10)]
    with pytest.warns(CacheWarning, match="4 samples are stored of 3 different ones, as Subset"):
        CachedDataset(Subset(source, [1, 2, 2, 3]), "memory").close()
    with pytest.warns(CacheWarning, match="4 samples are stored of 3 different ones, as Subset"):
        CachedDataset(Subset(source, [-1, 9, -2, 5]), "memory").close()


def test_torchs_concatenation_may_repeat_too():
    source, other = Floats(10), Floats(10)
    for several, distinct in (([source] * 3, 10), ([source, other, source], 20)):
        message = f"30 samples are stored of {distinct} different ones, as ConcatDataset"
        with pytest.warns(CacheWarning, match=message):
            CachedDataset(ConcatDataset(several), "memory").close()
    with pytest.warns(CacheWarning, match="3 samples are stored of 2 different ones, as Concat"):
        CachedDataset(Subset(ConcatDataset([source, source]), [0, 10, 1]), "memory").close()


@pytest.mark.parametrize(
    "right",
    [
        lambda ds: OversamplingWrapper(CacheWrapper(ds, "memory")),
        lambda ds: CacheWrapper(ShuffleWrapper(ds), "memory"),
        lambda ds: CacheWrapper(SubsetWrapper(ds, end=20), "memory"),
        lambda ds: CachedDataset(ModeWrapper(RepeatWrapper(ds, 2), "index x"), "memory"),
        lambda ds: CacheWrapper(ds + Uneven(), "memory"),
        lambda ds: CachedDataset(Subset(ConcatDataset([Floats(5), Floats(5)]), [0, -5]), "memory"),
        lambda ds: CachedDataset(Subset(Floats(10), [-1, 5]), "memory"),
    ],
)
def test_nothing_is_said_where_samples_differ(right):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached = right(Uneven())
        ModeWrapper(cached, "x")[0] if isinstance(cached, KDDataset) else cached[0]
        assert not isinstance(cached, CacheWrapper) or "repeats:" not in cached.explain()
        cached.close()


# ---- counting


@pytest.mark.parametrize("backend", ["memory", "shared", ["memory", "shared"]])
@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("kind", [float, bytes, lambda idx: [idx]])
def test_every_sample_asked_for_is_counted_once(backend, copy, kind):
    source = [kind(idx) for idx in range(6)]
    with CachedDataset(source, backend, copy=copy, check=False) as cached:
        asked = 0
        for batch in ([0, 0, 1, 1], [0, 0, 1, 1], [2, 1, 2, 2], [3], [3, 3, 3]):
            assert [
                bytes(value) if kind is bytes else value for value in cached.__getitems__(batch)
            ] == [source[idx] for idx in batch]
            asked += len(batch)
            stats = cached.stats()
            assert stats.hits + stats.misses + stats.waits == stats.samples == asked
        cached[3], cached[4]
        stats = cached.stats()
        assert (stats.samples, stats.misses, stats.source_reads) == (asked + 2, 5, 5)
        assert stats.hit_rate == pytest.approx((asked + 2 - 5) / (asked + 2))


class Slow(list):  # type: ignore[type-arg]
    def __getitem__(self, idx: Any) -> Any:
        import time

        time.sleep(0.002)
        return super().__getitem__(idx)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_every_sample_is_counted_once_over_processes(method):
    sampler = [idx for start in range(0, 40, 4) for idx in (start, start, start + 1, 0)] * 2
    with CachedDataset(Slow(map(float, range(40))), "shared", check=False) as cached:
        loader = DataLoader(
            cached,
            4,
            sampler=sampler,
            num_workers=2,
            multiprocessing_context=method,
        )
        for epoch in (1, 2):
            assert [float(x) for batch in loader for x in batch] == list(map(float, sampler))
            stats = cached.stats()
            assert stats.samples == epoch * len(sampler)
            assert stats.source_reads == stats.misses == len(set(sampler))
