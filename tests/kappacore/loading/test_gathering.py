"""Batches gathered from the memory of a cache: the same as sample by sample, and counted once."""

from __future__ import annotations

import logging
import multiprocessing
import os

import pytest
import torch

import kappacore
from kappacore.caching.engine.store import Store
from kappacore.errors import NotUniformError
from kappacore.loading import Jagged
from kappacore.loading.buffers import Recycler
from support.loading import Photos, equal, expected

BACKENDS = ["memory", "shared"]
ITEMS = ["x", "array", "tensor", "class", "weight", "name", "parts", "boxes", "mixed"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def cached(backend, length=20, items="x array tensor", dataset=None):
    return kappacore.CacheWrapper(
        dataset or Photos(length), backend, items=items, namespace="photos", max_bytes="16MiB"
    )


def read_wholly(item):
    return "ragged" if item in ("boxes", "mixed") else None


@pytest.mark.parametrize("buffers", ["fresh", "ring"])
def test_every_kind_of_item_is_the_same_cold_and_hot(backend, buffers):
    mode = "x array tensor class weight name parts"
    with cached(backend, items=mode) as ds:
        loader = kappacore.Loader(ds, mode, 6, shuffle=True, buffers=buffers)
        for _ in range(3):
            loader.set_epoch(0)
            order = kappacore.Loader(Photos(20), "index", 6, shuffle=True)
            for batch, indices in zip(loader, order, strict=True):
                assert equal(tuple(batch), expected(Photos(20), mode, indices.tolist()))


def test_each_sample_is_counted_once(backend):
    with cached(backend) as ds:
        loader = kappacore.Loader(ds, "x array tensor", 6)
        for epoch in range(3):
            before = ds.stats()
            list(loader)
            stats = ds.stats() - before
            assert (stats.hits, stats.misses) == ((0, 60) if epoch == 0 else (60, 0))
            assert stats.samples == 60
        assert "x: gathered from the memory of its cache" in loader.explain()


def test_what_is_missing_is_loaded_and_the_rest_gathered(backend):
    with cached(backend) as ds:
        list(kappacore.ModeWrapper(ds, "x array tensor")[::3])
        before = ds.stats()
        (batch,) = kappacore.Loader(ds, "x array tensor", 20)
        assert equal(tuple(batch), expected(Photos(20), "x array tensor", range(20)))
        stats = ds.stats() - before
        assert (stats.hits, stats.misses) == (21, 39)


@pytest.mark.parametrize("gap", [(), (9,), (8, 9, 10, 11), (0, 5, 19)])
def test_small_batches_are_looked_up_together(backend, gap, monkeypatch):
    looks = []
    locate = Store.locate_many
    monkeypatch.setattr(
        Store, "locate_many", lambda self, keys: looks.append(len(keys)) or locate(self, keys)
    )
    with cached(backend) as ds:
        list(kappacore.ModeWrapper(ds, "array")[[k for k in range(20) if k not in gap]])
        before = ds.stats()
        batches = list(kappacore.Loader(ds, "array", 4))
        for first, batch in zip(range(0, 20, 4), batches, strict=True):
            assert equal(batch, expected(Photos(20), "array", range(first, first + 4)))
        stats = ds.stats() - before
        assert (stats.hits, stats.misses) == (20 - len(gap), len(gap))
        assert sum(looks) == 20
        if not gap:
            assert looks == [4, 16]


@pytest.mark.parametrize("ragged", ["jagged", "pad"])
@pytest.mark.parametrize("filled", [0, 7, 20])
def test_ragged_values_are_gathered(backend, ragged, filled):
    items = {"boxes": {"ragged": ragged}}
    (wanted,) = kappacore.Loader(Photos(20), "boxes", 20, items=items)
    with cached(backend, items="boxes") as ds:
        kappacore.ModeWrapper(ds, "boxes")[:filled]
        (found,) = kappacore.Loader(ds, "boxes", 20, items=items)
        assert isinstance(found, Jagged) == (ragged == "jagged")
        assert equal(found, wanted)


@pytest.mark.parametrize("options", [{"resize": (7, 8)}, {"crop": (4, 4)}, {"ragged": "pad"}])
def test_images_of_several_sizes_are_gathered(backend, options):
    (wanted,) = kappacore.Loader(Photos(20), "mixed", 20, items={"mixed": options})
    with cached(backend, items="mixed") as ds:
        for _ in range(2):
            (found,) = kappacore.Loader(ds, "mixed", 20, items={"mixed": options})
            assert torch.equal(found, wanted)


def test_samples_of_several_shapes_are_named_when_they_are_gathered(backend):
    with cached(backend, items="mixed") as ds:
        ds.prefill(progress=False)
        with pytest.raises(NotUniformError, match=r"\(4, 6, 3\) in sample 0, but \(5, 6, 3\) in"):
            list(kappacore.Loader(ds, "mixed", 20))


@pytest.mark.parametrize("options", [{"mean": 0.5, "std": 0.2, "layout": "channels_last"}])
def test_gathered_columns_are_converted(backend, options):
    (wanted,) = kappacore.Loader(Photos(20), "x", 20, items={"x": options})
    with cached(backend) as ds:
        for _ in range(2):
            (found,) = kappacore.Loader(ds, "x", 20, items={"x": options}, buffers="ring")
            assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda ds: kappacore.KDSubset(ds, [5, 5, 2, 19]),
        lambda ds: kappacore.RepeatWrapper(kappacore.KDSubset(ds, [5, 2]), 3),
        lambda ds: kappacore.KDConcatDataset([ds, Photos(3)]),
    ],
)
def test_batches_go_through_what_chooses_samples(backend, wrap):
    with cached(backend) as ds:
        for _ in range(2):
            (found,) = kappacore.Loader(wrap(ds), "x class", 50)
            assert equal(tuple(found), expected(wrap(Photos(20)), "x class", range(len(wrap(ds)))))


def test_the_ctx_of_the_other_items_is_still_there(backend):
    with cached(backend) as ds:
        ((batch, ctx),) = kappacore.Loader(
            ds, "x boxes", 20, return_ctx=True, items={"boxes": {"ragged": "pad"}}
        )
        assert ctx["boxes"].tolist() == [idx % 4 for idx in range(20)]
        assert len(batch["x"]) == 20


def test_a_batch_stays_as_it_is_when_the_cache_is_cleared(backend):
    with cached(backend) as ds:
        ds.prefill(progress=False)
        (batch,) = kappacore.Loader(ds, "array", 20)
        kept = batch.clone()
        ds.clear()
        list(kappacore.Loader(ds, "array", 7))
        assert torch.equal(batch, kept)


# ---- cold and hot


def test_a_cold_loader_says_once_that_it_reads_in_one_thread(caplog):
    with cached("memory") as ds:
        loader = kappacore.Loader(ds, "x", 5)
        for _ in range(2):
            list(loader)
        assert [record.name for record in caplog.records] == ["kappacore.loading"]
        assert "This Loader reads 'x' sample by sample in one thread." in caplog.text
        assert "workers=" in caplog.text


def test_a_hot_loader_says_nothing(caplog):
    with cached("memory") as ds, caplog.at_level(logging.INFO):
        ds.prefill(progress=False)
        caplog.clear()
        list(kappacore.Loader(ds, "x class index", 5))
        assert caplog.text == ""


def processes(loader):
    """Return the number of processes that an epoch has, at most."""
    return max(len(multiprocessing.active_children()) for _ in loader)


@pytest.mark.slow
def test_workers_fill_the_cache_and_end_when_it_is_hot():
    with cached("shared") as ds:
        loader = kappacore.Loader(ds, "x class", 4, workers=2)
        before = ds.stats()
        assert [processes(loader) for _ in range(3)] == [2, 0, 0]
        stats = ds.stats() - before
        assert (stats.hits, stats.misses, stats.source_reads) == (40, 20, 20)
        loader.set_epoch(7)
        for number, batch in enumerate(loader):
            rows = range(4 * number, 4 * number + 4)
            assert equal(tuple(batch), expected(Photos(20), "x class", rows))
        ds.clear()
        assert sum(len(batch["x"]) for batch in loader) == 20  # read in the thread
        ds.clear()
        assert processes(loader) == 2


class Lazy(Photos):
    """Opens a file at its first read, which must not be open where a process forks."""

    opened = None

    def getitem_x(self, idx):
        self.opened = os.getpid()
        return super().getitem_x(idx)


def test_workers_alone_read_the_source():
    source = Lazy(20)
    with cached("shared", items="x", dataset=source) as ds:
        loader = kappacore.Loader(ds, "x", 4, workers=2)
        for _ in range(3):
            assert sum(map(len, loader)) == 20
        assert source.opened is None
        assert "gathered from the memory of its cache" in loader.explain()


def test_a_cache_that_is_filled_needs_no_workers():
    with cached("shared") as ds:
        ds.prefill(progress=False)
        assert processes(kappacore.Loader(ds, "x class", 4, workers=2)) == 0


def test_workers_load_what_is_missing_and_no_more():
    with cached("shared") as ds:
        list(kappacore.Loader(kappacore.KDSubset(ds, [1]), "x", 1, workers=1))
        kappacore.ModeWrapper(ds, "x")[::2]
        before = ds.stats()
        loader = kappacore.Loader(ds, "x class", 20, workers=1)
        (batch,) = loader
        assert equal(tuple(batch), expected(Photos(20), "x class", range(20)))
        stats = ds.stats() - before
        assert (stats.hits, stats.misses, stats.source_reads) == (11, 9, 9)


# ---- memory


def large(ds, **options):
    return kappacore.Loader(ds, "array", 8, **options)


def test_memory_is_used_again_once_nobody_holds_it():
    with cached("memory", 80, "array", Photos(80, (256, 256))) as ds:
        ds.prefill(progress=False)
        addresses = [batch.data_ptr() for batch in large(ds, prefetch=1)]
        assert len(set(addresses)) <= 4
        batches = list(large(ds))
        assert len({batch.data_ptr() for batch in batches}) == 10


@pytest.mark.parametrize("keep", [lambda b: b[3], lambda b: b.numpy()[3], lambda b: b.flatten()])
def test_a_view_of_a_batch_keeps_its_memory(keep):
    with cached("memory", 80, "array", Photos(80, (256, 256))) as ds:
        ds.prefill(progress=False)
        views = [keep(batch) for batch in large(ds)]
        copies = [torch.as_tensor(view).clone() for view in views]
        for _ in range(2):
            list(large(ds))
        assert all(torch.equal(torch.as_tensor(v), c) for v, c in zip(views, copies, strict=True))


def test_converted_batches_use_memory_again_too():
    with cached("memory", 32, "array", Photos(32, (256, 256))) as ds:
        options = {"items": {"array": {"mean": 0.5, "layout": "channels_last"}}}
        wanted = list(large(Photos(32, (256, 256)), **options))
        for batch, plain in zip(large(ds, **options), wanted, strict=True):
            assert torch.equal(batch, plain)
            assert batch.is_contiguous(memory_format=torch.channels_last)
            del batch


def test_memory_of_ever_other_sizes_is_not_kept():
    recycler = Recycler(4)
    for number in range(40):
        shape = (1 << 20, 1 + number)
        recycler.allocate(shape, torch.uint8, torch.device("cpu"), torch.contiguous_format)
    assert len(recycler._free) == 8
