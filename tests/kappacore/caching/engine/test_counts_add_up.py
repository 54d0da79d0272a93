"""Every sample that is asked for is counted once: as a hit, a miss or a wait."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import kappacore
from kappacore import CachedDataset, CacheWrapper, KDDataset, ModeWrapper
from support.cache_sources import Samples

LENGTH = 12
SIZE = 1000
ROOMY, TIGHT = {"max_bytes": "1MiB"}, {"max_bytes": "10KiB"}


def pair(first, second):
    return [kappacore.backend("memory", **first), kappacore.backend("shared", **second)]


BACKENDS = {
    "memory": kappacore.backend("memory", **ROOMY),
    "full": kappacore.backend("memory", **TIGHT),
    "shared": kappacore.backend("shared", **ROOMY),
    "pair": pair(ROOMY, ROOMY),
    "full in front": pair(TIGHT, ROOMY),
    "full behind": pair(ROOMY, TIGHT),
}

indices = st.integers(0, LENGTH - 1)
steps = st.one_of(
    indices,
    st.lists(indices, min_size=1, max_size=8),
    st.sampled_from(["prefill", "clear", "clear first", "clear second"]),
)


def do(cached, step):
    """Do a step; return the number of samples that it asks for, None if it decides itself."""
    if isinstance(step, int):
        cached[step]
        return 1
    if isinstance(step, list):
        cached.__getitems__(step)
        return len(step)
    tiers = {"clear": cached, "clear first": cached._cache.tiers[0]}
    if step != "prefill":
        tiers.get(step, cached._cache.tiers[-1]).clear()
        return 0
    before, known = cached.stats(), [each.stats() for each in cached._cache.tiers]
    loaded = cached.prefill(progress=False)
    done = cached.stats() - before
    moved = sum(
        (each.stats() - was).hits for each, was in zip(cached._cache.tiers, known, strict=True)
    )
    assert (done.misses, done.source_reads, done.hits) == (loaded, loaded, moved)
    assert done.samples <= LENGTH
    return None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::kappacore.errors.CacheWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, max_size=8), st.booleans())
@example([3, "prefill", "clear first", "prefill", [1, 1, 2]], False)
@example([3, "prefill", "clear second", "prefill", [1, 1, 2]], False)
@example(["prefill", "clear second", [1, 1, 2], "prefill"], True)
def test_counts_are_what_was_asked_for(backend, todo, check):
    with tempfile.TemporaryDirectory() as folder:
        source = Samples(Path(folder, "log"), LENGTH, size=SIZE)
        with CachedDataset(source, BACKENDS[backend], check=check) as cached:
            looked_at = 0
            for step in todo:
                before, reads = cached.stats(), source.log.count().total()
                asked = do(cached, step)
                done = cached.stats() - before
                if asked is not None:
                    assert done.samples == asked, (step, done)
                assert done.misses == done.source_reads
                looked_at = source.log.count().total() - reads - done.source_reads
                assert check or not looked_at, (step, done)  # what a check reads is not counted


def read_at_random(cached, seed, asked):
    draw = random.Random(seed)
    count = 0
    for _ in range(20):
        batch = draw.choices(range(LENGTH), k=draw.randint(1, 6))
        cached.__getitems__(batch)
        cached[batch[0]]
        count += len(batch) + 1
    asked.put(count)


@pytest.mark.filterwarnings("ignore::kappacore.errors.CacheWarning")
@pytest.mark.parametrize("backend", ["shared", "pair", "full in front", "full behind"])
def test_counts_of_several_processes_are_what_was_asked_for(backend, tmp_path):
    context = multiprocessing.get_context("fork")
    source = Samples(tmp_path / "log", LENGTH, size=SIZE, delay=0.001)
    with CachedDataset(source, BACKENDS[backend]) as cached:
        asked = context.SimpleQueue()
        processes = [
            context.Process(target=read_at_random, args=(cached, seed, asked), daemon=True)
            for seed in range(3)
        ]
        for process in processes:
            process.start()
        total = sum(asked.get() for _ in processes)
        for process in processes:
            process.join()
        stats = cached.stats()
        assert stats.samples == total
        assert stats.misses == stats.source_reads


class Labels(KDDataset):
    def __len__(self):
        return 300

    def getitem_class(self, idx, ctx=None):
        return idx % 7


@pytest.mark.parametrize("backend", ["memory", "pair"])
def test_a_column_counts_what_is_read_for_it(backend):
    with CacheWrapper(Labels(), BACKENDS[backend], items="class", check=False) as cached:
        for _ in range(2):
            assert list(cached.getall_class()) == [idx % 7 for idx in range(300)]
            assert cached.stats().samples == 300
        assert ModeWrapper(cached, "class")[[1, 1, 2]] == [1, 1, 2]
        assert cached.stats().samples == 303


@pytest.mark.parametrize("check", [True, False])
def test_what_is_looked_at_after_a_clear_by_another_is_not_counted(tmp_path, check):
    source = Samples(tmp_path / "log", LENGTH, size=SIZE)
    options = {"namespace": "n", "check": check}
    with (
        CachedDataset(source, BACKENDS["pair"], **options) as cached,
        CachedDataset(source, BACKENDS["pair"], **options) as other,
    ):
        assert cached[3] == other[3]
        for read, asked in ((lambda: cached[3], 1), (lambda: cached.__getitems__([1, 2, 2]), 3)):
            other.clear()
            before, reads = cached.stats(), source.log.count()
            read()
            done = cached.stats() - before
            assert (done.samples, done.misses, done.source_reads) == (asked, *[min(asked, 2)] * 2)
            looked_at = source.log.count() - reads
            assert looked_at[0] == (4 if check else 0)  # twice for each tier
        other.clear()
        assert cached.prefill(progress=False) == LENGTH
