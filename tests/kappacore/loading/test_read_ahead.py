"""Reading ahead: one thread, bounded, whose errors come out in the loop and which always ends."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest
import torch

import kappacore
import kappacore.loading.loader as loader_module
import kappacore.loading.plan as plan_module
from kappacore.errors import CorruptValueError, LoaderClosedError, LoadingError
from kappacore.loading.read_ahead import ReadAhead
from support.numbers import Numbers
from support.stalls import repeated_where_stalled


def threads():
    gc.collect()
    return [t.name for t in threading.enumerate() if t.name.startswith("kappacore-loader")]


class Noting(Numbers):
    """Notes which thread read each sample."""

    def __init__(self, length=10, seconds=0.0):
        super().__init__(length)
        self.seconds = seconds
        self.threads = set()

    def getitem_x(self, idx, ctx=None):
        self.threads.add(threading.current_thread().name)
        time.sleep(self.seconds)
        return super().getitem_x(idx)


def test_batches_are_read_in_one_thread():
    dataset = Noting()
    assert len(list(kappacore.Loader(dataset, "x", 2))) == 5
    assert dataset.threads == {"kappacore-loader"}
    assert threads() == []


def test_without_prefetch_they_are_read_in_the_loop():
    dataset = Noting()
    assert len(list(kappacore.Loader(dataset, "x", 2, prefetch=0))) == 5
    assert dataset.threads == {"MainThread"}


def test_random_samples_are_read_in_the_loop():
    dataset = Noting()
    drawn = kappacore.TransformWrapper(dataset, float, seed=0)
    loader = kappacore.Loader(drawn, "x", 2)
    list(loader)
    assert dataset.threads == {"MainThread"}
    assert "read when they are asked for" in loader.explain()


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "small"), [(60, 1 << 20), (0, 1 << 20), (60, 1)])
def test_small_batches_of_a_hot_cache_are_made_in_the_loop(monkeypatch, seconds, small):
    monkeypatch.setattr(loader_module, "_HANDED_OVER_IN", seconds)
    monkeypatch.setattr(plan_module, "_SMALL", small)
    in_the_loop = seconds and small > 1
    with kappacore.CacheWrapper(Numbers(40), "memory", items="x", namespace="n") as ds:
        loader = kappacore.Loader(ds, "x", 4)
        found, made = [], []
        for _ in range(3):
            iterator = iter(loader)
            found.append([*next(iterator).tolist()])
            made.append(threads())
            found[-1] += [value for batch in iterator for value in batch.tolist()]
        assert found[1:] == found[:-1]
        assert len(found[0]) == 40
        # The first epoch fills the cache, and the second one shows what a batch takes.
        assert [*map(len, made)] == [1, 1, 0 if in_the_loop else 1]
        assert ("made in the loop" in loader.explain()) == bool(in_the_loop)
        ds.clear()
        assert [value for batch in loader for value in batch.tolist()] == found[0]
        iterator = iter(loader)
        next(iterator)
        assert len(threads()) == 1
        loader.close()


def test_batches_can_be_written_to_after_those_of_an_inference():
    loader = kappacore.Loader(Numbers(8), "x", 4, buffers="ring", prefetch=0)
    with torch.inference_mode():
        list(loader)
    for batch in loader:
        assert not batch.is_inference()
        batch.add_(1)


@pytest.mark.parametrize("ahead", [1, 3])
def test_at_most_prefetch_batches_are_read_ahead(ahead):
    dataset = Noting(40)
    iterator = iter(kappacore.Loader(dataset, "x", 2, prefetch=ahead))
    for taken in range(1, 4):
        next(iterator)
        deadline = time.monotonic() + 60
        while len(dataset.calls) < 2 * (taken + ahead) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert len(dataset.calls) == 2 * (taken + ahead)
    iterator.close()


def test_leaving_early_leaves_no_thread():
    loader = kappacore.Loader(Numbers(100), "x", 2)
    for _ in loader:
        break
    assert threads() == []


def test_an_iterator_that_is_kept_ends_with_the_loader():
    loader = kappacore.Loader(Numbers(100), "x", 2)
    iterator = iter(loader)
    next(iterator)
    assert threads() == ["kappacore-loader"]
    loader.close()
    loader.close()
    assert threads() == []
    assert list(iterator) == []
    with pytest.raises(LoaderClosedError, match="make a new one"):
        iter(loader)


def test_the_loader_is_a_context_manager():
    with kappacore.Loader(Numbers(4), "x", 2) as loader:
        assert len(list(loader)) == 2
    with pytest.raises(LoaderClosedError):
        iter(loader)


def test_an_error_in_the_loop_leaves_no_thread():
    loader = kappacore.Loader(Numbers(100), "x", 2)

    def train():
        for _ in loader:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert threads() == []


@pytest.mark.slow
def test_a_program_that_holds_an_iterator_ends():
    program = (
        "import kappacore\n"
        "ds = kappacore.as_kd([(k, k) for k in range(100)], items=('x', 'class'))\n"
        "iterator = iter(kappacore.Loader(ds, 'x', 2))\n"
        "print(next(iterator).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=250, check=True
    )
    assert done.stdout == "[0, 1]\n"
    assert "Traceback" not in done.stderr


# ---- errors


class Failing(Numbers):
    """Raises at one sample."""

    def __init__(self, error, at=5):
        super().__init__(10)
        self.error, self.at = error, at

    def getitem_y(self, idx):
        if idx == self.at:
            raise self.error
        return idx


@pytest.mark.parametrize("prefetch", [0, 1, 5])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("not today"), ValueError),
        (FileNotFoundError(2, "no such file", "a.jpg"), FileNotFoundError),
        (CorruptValueError("bytes differ"), CorruptValueError),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "not today"), LoadingError),
    ],
)
def test_an_error_comes_out_where_the_loop_stands(error, kind, prefetch):
    iterator = iter(kappacore.Loader(Failing(error), "x y", 2, prefetch=prefetch))
    assert [next(iterator)["y"].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(kind, match=rf"item 'y' of sample 5: {type(error).__name__}: ") as caught:
        next(iterator)
    assert type(caught.value.__cause__) is type(error)
    assert list(iterator) == []
    assert threads() == []


def test_an_error_that_does_not_come_again_names_the_batch():
    class Once(Numbers):
        failed = False

        def getitem_x(self, idx, ctx=None):
            if idx == 3 and not self.failed:
                self.failed = True
                raise TimeoutError("slow")
            return idx

    with pytest.raises(TimeoutError, match=r"item 'x' of one of the samples \[2, 3\]"):
        list(kappacore.Loader(Once(10), "x", 2))


def test_an_error_of_the_iterator_is_raised_once_its_entry_is_due():
    def entries():
        yield 1
        raise RuntimeError("second")

    ahead = ReadAhead(entries(), 3)
    assert next(ahead) == 1
    with pytest.raises(RuntimeError, match="second"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_the_last_batch_goes_with_the_loop():
    """And not when cycles are collected: its memory is to be used again."""

    def last(loader):
        for batch in loader:
            reference = weakref.ref(batch)
        return reference

    loader = kappacore.Loader(Numbers(4), "x", 2)
    gc.collect()
    gc.disable()
    try:
        assert last(loader)() is None
    finally:
        gc.enable()


# ---- stats


@repeated_where_stalled
def test_stats_tell_waiting_for_data_from_waiting_for_the_step():
    slow = kappacore.Loader(Noting(6, seconds=0.02), "x", 2)
    list(slow)
    (stats,) = slow.stats()
    assert (stats.epoch, stats.batches, stats.samples) == (0, 3, 6)
    assert stats.seconds_data > 0.08
    assert stats.seconds_step < 0.05

    fast = kappacore.Loader(Numbers(12), "x", 2)
    for _ in fast:
        time.sleep(0.02)
    list(fast)
    first, second = fast.stats()
    assert first.seconds_step > 0.04
    assert first.seconds_data < 0.05
    assert second.epoch == 1


def test_explain_shows_the_loader_and_the_stack():
    loader = kappacore.Loader(Numbers(4), "x", 2)
    list(loader)
    text = kappacore.explain(loader)
    assert "batches: 2 rows of 'x' on cpu" in text
    assert "epoch 0: 2 batches" in text
    assert "Numbers" in text


def test_tensors_of_a_transform_that_reads_in_the_loop_see_its_settings():
    """Such as the mode of gradients, which every thread has of its own."""
    loader = kappacore.Loader(Numbers(4), "x", 2, transform=lambda x, draw: x * torch.ones(1))
    with torch.inference_mode():
        assert all(batch.is_inference() for batch in loader)
