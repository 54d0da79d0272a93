from __future__ import annotations

import pytest
import torch

import kappacore
from kappacore import (
    CachedDataset,
    CacheWrapper,
    KDConcatDataset,
    KDSubset,
    KDWrapper,
    ModeWrapper,
    TransformWrapper,
    as_kd,
)
from kappacore.errors import (
    CacheClosedError,
    DatasetTypeError,
    InvalidIndexError,
    InvalidOptionError,
    RandomSourceError,
    UnknownItemError,
)
from support.cache_sources import SMALL, Images, RandomImages, Samples, Stream
from support.caching import namespaces_in


@pytest.fixture
def images(tmp_path):
    return Images(tmp_path / "reads")


@pytest.fixture
def cached(images, backend):
    with CacheWrapper(images, backend, **SMALL) as wrapper:
        yield wrapper


def firsts(dataset, mode="x"):
    """The first byte of each x, which is its index in the source."""
    return [int(x[0]) for x in ModeWrapper(dataset, mode)]


def test_the_raw_form_is_kept_and_decoded_on_the_way_out(cached, images):
    for epoch in range(3):
        assert firsts(cached) == list(range(10))
        assert images.reads() == dict.fromkeys(range(10), 1)
        assert images.decodings() == 10 * (epoch + 1)
    stats = cached.stats()
    assert (stats.hits, stats.source_reads) == (20, 10)
    assert stats.bytes_stored < 10 * (100 + 100)  # the files, and little more


def test_decoding_is_given_the_ctx(cached):
    loader = ModeWrapper(cached, "x ctx.raw", return_ctx=True)
    for _ in range(2):
        (x, raw), ctx = loader[3]
        assert (int(x[0]), raw, ctx["raw"]) == (3, 100, 100)
        assert [sample[1]["raw"] for sample in loader.__getitems__([3, 4])] == [100, 100]


def test_the_decoded_form_is_decoded_once(images, backend):
    with CacheWrapper(images, backend, form="decoded", **SMALL) as cached:
        for _ in range(3):
            assert firsts(cached) == list(range(10))
        assert images.reads() == dict.fromkeys(range(10), 1)
        assert images.decodings() == 10


def test_what_is_below_a_cache_of_the_decoded_form_gets_no_ctx(images):
    seen = []

    class Spy(KDWrapper):
        def getitem_x(self, idx, ctx=None):
            seen.append(ctx)
            return self.dataset.getitem_x(idx, ctx)

    with CacheWrapper(Spy(images), "memory", **SMALL) as cached:
        ModeWrapper(cached, "x")[1]
    assert seen == [None]


def test_other_items_are_read_as_ever(cached, images):
    assert list(ModeWrapper(cached, "class")) == [0, 1] * 5
    assert cached.getall_class() == [0, 1] * 5
    assert cached.n_classes == 2
    assert cached.root_dataset is images
    assert cached.stats().hits + cached.stats().misses == 0
    assert images.reads() == {}


def test_several_items_can_be_cached(images, backend):
    with CacheWrapper(images, backend, items=["x", "class"], **SMALL) as cached:
        for _ in range(2):
            assert [label for _, label in ModeWrapper(cached, "x class")] == [0, 1] * 5
        assert (cached.stats().hits, cached.stats().misses) == (20, 20)
        for item in ("x", "class"):
            assert (cached.stats(item=item).hits, cached.stats(0, item=item).misses) == (10, 10)
        with pytest.raises(UnknownItemError, match="'y' is not cached here; cached are x, class"):
            cached.stats(item="y")
        assert cached.getall_class() == [0, 1] * 5


def test_every_way_to_read_an_item_goes_through_the_cache(cached, images):
    assert int(cached.getitem_x(3)[0]) == 3
    assert [int(x[0]) for x in cached.getitems_x([3, 4, 3])] == [3, 4, 3]
    assert cached.getraw_x(4)[0] == 4
    assert int(cached.decode_x(cached.getraw_x(4), {})[0]) == 4
    assert images.reads() == {3: 1, 4: 1}


def test_a_batch_is_one_look_up(images, backend):
    class Batches(Images):
        def getitems_x(self, indices, ctxs=None):
            self.log.add(1000 + len(indices))
            return [idx * 10 for idx in indices]

        def getitem_x(self, idx):
            raise AssertionError("a batch is expected")

    source = Batches(images.log.path)
    with CacheWrapper(source, backend, **SMALL) as cached:
        assert ModeWrapper(cached, "x").__getitems__([1, 2, 3]) == [10, 20, 30]
        assert ModeWrapper(cached, "x").__getitems__([2, 3, 4]) == [20, 30, 40]
        assert source.log.count() == {1003: 1, 1001: 1}


# ---- among other wrappers


def test_subsets_above_and_below(images, backend):
    with CacheWrapper(KDSubset(images, [7, 8, 9]), backend, **SMALL) as cached:
        above = KDSubset(KDSubset(cached, [2, 0]), [1, 0])
        for _ in range(2):
            assert firsts(cached) == [7, 8, 9]
            assert firsts(above) == [7, 9]
            assert [int(x[0]) for x in ModeWrapper(above, "x").__getitems__([1, 0])] == [9, 7]
    assert images.reads() == {7: 1, 8: 1, 9: 1}


def test_concats_above_and_below(images, tmp_path, backend):
    other = Images(tmp_path / "other", length=3)
    with CacheWrapper(KDConcatDataset([other, images]), backend, **SMALL) as cached:
        for _ in range(2):
            assert firsts(cached) == [0, 1, 2, *range(10)]
    with (
        CacheWrapper(images, backend, **SMALL) as one,
        CacheWrapper(other, backend, **SMALL) as two,
    ):
        for _ in range(2):
            assert firsts(KDConcatDataset([one, two])) == [*range(10), 0, 1, 2]
    assert images.reads() == dict.fromkeys(range(10), 2)


def test_a_transform_above_is_applied_each_time_and_one_below_once(images, backend):
    calls = []

    def add(x):
        calls.append(1)
        return x + 1

    with CacheWrapper(images, backend, **SMALL) as cached:
        for _ in range(2):
            assert firsts(TransformWrapper(cached, add)) == list(range(1, 11))
    assert len(calls) == 20
    calls.clear()
    with CacheWrapper(TransformWrapper(images, add), backend, **SMALL) as cached:
        for _ in range(2):
            assert firsts(cached) == list(range(1, 11))
    assert len(calls) == 10


def test_a_wrapper_below_that_changes_the_item_is_not_skipped_for_its_raw_form(images, backend):
    class Negative(KDWrapper):
        def getitem_x(self, idx, ctx=None):
            return 255 - self.dataset.getitem_x(idx, ctx)

    with CacheWrapper(Negative(images), backend, **SMALL) as cached:
        for _ in range(2):
            assert firsts(cached) == [255 - idx for idx in range(10)]


def test_a_wrapper_above_that_changes_the_item_is_not_skipped_either(cached):
    class Negative(KDWrapper):
        def getitem_x(self, idx, ctx=None):
            return 255 - self.dataset.getitem_x(idx, ctx)

    for _ in range(2):
        assert firsts(Negative(cached)) == [255 - idx for idx in range(10)]


def test_a_cache_above_a_cache_reads_through_it(images, backend):
    with (
        CacheWrapper(images, backend, **SMALL) as inner,
        CacheWrapper(inner, backend, form="decoded", namespace="outer", **SMALL) as outer,
    ):
        for _ in range(3):
            assert firsts(outer) == list(range(10))
        assert (inner.stats().misses, inner.stats().hits) == (10, 0)
        assert outer.stats().hits == 20
    assert images.decodings() == 10


# ---- bad input


def test_an_unknown_item_is_refused_with_those_there_are(images, cache_folder):
    expected = r"Images has no item 'z'; its items are: x, class"
    with pytest.raises(UnknownItemError, match=expected):
        CacheWrapper(images, "shared", items="x z", **SMALL)


@pytest.mark.parametrize("items", ["", "  ", [], (), None, 3])
def test_no_item_is_refused(images, items):
    with pytest.raises(InvalidOptionError, match=r"items=.* names no item to cache. Give for ex"):
        CacheWrapper(images, "memory", items=items)


def test_an_unknown_form_is_refused(images):
    with pytest.raises(InvalidOptionError, match=r"form='jpeg' is not known. Use 'raw' \(as sto"):
        CacheWrapper(images, "memory", form="jpeg")


def test_a_raw_form_that_is_not_there_is_refused_with_what_to_do(images):
    expected = r"form='raw' was asked for, but the item 'class' has no raw form here. Define getraw"
    with pytest.raises(InvalidOptionError, match=expected):
        CacheWrapper(images, "memory", items="class", form="raw")
    with pytest.raises(InvalidOptionError, match=r"put the cache below the wrapper that changes"):
        CacheWrapper(TransformWrapper(images, torch.neg), "memory", form="raw")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda dataset: dataset,
        lambda dataset: KDSubset(dataset, [0]),
        lambda dataset: KDConcatDataset([dataset]),
        lambda dataset: KDWrapper(dataset),
    ],
)
def test_a_random_dataset_is_refused_however_it_is_wrapped(tmp_path, wrap):
    with pytest.raises(RandomSourceError, match="would freeze the first one for ever"):
        CacheWrapper(wrap(RandomImages(tmp_path / "reads")), "memory")


def test_a_random_transform_belongs_above_the_cache(images):
    augmented = TransformWrapper(images, torch.neg, is_random=True)
    with pytest.raises(RandomSourceError, match=r"Put the cache below the random part"):
        CacheWrapper(augmented, "memory")


def test_what_has_no_items_is_refused(tmp_path):
    with pytest.raises(DatasetTypeError, match=r"needs a KDDataset; got a Samples. .*as_kd"):
        CacheWrapper(Samples(tmp_path / "reads"), "memory")
    with pytest.raises(DatasetTypeError, match=r"IterableDataset has no indices"):
        CacheWrapper(Stream(), "memory")


@pytest.mark.parametrize("idx", [10, 99, -11])
def test_an_index_out_of_range_never_reaches_the_cache(cached, idx):
    with pytest.raises(IndexError):
        ModeWrapper(cached, "x")[idx]
    with pytest.raises(IndexError):
        ModeWrapper(cached, "x").__getitems__([0, idx])
    assert cached.stats().misses == 0


def test_negative_indices_are_counted_from_the_end(cached, images):
    assert int(ModeWrapper(cached, "x")[-1][0]) == 9
    assert int(ModeWrapper(cached, "x").__getitems__([-1])[0][0]) == 9
    assert images.reads() == {9: 1}


# ---- by name, closing


def test_it_is_the_wrapper_named_cache(images, tmp_path):
    wrapped = kappacore.wrap(images, "cache", items="x", backend="shared", **SMALL)
    assert type(wrapped) is CacheWrapper
    wrapped.close()
    plain = kappacore.wrap(Samples(tmp_path / "reads"), "cache", backend="memory", **SMALL)
    assert type(plain) is CachedDataset
    plain.close()


def test_plain_data_builds_it(images):
    dataset = kappacore.build(
        source=images,
        wrappers=[{"use": "cache", "backend": {"use": "shared", "max_bytes": "1MiB"}}],
        mode="x class",
    )
    with dataset:
        assert [label for _, label in dataset] == [0, 1] * 5


def test_as_kd_of_a_plain_dataset_can_be_cached_by_item(tmp_path, backend):
    source = Samples(tmp_path / "reads")
    with CacheWrapper(as_kd(source), backend, items="x", **SMALL) as cached:
        for _ in range(2):
            assert list(ModeWrapper(cached, "x")) == [source.sample(idx)[0] for idx in range(10)]
    assert source.log.count() == dict.fromkeys(range(10), 1)


def test_closing_closes_what_is_below_and_leaves_nothing(images, cache_folder, backend):
    cached = CacheWrapper(images, backend, items="x class", **SMALL)
    firsts(cached)
    cached.close()
    cached.close()
    assert images.closed
    assert namespaces_in(cache_folder) == []
    with pytest.raises(CacheClosedError):
        firsts(cached)
    assert cached.stats().source_reads == 10


def test_clearing_makes_it_read_anew(cached, images):
    firsts(cached)
    cached.clear()
    assert firsts(cached) == list(range(10))
    assert images.reads() == dict.fromkeys(range(10), 2)


def test_items_are_indexed_by_integers(cached):
    for idx, error in ((3.0, InvalidIndexError), ("1", InvalidIndexError), (10, IndexError)):
        with pytest.raises(error):
            cached.getitem_x(idx)
    assert cached.getitem_x(-1)[0] == 9
    assert cached.stats().backend_errors == 0
