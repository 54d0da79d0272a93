"""Each item in a backend of its own, and labels as one dense array."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kappacore
from kappacore import CacheWrapper, KDSubset, ModeWrapper
from kappacore.datasets import find_item
from kappacore.errors import CacheWarning, InvalidOptionError, UnknownItemError
from support.cache_sources import SMALL, Images, Labels
from support.caching import run_script


def labelled(log, backend, labels):
    return CacheWrapper(Labels(log, labels), backend, items="class", **SMALL)


# ---- a backend for each item


def test_each_item_has_its_backend(log):
    images = Images(log)
    items = {"x": kappacore.backend("shared", max_bytes="1MiB"), "class": "memory"}
    with CacheWrapper(images, items=items, check=False) as cached:
        for _ in range(2):
            pairs = list(ModeWrapper(cached, "x class"))
            assert [(int(x[0]), label) for x, label in pairs] == [(i, i % 2) for i in range(10)]
        names = {name: cache.ref.name for name, (cache, _) in cached._caches.items()}
        assert names == {"x": "shared", "class": "memory"}
        assert [cache.stats().hits for cache, _ in cached._caches.values()] == [10, 10]
        assert images.reads() == dict.fromkeys(range(10), 1)


def test_an_items_backend_may_be_a_pair_or_auto(log):
    items = {"x": ["memory", "shared"], "class": "auto"}
    with CacheWrapper(Images(log), items=items, check=False) as cached:
        assert cached.prefill() == 20
        assert cached._caches["class"][0].ref.name == "shared"


@pytest.mark.parametrize("options", [{"backend": "shared"}, {"max_bytes": "1MiB"}])
def test_a_backend_or_options_beside_a_mapping_are_refused(log, options):
    expected = (
        r"^items=\{'x': 'shared'\} names a backend for each item, so backend= and its options have "
        r"no meaning beside it\. Give the options there: items=\{'x': kappacore\.backend\("
    )
    with pytest.raises(InvalidOptionError, match=expected):
        CacheWrapper(Images(log), items={"x": "shared"}, **options)


def test_a_mapping_without_items_or_of_unknown_ones_is_refused(log):
    with pytest.raises(InvalidOptionError, match="names no item to cache"):
        CacheWrapper(Images(log), items={})
    with pytest.raises(UnknownItemError, match="Images has no item 'z'"):
        CacheWrapper(Images(log), items={"z": "memory"})


# ---- all labels at once


def test_labels_are_one_dense_array_read_once(log, backend):
    labels = [idx * 3 % 7 for idx in range(600)]
    with labelled(log, backend, labels) as cached:
        for _ in range(3):
            column = cached.getall_class()
            assert isinstance(column, np.ndarray)
            assert (column.dtype, column.shape) == (np.int64, (600,))
            assert column.tolist() == labels
        assert cached.dataset.log.count() == dict.fromkeys(range(600), 1)
        assert cached.stats().source_reads == 600


def test_an_array_that_is_changed_is_the_callers_own(log, backend):
    with labelled(log, backend, [1, 2, 3]) as cached:
        for _ in range(3):
            column = cached.getall_class()
            assert column.tolist() == [1, 2, 3]
            column[:] = 0


@pytest.mark.parametrize(
    "labels", [[0], [-1, 2**63 - 1, -(2**63)], list(range(255, 258)) * 200], ids=len
)
def test_labels_of_any_size_and_number_are_exact(log, backend, labels):
    with labelled(log, backend, labels) as cached:
        assert cached.getall_class().tolist() == labels
        assert cached.getall_class().tolist() == labels


def test_a_label_takes_eight_bytes(log, backend):
    with labelled(log, backend, [1] * 5000) as cached:
        cached.getitem_class(0)  # the header comes with it
        before = cached._caches["class"][0].infos()[0]
        cached.getall_class()
        after = cached._caches["class"][0].infos()[0]
        assert after.entries - before.entries <= 1  # the array
        assert 0 <= after.bytes - before.bytes - 8 * 5000 < 500


def test_labels_that_are_cached_are_not_read_again(log, backend):
    with labelled(log, backend, list(range(40))) as cached:
        assert cached.prefill() == 40
        assert cached.getall_class().tolist() == list(range(40))
        assert cached.dataset.log.count() == dict.fromkeys(range(40), 1)


def test_single_labels_and_the_array_live_side_by_side(log, backend):
    with labelled(log, backend, [5, 6, 7]) as cached:
        assert cached.getall_class().tolist() == [5, 6, 7]
        assert [cached.getitem_class(idx) for idx in (0, 2)] == [5, 7]
        assert cached.getall_class().tolist() == [5, 6, 7]
        with labelled(log, backend, [5, 6, 7]) as again:  # the header is not taken for the array
            assert again.getall_class().tolist() == [5, 6, 7]


def test_clearing_makes_the_array_anew(log, backend):
    with labelled(log, backend, [1, 2, 3]) as cached:
        cached.getall_class()
        cached.clear()
        assert cached.getall_class().tolist() == [1, 2, 3]
        assert cached.dataset.log.count() == dict.fromkeys(range(3), 2)


def test_two_processes_read_the_labels_once(log, tmp_path):
    with labelled(log, "shared", list(range(300))) as cached:
        out = run_script(
            tmp_path,
            """
            import sys
            from kappacore import CacheWrapper
            from support.cache_sources import Labels

            source = Labels(sys.argv[1], list(range(300)))
            with CacheWrapper(source, "shared", items="class", check=False) as cached:
                print(cached.getall_class().tolist() == list(range(300)))
            """,
            log,
            warm=True,
        )
        assert out == "True\n"
        assert cached.getall_class().tolist() == list(range(300))
        assert cached.dataset.log.count() == dict.fromkeys(range(300), 1)


@pytest.mark.parametrize(
    "labels",
    [
        ["cat", "dog"],
        [1.0, 2.0],
        [True, False],
        [1, None],
        [1, 2**63],
        [np.int64(1), np.int64(2)],
        [torch.tensor(1), torch.tensor(2)],
    ],
)
def test_labels_that_are_not_all_int_are_not_made_an_array(log, backend, labels):
    with labelled(log, backend, labels) as cached:
        for _ in range(2):
            assert find_item(cached, "class").get_all() is None
        assert list(cached.getall_class()) == labels  # one by one, as if there were no cache
        assert [cached.getitem_class(idx) for idx in range(2)] == labels


def test_the_datasets_own_way_to_give_all_is_used(log, backend):
    images = Images(log)
    with CacheWrapper(images, backend, items="class", **SMALL) as cached:
        assert cached.getall_class() == [0, 1] * 5
        assert cached.stats().misses == 0


def test_subsets_above_and_below_give_their_own_labels(log, backend):
    source = Labels(log, list(range(10)))
    with CacheWrapper(source, backend, items="class", **SMALL) as cached:
        assert list(KDSubset(cached, [7, 3]).getall_class()) == [7, 3]
    with CacheWrapper(KDSubset(source, [4, 2]), backend, items="class", **SMALL) as cached:
        assert cached.getall_class().tolist() == [4, 2]


def test_a_source_that_raises_gives_the_claim_back(log):
    class Broken(Labels):
        def getitem_class(self, idx):
            if broken and idx == 7:
                raise OSError("gone")
            return super().getitem_class(idx)

    broken = True
    source = Broken(log, list(range(10)))
    with CacheWrapper(source, "shared", items="class", **SMALL) as cached:
        with pytest.raises(OSError, match="gone"):
            cached.getall_class()
        broken = False
        with CacheWrapper(source, "shared", items="class", **SMALL) as other:
            assert other.getall_class().tolist() == list(range(10))


def test_a_backend_that_fails_still_gives_the_labels(log, recording):
    with CacheWrapper(Labels(log, [1, 2, 3]), "recording", items="class", check=False) as cached:
        recording.failing.update({"get", "put", "claim", "release"})
        with pytest.warns(CacheWarning, match="backend 'recording' failed"):
            assert cached.getall_class().tolist() == [1, 2, 3]


# ---- read once


def test_labels_read_as_a_column_are_not_read_again_one_by_one(log, backend):
    source = Labels(log, list(range(600)))
    with CacheWrapper(source, backend, items="class", **SMALL) as cached:
        assert cached.getitem_class(5) == 5
        assert cached.getall_class().tolist() == list(range(600))
        assert list(ModeWrapper(cached, "class")) == list(range(600))
        assert type(cached.getitem_class(7)) is int
        assert source.log.count() == dict.fromkeys(range(600), 1)
        assert cached.stats().source_reads == 600
        assert "1 of 600 samples" in cached.explain()


def test_labels_that_make_no_column_are_read_once_all_the_same(log, backend):
    labels = [1] * 599 + [None]
    source = Labels(log, labels)
    with CacheWrapper(source, backend, items="class", **SMALL) as cached:
        for _ in range(3):
            assert find_item(cached, "class").get_all() is None
            assert list(ModeWrapper(cached, "class")) == labels
        assert source.log.count() == dict.fromkeys(range(600), 1)


def test_a_column_without_room_is_kept_by_the_process_that_read_it(log):
    source = Labels(log, list(range(5000)))
    options = {"max_bytes": 60_000, "check": False}
    with CacheWrapper(source, "shared", items="class", **options) as cached:
        for _ in range(3):
            column = cached.getall_class()
            assert column.tolist() == list(range(5000))
            column[0] = -1  # the caller's own
        assert list(ModeWrapper(KDSubset(cached, range(10, 20)), "class")) == list(range(10, 20))
        assert source.log.count() == dict.fromkeys(range(5000), 1)


def test_a_damaged_column_is_read_anew(log, recording):
    with CacheWrapper(Labels(log, [1, 2, 3]), "recording", items="class", check=False) as cached:
        cached.getall_class()
    assert 4 in recording.values
    for garbage in (b"garbage", recording.values[3]):
        recording.values[4] = garbage
        with CacheWrapper(Labels(log, [1, 2, 3]), "recording", items="class", check=False) as again:
            assert again.getitem_class(1) == 2
            assert again.getall_class().tolist() == [1, 2, 3]
            assert again.stats().corrupt >= 1
