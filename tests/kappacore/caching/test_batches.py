"""A batch that is gathered from a cache is what single reads give, stacked."""

from __future__ import annotations

import contextlib
import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import kappacore
from kappacore import PRIVATE
from kappacore.caching import CacheWrapper
from kappacore.caching.codec import Codec
from kappacore.caching.engine.store import Store
from kappacore.datasets import KDConcatDataset, KDDataset, KDSubset, find_item
from kappacore.errors import InvalidOptionError, NotUniformError
from kappacore.wrappers import RepeatWrapper, ShuffleWrapper
from support.batches import (
    RAGGED,
    UNIFORM,
    Items,
    equal,
    expected,
    locate_batch,
    read_batch,
    read_ragged,
)

LENGTH = 12
BATCH = np.array([3, 0, 3, 11, 7, 7, 1])


@contextlib.contextmanager
def cached(dataset, items, backend="memory", **options):
    options.setdefault("namespace", PRIVATE)
    wrapper = CacheWrapper(dataset, backend, items=items, strict=True, **options)
    with wrapper:
        yield wrapper


def fails(*_, **__):
    raise AssertionError("a sample was read by itself")


def single(dataset, name, indices):
    read = getattr(dataset, f"getitem_{name}")
    return [read(int(idx)) for idx in indices]


@pytest.mark.parametrize("name", UNIFORM)
def test_every_kind_of_value_is_gathered(backend, name, monkeypatch):
    with cached(Items(LENGTH), name, backend) as dataset:
        wanted = expected(single(dataset, name, BATCH))  # fills it
        located = dataset.stats().hits
        if name not in ("image_11", "swapped"):  # packed pixels; numbers of another byte order
            monkeypatch.setattr(Store, "get_many", fails)
        assert equal(read_batch(dataset, name, BATCH), wanted)
        assert equal(dataset.__getattr__(f"getbatch_{name}")(BATCH.tolist()), wanted)
        assert dataset.stats().hits == located + 2 * len(BATCH)


@pytest.mark.parametrize("name", UNIFORM)
def test_a_given_array_or_tensor_is_filled(backend, name):
    with cached(Items(LENGTH), name, backend) as dataset:
        wanted = expected(single(dataset, name, BATCH))
        out = wanted.clone() if isinstance(wanted, torch.Tensor) else wanted.copy()
        out[...] = 0
        assert read_batch(dataset, name, BATCH, out) is out
        assert equal(out, wanted)
        wanted = torch.as_tensor(wanted)
        spread = torch.zeros(2 * len(BATCH), *wanted.shape[1:], dtype=wanted.dtype)[::2]
        assert read_batch(dataset, name, BATCH, spread) is spread
        assert torch.equal(spread, wanted)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (np.zeros((7, 8, 8, 3), "f4"), r"dtype float32; expected .* dtype uint8"),
        (np.zeros((6, 8, 8, 3), "u1"), r"shape \(6, 8, 8, 3\).*expected .*\(7, 8, 8, 3\)"),
        (torch.zeros(7, 8, 8, 4, dtype=torch.uint8), r"shape \(7, 8, 8, 4\).*on cpu"),
        (torch.zeros(7, 8, 8, 3, dtype=torch.uint8, device="meta"), "on meta"),
        ([0] * 7, "is a list"),
        (np.broadcast_to(np.uint8(0), (7, 8, 8, 3)), "read-only"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out, said):
    with cached(Items(LENGTH), "bytes") as dataset:
        for _ in range(2):  # loaded, then gathered
            with pytest.raises(InvalidOptionError, match=said):
                read_batch(dataset, "bytes", BATCH, out)


@pytest.mark.parametrize("name", RAGGED)
def test_values_of_all_shapes_are_laid_one_after_another(backend, name):
    with cached(Items(LENGTH), name, backend) as dataset:
        single(dataset, name, BATCH[:3])
        for _ in range(3):  # partly loaded, all there, and there
            ragged = read_ragged(dataset, name, BATCH)
            values = single(dataset, name, BATCH)
            assert len(ragged) == len(BATCH)
            for row, value in enumerate(values):
                assert equal(ragged[row], expected([value])[0])
        with pytest.raises(NotUniformError, match=r"row 0 is a .* and row \d is a "):
            read_batch(dataset, name, BATCH)


def test_what_differs_in_type_is_neither_stacked_nor_laid_together():
    class Mixed(KDDataset):
        def __len__(self):
            return 4

        def getitem_dtype(self, idx):
            return np.zeros(3, "f4" if idx else "f8")

        def getitem_kind(self, idx):
            return torch.zeros(3) if idx else np.zeros(3, "f4")

        def getitem_mode(self, idx):
            return Image.new("RGB" if idx else "RGBA", (2, 2))

        def getitem_palette(self, idx):
            image = Image.new("P", (2, 2))
            image.putpalette(bytes([idx]) * 768)
            return image

    for name in ("dtype", "kind", "mode", "palette"):
        with cached(Mixed(), name) as dataset:
            for _ in range(2):
                for read in (read_batch, read_ragged):
                    with pytest.raises(NotUniformError, match=r"row 0 is a .* row 1 is a"):
                        read(dataset, name, [0, 1, 2])
                read_batch(dataset, name, [1, 1])


def test_structured_arrays_and_texts_are_refused():
    class Records(KDDataset):
        def __len__(self):
            return 4

        def getitem_record(self, idx):
            return np.zeros(3, [("a", "f4"), ("b", "i8")])

        def getitem_text(self, idx):
            return "text"

    with cached(Records(), "record text") as dataset:
        for _ in range(2):
            with pytest.raises(NotUniformError, match="Return its fields as items of their own"):
                read_batch(dataset, "record", [0, 1])
            with pytest.raises(NotUniformError, match="A str is not stacked"):
                read_batch(dataset, "text", [0, 1])
        assert "not single numbers" in find_item(dataset, "text").how_stacked()[1]


def test_what_is_missing_is_loaded_and_counted(backend):
    source = Items(LENGTH)
    with cached(source, "bytes", backend, check=False) as dataset:
        single(dataset, "bytes", [3, 7])
        before = dataset.stats()
        batch = read_batch(dataset, "bytes", BATCH)
        assert equal(batch, expected(single(Items(LENGTH), "bytes", BATCH)))
        spent = dataset.stats() - before
        assert (spent.hits, spent.misses, spent.source_reads) == (4, 3, 3)
        read_batch(dataset, "bytes", BATCH)
        assert (dataset.stats() - before).source_reads == 3


@pytest.mark.filterwarnings("ignore::kappacore.errors.CacheWarning")
def test_a_full_cache_reads_the_rest_from_the_source():
    with cached(Items(LENGTH), "bytes", max_bytes=1500, check=False) as dataset:
        wanted = expected(single(Items(LENGTH), "bytes", BATCH))
        for _ in range(3):
            assert equal(read_batch(dataset, "bytes", BATCH), wanted)
        assert dataset.stats().refused
        location = locate_batch(dataset, "bytes", BATCH)
        assert 0 < len(location.missing) < len(BATCH)


def test_a_batch_without_samples(backend):
    with cached(Items(LENGTH), "bytes", backend) as dataset:
        read_batch(dataset, "bytes", BATCH)
        with pytest.raises(NotUniformError, match="without samples"):
            read_batch(dataset, "bytes", [])
        out = np.zeros((0, 8, 8, 3), np.uint8)
        assert read_batch(dataset, "bytes", [], out) is out


def test_indices_are_checked(backend):
    with cached(Items(LENGTH), "bytes", backend) as dataset:
        assert equal(read_batch(dataset, "bytes", [-1, 0]), read_batch(dataset, "bytes", [11, 0]))
        with pytest.raises(kappacore.errors.IndexOutOfRangeError):
            read_batch(dataset, "bytes", [12])


# ---- random stacks


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::kappacore.errors.CacheWarning")  # of repeats below a cache
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_stack_gives_what_single_reads_give(data):
    names = data.draw(st.lists(st.sampled_from([*UNIFORM]), min_size=1, max_size=3, unique=True))
    with contextlib.ExitStack() as opened:
        sources = [Items(LENGTH), Items(LENGTH, start=100)]
        dataset = sources[0]
        for step in data.draw(st.lists(st.sampled_from("cssrnk"), min_size=1, max_size=5)):
            if step == "c":
                items = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
                backend = data.draw(st.sampled_from(["memory", "shared"]))
                options = {
                    "check_digests": data.draw(st.sampled_from(["first", "always", "never"]))
                }
                dataset = opened.enter_context(cached(dataset, items, backend, **options))
            elif step == "s":
                chosen = st.lists(st.integers(0, len(dataset) - 1), min_size=1, max_size=20)
                dataset = KDSubset(dataset, data.draw(chosen))
            elif step == "r":
                dataset = RepeatWrapper(dataset, 2)
            elif step == "n":
                dataset = ShuffleWrapper(dataset, seed=1)
            else:
                other = opened.enter_context(cached(sources[1], names))
                dataset = KDConcatDataset([dataset, other])
        items = {name: find_item(dataset, name) for name in names}  # as a loader holds them
        for _ in range(3):
            batch = np.array(data.draw(st.lists(st.integers(0, len(dataset) - 1), min_size=1)))
            for name in names:
                wanted = expected(single(dataset, name, batch))
                assert equal(items[name].get_stacked(batch), wanted), name
                assert equal(read_batch(dataset, name, batch), wanted), name


# ---- what others do meanwhile


class Numbered(KDDataset):
    """Samples that say which version of the source they are of."""

    version = 0

    def __len__(self):
        return LENGTH

    def getitem_x(self, idx):
        return np.full(1000, 100 * self.version + idx, np.int32)


def test_a_value_that_another_process_replaced_is_seen(tmp_path):
    """Cleared and filled again, under the same name."""
    source = Numbered()
    options = {"namespace": "cleared", "keep": True, "path": tmp_path, "check": False}
    with cached(source, "x", "shared", **options) as dataset:
        old = read_batch(dataset, "x", BATCH)
        location = locate_batch(dataset, "x", BATCH)
        source.version = 1
        with cached(source, "x", "shared", **options) as other:
            other.clear()
            read_batch(other, "x", range(LENGTH))
        new = read_batch(dataset, "x", BATCH)
        assert (new[:, 0] == 100 + BATCH).all()
        assert (old[:, 0] == BATCH).all()
        # What was located before is still mapped.
        region = np.frombuffer(location.regions[0], np.uint8)
        for row, idx in enumerate(BATCH):
            start = location.offset[row]
            assert (region[start : start + 4000].view(np.int32) == idx).all()


@pytest.mark.filterwarnings("ignore::kappacore.errors.CacheWarning")  # that it is full
def test_the_region_follows_a_limit_that_was_raised(tmp_path):
    options = {"namespace": "grown", "keep": True, "path": tmp_path, "check": False}
    with cached(Numbered(), "x", "shared", max_bytes=30_000, **options) as dataset:
        read_batch(dataset, "x", range(LENGTH))
        assert len(locate_batch(dataset, "x", range(LENGTH)).missing)
        with cached(Numbered(), "x", "shared", max_bytes=200_000, **options) as other:
            read_batch(other, "x", range(LENGTH))
        batch = read_batch(dataset, "x", range(LENGTH))
        assert (batch[:, 0] == np.arange(LENGTH)).all()
        assert not len(locate_batch(dataset, "x", range(LENGTH)).missing)


@pytest.mark.parametrize("check_digests", ["first", "always"])
def test_a_value_that_is_damaged_is_loaded_again(check_digests, tmp_path):
    options = {"namespace": "damaged", "keep": True, "path": tmp_path, "check": False}
    options["max_bytes"] = 100_000
    with cached(Numbered(), "x", "shared", **options) as dataset:
        read_batch(dataset, "x", range(LENGTH))
    (path,) = tmp_path.rglob("data-*")
    data = bytearray(path.read_bytes())
    at = data.index(np.full(1000, 7, np.int32).tobytes())
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"damage")
    with cached(Numbered(), "x", "shared", check_digests=check_digests, **options) as dataset:
        before = dataset.stats()
        assert (read_batch(dataset, "x", BATCH)[:, 0] == BATCH).all()
        spent = dataset.stats() - before
        assert (spent.corrupt, spent.source_reads) == (1, 1)
        assert (read_batch(dataset, "x", BATCH)[:, 0] == BATCH).all()
        assert (dataset.stats() - before).corrupt == 1


def test_a_value_is_checked_once_or_at_each_read(backend, monkeypatch):
    for check_digests, said in (("first", "checked"), ("always", "each was checked")):
        with cached(Items(LENGTH), "bytes", backend, check_digests=check_digests) as dataset:
            checks, locate = 0, Codec.locate

            def counting(*args, locate=locate, **options):
                nonlocal checks
                checks += 1
                return locate(*args, **options)

            monkeypatch.setattr(Codec, "locate", counting)
            for _ in range(4):
                read_batch(dataset, "bytes", BATCH)
            assert checks == (5 if check_digests == "first" else 3 * 5)
            monkeypatch.undo()
            fast, how = find_item(dataset, "bytes").how_stacked()
            assert fast
            assert (said in how) == (check_digests == "always")


def test_closing_lets_go_of_the_memory(backend):
    with cached(Items(LENGTH), "bytes", backend) as dataset:
        read_batch(dataset, "bytes", BATCH)
        region = weakref.ref(locate_batch(dataset, "bytes", BATCH).regions[0])
        assert region() is not None
        dataset.close()
        gc.collect()
        assert region() is None


# ---- which road, for people


def test_a_backend_that_locates_nothing_is_read_sample_by_sample(recording):
    with cached(Items(LENGTH), "bytes", "recording") as dataset:
        assert equal(
            read_batch(dataset, "bytes", BATCH), expected(single(Items(LENGTH), "bytes", BATCH))
        )
        assert locate_batch(dataset, "bytes", BATCH) is None
        fast, how = find_item(dataset, "bytes").how_stacked()
        assert not fast
        assert "'recording' does not say where values lie (locate_many)" in how


def test_explain_says_how_batches_are_read():
    with cached(Items(LENGTH), "bytes") as dataset:
        text = kappacore.explain(kappacore.ModeWrapper(dataset, "bytes integer"))
        assert "batches of 'bytes': gathered from the cache 'memory'" in text
        assert "batches of 'integer': sample by sample, by Items.getitem_integer" in text
        assert "batches: gathered from the cache 'memory'" in dataset.explain()
