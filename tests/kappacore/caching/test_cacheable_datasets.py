"""Which datasets and values can be cached, and the errors for those that cannot."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from torch.utils.data import ConcatDataset, Subset

from kappacore import CachedDataset, ModeWrapper
from kappacore.caching import Codec
from kappacore.errors import (
    DatasetTypeError,
    RandomSourceError,
    UncacheableValueError,
    UseModeWrapperError,
)
from support.cache_sources import SMALL, Images, RandomImages, Samples, Stream


class Point(NamedTuple):
    x: int
    y: int


def test_torch_subsets_and_concats_can_be_cached_and_be_put_above(log, backend):
    source = Samples(log)
    with CachedDataset(Subset(source, [5, 2]), backend, **SMALL) as cached:
        assert cached.__getitems__([0, 1]) == [source.sample(5), source.sample(2)]
        assert Subset(cached, [1]).__getitems__([0]) == [source.sample(2)]
    both = ConcatDataset([source, Samples(log, seed=1)])
    with CachedDataset(both, backend, **SMALL) as cached:
        assert (cached[3], cached[13]) == (both[3], both[13])
        assert cached[3] != cached[13]
    assert source.log.count()[2] == 1


def test_a_mode_wrapper_can_be_cached(log, backend):
    images = Images(log, known=True)
    with CachedDataset(ModeWrapper(images, "x class"), backend, **SMALL) as cached:
        for _ in range(2):
            x, label = cached[3]
            assert (int(x[0]), label) == (3, 1)
        assert images.reads() == {3: 1}
        assert images.decodings() == 1
        assert cached.n_classes == 2


class MapStyle:
    """Neither a Dataset of PyTorch nor anything else but indexable."""

    def __len__(self):
        return 3

    def __getitem__(self, idx):
        return idx * 10


def test_anything_with_a_length_and_indices_can_be_cached(backend):
    for dataset in (MapStyle(), [0, 10, 20]):
        with CachedDataset(dataset, backend, **SMALL) as cached:
            assert [cached[2], cached[2]] == [20, 20]


# ---- refused


def test_an_iterable_dataset_is_refused_with_the_reason():
    with pytest.raises(DatasetTypeError, match=r"Stream.*IterableDataset.*no indices"):
        CachedDataset(Stream(), "memory")


@pytest.mark.parametrize("dataset", [5, iter([]), object(), None])
def test_what_is_no_dataset_is_refused(dataset):
    with pytest.raises(DatasetTypeError, match=r"^CachedDataset cannot use a .*no __len__"):
        CachedDataset(dataset, "memory")


def test_a_dataset_of_items_is_an_error_that_says_what_to_do(log):
    expected = r"Images has items but no samples. Cache items with CacheWrapper.*ModeWrapper"
    with pytest.raises(UseModeWrapperError, match=expected):
        CachedDataset(Images(log), "memory")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda dataset: dataset,
        lambda dataset: Subset(dataset, [0]),
        lambda dataset: Subset(Subset(dataset, [0]), [0]),
        lambda dataset: ConcatDataset([[1, 2], dataset]),
    ],
)
def test_a_random_dataset_is_refused_however_it_is_wrapped(log, wrap):
    dataset = wrap(ModeWrapper(RandomImages(log), "x"))
    expected = r"RandomImages is random \(is_random=True\): .* would freeze the first one for ever"
    with pytest.raises(RandomSourceError, match=expected):
        CachedDataset(dataset, "memory")


def test_a_value_that_cannot_be_cached_is_named_by_its_path(log):
    class Objects(Samples):
        def sample(self, idx):
            return (idx, {"here": object()})

    expected = r'sample\[1\]\["here"\]'
    with pytest.raises(UncacheableValueError, match=expected):
        CachedDataset(Objects(log), "memory")[0]
    with (
        CachedDataset(Objects(log), "memory", **SMALL) as cached,
        pytest.raises(UncacheableValueError, match=expected),
    ):
        cached[0]


def test_a_codec_of_ones_own_has_types_of_its_own(backend):
    codec = Codec()
    codec.register_type(Point)
    points = [Point(1, 2), Point(3, 4)]
    with CachedDataset(points, backend, codec=codec, max_bytes="1MiB") as dataset:
        assert list(dataset) == points
        assert [dataset[0], type(dataset[1])] == [Point(1, 2), Point]
        assert dataset.stats().hits == 2
    with pytest.raises(UncacheableValueError, match="Point"):
        CachedDataset(points, backend, max_bytes="1MiB")[0]
