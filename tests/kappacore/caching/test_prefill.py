"""Filling a cache before it is needed: what is loaded, by how many threads, up to which size."""

from __future__ import annotations

import threading
import warnings

import pytest

from kappacore import CachedDataset, CacheWrapper, as_kd
from kappacore.errors import CacheWarning, InvalidOptionError, UnknownOptionError
from support.cache_sources import SMALL, BatchItems, Images, Samples


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_every_sample_is_loaded_once_and_a_second_time_none(log, backend, threads):
    with CachedDataset(Samples(log, 100), backend, **SMALL) as cached:
        assert cached.prefill(threads=threads) == 100
        assert cached.dataset.log.count() == dict.fromkeys(range(100), 1)
        assert cached.prefill(threads=threads) == 0
        assert list(cached) == [cached.dataset.sample(idx) for idx in range(100)]
        assert cached.dataset.log.count() == dict.fromkeys(range(100), 1)
        stats = cached.stats()
        assert (stats.source_reads, stats.stores, stats.hits) == (100, 100, 100)


def test_what_was_read_before_is_not_read_again(log, backend):
    with CachedDataset(Samples(log, 50), backend, **SMALL) as cached:
        cached.__getitems__([0, 7, 49])
        assert cached.prefill() == 47
        assert cached.dataset.log.count() == dict.fromkeys(range(50), 1)


def test_the_source_is_read_in_batches(log, backend):
    source = BatchItems(log, 80)
    with CacheWrapper(source, backend, **SMALL) as cached:
        cached.prefill()
        assert source.log.count() == {-32: 2, -16: 1}


def test_an_empty_dataset_is_filled_at_once(log, backend):
    with CachedDataset(Samples(log, 0), backend, **SMALL) as cached:
        assert cached.prefill() == 0


def test_all_cached_items_are_filled_as_they_are_kept(log, backend):
    images = Images(log, 20)
    with CacheWrapper(images, backend, items="x class", **SMALL) as cached:
        assert cached.prefill() == 40
        assert images.reads() == dict.fromkeys(range(20), 1)
        assert images.decodings() == 0  # the raw form is what is kept
        assert cached.prefill() == 0


# ---- several threads


class MeetingSamples(Samples):
    """Batches wait for each other: they pass only if that many are read at the same time."""

    def __init__(self, log, length, together):
        super().__init__(log, length)
        self.barrier = threading.Barrier(together, timeout=200)

    def __getitems__(self, indices):
        self.barrier.wait()
        return [self[idx] for idx in indices]


def test_threads_read_that_many_batches_at_the_same_time(log, backend):
    with CachedDataset(MeetingSamples(log, 8 * 32, 4), backend, **SMALL) as cached:
        assert cached.prefill(threads=4) == 256
        assert cached.dataset.log.count() == dict.fromkeys(range(256), 1)


def test_without_threads_the_source_is_read_in_this_thread(log):
    class Threads(Samples):
        def sample(self, idx):
            return threading.current_thread().name

    with CachedDataset(Threads(log, 64), "memory", **SMALL) as cached:
        cached.prefill()
        assert set(cached) == {threading.main_thread().name}


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_of_the_source_ends_it_and_what_was_read_stays(log, backend, threads):
    class Flaky(Samples):
        def sample(self, idx):
            if idx == 70 and broken:
                raise OSError("flaky storage")
            return super().sample(idx)

    broken = True
    with CachedDataset(Flaky(log, 96), backend, **SMALL) as cached:
        with pytest.raises(OSError, match="flaky storage"):
            cached.prefill(threads=threads)
        broken = False
        stored = cached.stats().stores
        if threads:  # the batches that threads were given by then, without the one that failed
            assert 64 <= stored <= 64 + 8 * (2 * threads - 1)
        else:
            assert stored == 64
        assert cached.prefill(threads=threads) == 96 - stored  # so no claim was left either


@pytest.mark.parametrize("threads", [-1, "4", 1.5, None])
def test_a_bad_number_of_threads_is_refused(log, threads):
    expected = rf"^threads={threads!r} is not a number of threads. Give 0 or a positive integer\.$"
    with (
        CachedDataset(Samples(log), "memory", **SMALL) as cached,
        pytest.raises(InvalidOptionError, match=expected),
    ):
        cached.prefill(threads=threads)


@pytest.mark.parametrize("make", [CachedDataset, lambda *of: CacheWrapper(as_kd(of[0]), of[1])])
def test_the_old_name_of_threads_is_refused_with_the_new_one(log, make):
    expected = (
        r"^prefill\(\) has no option 'workers'. It is called threads= now. "
        r"Its options: progress, shard, threads\.$"
    )
    cached = make(Samples(log), "memory")
    with cached, pytest.raises(UnknownOptionError, match=expected):
        cached.prefill(workers=4)
    with pytest.raises(UnknownOptionError, match=r"no option 'thread'\. Its options: progress"):
        cached.prefill(thread=4)


# ---- a full cache


def test_it_ends_when_the_cache_is_full(log, backend):
    samples = Samples(log, 1000, size=1000)
    with CachedDataset(samples, backend, check=False, max_bytes="100KiB") as cached:
        with pytest.warns(CacheWarning, match="is full"):
            loaded = cached.prefill()
        stats = cached.stats()
        assert 50 < stats.stores < 110
        assert loaded == stats.stores + stats.refused < 200  # and not the whole source
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert [cached[idx] for idx in (0, 999)] == [samples.sample(0), samples.sample(999)]
