"""Sources that read through their own cache: frame i is made from frame i - 1, or from others."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from kappacore import CachedDataset, backend
from kappacore.errors import CircularReadError
from support.caching import load_bytes, open_cache

pytest.importorskip("kappa_shared")
fork = multiprocessing.get_context("fork")
CHOICES = {
    "shared": "shared",
    "memory": "memory",
    "tiers": ["memory", backend("shared", max_bytes="4MiB")],
}


class Frames:
    """Frame i is made from frame i - 1, read through the cache where there is one."""

    def __init__(self, length=40):
        self.length = length
        self.cached = None
        self.reads = 0

    def __len__(self):
        return self.length

    def __getitem__(self, idx):
        if not 0 <= idx < self.length:
            raise IndexError(idx)
        self.reads += 1
        return ([0] if idx == 0 else (self.cached or self)[idx - 1]) + [idx]


def cached_frames(choice, **options):
    source = Frames()
    if choice == "shared":
        options["max_bytes"] = "4MiB"
    cached = CachedDataset(source, CHOICES[choice], **options)
    source.cached = cached
    return source, cached


EXPECTED = [[0, *range(idx + 1)] for idx in range(40)]


@pytest.mark.parametrize("choice", list(CHOICES))
@pytest.mark.parametrize("order", ["up", "down", "batch", "batches"])
def test_they_are_read(choice, order):
    source, cached = cached_frames(choice)
    with cached:
        if order == "up":
            assert [cached[idx] for idx in range(40)] == EXPECTED
        elif order == "down":
            assert [cached[39 - idx] for idx in range(40)] == EXPECTED[::-1]
        elif order == "batch":
            assert cached[:] == EXPECTED
        else:
            assert cached[7:25] + cached[25:40] == EXPECTED[7:]
        looks = 5 * 2 * 40  # at most; each goes through the source alone
        assert source.reads < looks + 2 * 40


@pytest.mark.parametrize("threads", [0, 4])
def test_prefill_reads_them(threads):
    _, cached = cached_frames("shared", check=False)
    with cached:
        assert cached.prefill(progress=False, threads=threads) > 0
        before = cached.stats().source_reads
        assert cached[:] == EXPECTED
        assert cached.stats().source_reads == before


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("indices", [[5], [4, 5, 6]])
def test_a_sample_that_needs_itself_is_an_error(check, indices):
    class Circle(Frames):
        def __getitem__(self, idx):
            return self.cached[idx + 1 if idx < 5 else 3] if idx > 2 else idx

    source = Circle(9)
    with CachedDataset(source, "shared", max_bytes="4MiB", check=check) as cached:
        source.cached = cached
        with pytest.raises(CircularReadError, match="reads sample"):
            [cached[idx] for idx in indices] if len(indices) == 1 else cached[4:7]
        assert cached[1] == 1 if not check else True
        with pytest.raises(CircularReadError):
            cached[5]


def test_two_processes_that_need_each_others_samples_do_not_wait_for_each_other():
    keeper = open_cache(length=20, options={"max_bytes": "4MiB"})
    barrier, answers = fork.Barrier(2), fork.SimpleQueue()

    def read(first, needed):
        cache = open_cache(length=20, options={"max_bytes": "4MiB"})
        plain = load_bytes()

        def load(indices):
            if first in indices and len(indices) > 1:
                barrier.wait(100)  # both have claimed their batch
                assert cache.fetch([needed], load) == plain([needed])
            return plain(indices)

        batch = list(range(first, first + 8))
        answers.put(cache.fetch(batch, load) == plain(batch))

    processes = [fork.Process(target=read, args=pair, daemon=True) for pair in [(0, 11), (8, 3)]]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        assert process.exitcode == 0
    assert [answers.get(), answers.get()] == [True, True]
    keeper.close()


def test_threads_that_need_each_others_samples_do_not_wait_for_each_other():
    cache = open_cache(length=20, options={"max_bytes": "4MiB"})
    plain = load_bytes()
    barrier = threading.Barrier(2)
    results = []

    def read(first, needed):
        def load(indices):
            if first in indices and len(indices) > 1:
                barrier.wait(100)
                cache.fetch([needed], load)
            return plain(indices)

        batch = list(range(first, first + 8))
        results.append(cache.fetch(batch, load) == plain(batch))

    threads = [threading.Thread(target=read, args=pair, daemon=True) for pair in [(0, 11), (8, 3)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert results == [True, True]
    cache.close()
