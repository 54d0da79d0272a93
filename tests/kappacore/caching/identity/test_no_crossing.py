"""Ways in which one dataset's samples could come out of another's cache, each closed."""

from __future__ import annotations

import threading
import time

import pytest

import kappacore
from kappacore import CachedDataset, CacheWrapper, KDDataset, KDWrapper, ModeWrapper
from kappacore.errors import (
    BrokenPluginError,
    InvalidOptionError,
    NamespaceMismatchError,
    RandomSourceError,
)
from support.caching import load_bytes, open_cache

SMALL = {"max_bytes": "4MiB"}


class Versioned(KDDataset):
    """One string identifies all items, as a version does."""

    def __len__(self):
        return 4

    def getitem_x(self, idx, ctx=None):
        return f"x{idx}"

    def getitem_class(self, idx, ctx=None):
        return idx

    def fingerprint(self, item, raw=False):
        return "version 1"


def test_modes_of_one_dataset_do_not_meet_where_one_string_identifies_all_items():
    with (
        CachedDataset(ModeWrapper(Versioned(), "x class"), "shared", **SMALL) as one,
        CachedDataset(ModeWrapper(Versioned(), "class x"), "shared", **SMALL) as other,
        CachedDataset(ModeWrapper(Versioned(), "class"), "shared", **SMALL) as bare,
    ):
        assert one[1] == ("x1", 1)
        assert other[1] == (1, "x1")
        assert bare[1] == 1


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_two_datasets_that_open_an_empty_slot_are_kept_apart(backend):
    train, val = [f"train{i}" for i in range(5)], [f"val{i}" for i in range(5)]
    with CachedDataset(train, backend, namespace="n", **SMALL) as cached:
        assert cached[0] == "train0"
        with pytest.raises(NamespaceMismatchError, match="sample 0 differs"):
            CachedDataset(val, backend, namespace="n", **SMALL)[1]
        assert cached[1] == "train1"


def test_a_slot_filled_here_and_there_is_kept_apart():
    with CachedDataset([f"a{i}" for i in range(3000)], "shared", namespace="n", **SMALL) as cached:
        assert cached[[1, 2, 17]] == ["a1", "a2", "a17"]
        with pytest.raises(NamespaceMismatchError):
            CachedDataset([f"b{i}" for i in range(3000)], "shared", namespace="n", **SMALL)[5]


def test_what_a_subclass_makes_of_an_item_does_not_enter_the_cache_of_what_is_below():
    class Louder(CacheWrapper):
        def getitem_x(self, idx, ctx=None):
            return self.dataset.getitem_x(idx, ctx) + "!!"

    with (
        Louder(Versioned(), "shared", **SMALL) as loud,
        CacheWrapper(Versioned(), "shared", **SMALL) as own,
    ):
        assert ModeWrapper(loud, "x")[1] == "x1!!"
        assert ModeWrapper(own, "x")[1] == "x1"


def test_a_fingerprint_that_a_wrapper_hands_out_from_below_is_not_its_own():
    class Identified(list):
        _fingerprint = "print"

    class Upper:
        def __init__(self, dataset):
            self.dataset = dataset

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, idx):
            return self.dataset[idx].upper()

        def __getattr__(self, name):
            return getattr(self.dataset, name)

    below = Identified(["a", "b"])
    with (
        CachedDataset(below, "shared", **SMALL) as one,
        CachedDataset(Upper(below), **SMALL) as two,
    ):
        assert (one[0], two[0]) == ("a", "A")


@pytest.mark.parametrize("copy", [True, False])
def test_repeated_indices_of_cached_samples_come_back(copy):
    with CachedDataset([b"abc", b"def"], "memory", copy=copy, **SMALL) as cached:
        assert [bytes(sample) for sample in cached[[0, 1]]] == [b"abc", b"def"]
        assert [bytes(sample) for sample in cached[[0, 0, 1]]] == [b"abc", b"abc", b"def"]


@pytest.mark.parametrize("copy", [True, False])
def test_repeated_indices_are_independent_when_they_are_first_loaded_too(copy):
    with CachedDataset([[1, 2], [3]], "memory", copy=copy, **SMALL) as cached:
        first, second = cached[[0, 0]]
        first.append("changed")
        assert second == [1, 2]


def test_damage_on_a_disk_is_noticed_at_each_read(tmp_path):
    with CachedDataset([b"0" * 5000] * 3, "shared", path=tmp_path, max_bytes="1MiB") as cached:
        assert cached[1] == cached[1] == b"0" * 5000
        for file in tmp_path.rglob("data-*"):
            file.write_bytes(file.read_bytes().replace(b"0" * 5000, b"0" * 4999 + b"1"))
        assert cached[1] == b"0" * 5000
        assert cached.stats().corrupt == 1


def test_keep_without_an_identity_is_refused():
    with pytest.raises(InvalidOptionError, match="nobody could find it again"):
        CachedDataset(["a"], "shared", keep=True, **SMALL)


@pytest.mark.parametrize("name", [".trash-x", ".", "-x", "_x"])
def test_a_name_begins_with_a_letter_or_digit(name):
    with pytest.raises(InvalidOptionError, match="beginning with a letter or digit"):
        CachedDataset(["a"], "shared", namespace=name, **SMALL)


def test_randomness_is_not_hidden_by_a_wrapper_that_says_it_is_not_random():
    class Random(KDDataset):
        is_random = True

        def __len__(self):
            return 1

        def getitem_x(self, idx, ctx=None):
            return 0

    class Calm(KDWrapper):
        is_random = False

    with pytest.raises(RandomSourceError):
        CacheWrapper(Calm(Random()), "memory")


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_threads_of_one_process_read_each_sample_once(backend):
    cache = open_cache(backend, length=50, options=SMALL)
    read: list[int] = []

    def load(indices):
        read.extend(indices)
        time.sleep(0.002)
        return load_bytes()(indices)

    def epoch():
        for idx in range(0, 50, 5):
            batch = list(range(idx, idx + 5))
            assert cache.fetch(batch, load) == load_bytes()(batch)

    threads = [threading.Thread(target=epoch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if backend == "shared":  # its claims say what is there; without claims two may cross
        assert sorted(read) == list(range(50))
    assert len(read) <= 60
    cache.close()


def test_a_backend_that_breaks_its_contract_is_named():
    class Forgetful(kappacore.CacheBackend):
        scope = "process"

        def __init__(self, namespace, length):
            self.values = {}

        def get(self, key):
            return self.values.get(key)

        def put(self, key, value):
            self.values[key] = b"".join(value)

    kappacore.register_cache_backend("forgetful", Forgetful)
    try:
        with pytest.raises(BrokenPluginError, match=r"'forgetful' answered .* to put"):
            CachedDataset(["a"], "forgetful")[0]
    finally:
        kappacore.plugins.unregister_cache_backend("forgetful")


def test_an_error_inside_the_dataset_does_not_end_a_loop():
    class Holes:
        def __len__(self):
            return 4

        def __getitem__(self, idx):
            return {0: "a", 1: "b"}[idx] if idx < 2 else [][idx]

    with (
        CachedDataset(Holes(), "memory", check=False) as cached,
        pytest.raises(IndexError, match="list index out of range"),
    ):
        list(cached)
