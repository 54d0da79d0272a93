"""Any dataset of samples as one of items: how its samples are taken apart, and how often read."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from kappacore.datasets import KDSubset, KDWrapper, ModeWrapper, as_kd
from support.numbers import PlusOne
from support.pairs import BatchPairs, Pairs, Random, Rows


def test_tuples_are_taken_apart_by_position():
    mode = ModeWrapper(as_kd(Pairs()), "class x")
    assert mode[3] == (1, "image 3")
    assert mode.__getitems__([2, 3]) == [(0, "image 2"), (1, "image 3")]


def test_dicts_are_taken_apart_by_key():
    assert ModeWrapper(as_kd(Rows(), items=("label", "x")), "x label")[3] == ("x 3", 1)


def test_a_mapping_says_where_items_are():
    dataset = as_kd(Rows(), items={"x": "image", "class": "label"})
    assert ModeWrapper(dataset, "x class")[3] == ("image 3", 1)
    dataset = as_kd(Pairs(), items={"y": -1})
    assert ModeWrapper(dataset, "y")[3] == 1


def test_a_list_of_samples_is_a_dataset():
    assert list(ModeWrapper(as_kd([("a", 0), ["b", 1]]), "x class")) == [("a", 0), ("b", 1)]


@pytest.mark.parametrize("sample", [7, "text", [1, 2], torch.ones(2)])
def test_a_bare_sample_is_the_only_item(sample):
    assert ModeWrapper(as_kd([sample], items=("x",)), "x")[0] is sample


def test_torchs_own_datasets_are_welcome():
    tensors = TensorDataset(torch.arange(4), torch.arange(4) % 2)
    subset = Subset(ConcatDataset([tensors, tensors]), [6, 1])
    assert ModeWrapper(as_kd(subset), "x class")[:] == [(2, 0), (1, 1)]


def test_a_sample_is_read_once_for_several_items():
    dataset = Pairs()
    mode = ModeWrapper(as_kd(dataset, items=("x", "y")), "x y x")
    assert mode[3] == ("image 3", 1, "image 3")
    assert mode.__getitems__([4, 5]) == [("image 4", 0, "image 4"), ("image 5", 1, "image 5")]
    assert dataset.reads == [3, 4, 5]


def test_a_sample_is_read_again_the_next_time():
    dataset = Pairs()
    mode = ModeWrapper(as_kd(dataset), "x class")
    assert mode[3] == mode[3]
    assert dataset.reads == [3, 3]


def test_getitems_is_used_where_there_is_one():
    dataset = BatchPairs()
    mode = ModeWrapper(KDSubset(as_kd(dataset), [5, 6, 7]), "x class")
    assert mode.__getitems__([2, 0]) == [("image 7", 1), ("image 5", 1)]
    assert dataset.reads == [[7, 5]]


def test_a_getitems_that_is_only_forwarded_is_not_used():
    class Forwarding(Dataset):
        def __init__(self, dataset):
            self.dataset = dataset

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, idx):
            return ("changed", 0)

        def __getattr__(self, name):
            return getattr(self.__dict__["dataset"], name)

    mode = ModeWrapper(as_kd(Forwarding(BatchPairs())), "x")
    assert mode.__getitems__([1]) == ["changed"]


@pytest.mark.parametrize("switch", [None, False])
def test_a_getitems_that_is_switched_off_is_not_used(switch):
    class Switched(BatchPairs):
        __getitems__ = switch

    assert ModeWrapper(as_kd(Switched()), "x").__getitems__([1]) == ["image 1"]


@pytest.mark.parametrize("around", [lambda ds: ds, lambda ds: KDSubset(ds, range(10)), PlusOne])
def test_the_items_of_a_random_sample_belong_together(around):
    shift = 1 if around is PlusOne else 0
    mode = ModeWrapper(around(as_kd(Random())), "x class")
    for x, label in [mode[3], *mode.__getitems__([1, 2, 1, 5])]:
        assert x == label + shift


def test_two_indices_read_for_one_sample_are_kept_apart():
    class Mixed(KDWrapper):
        def getitem_x(self, idx, ctx=None):
            other = (idx + 1) % len(self)
            return self.dataset.getitem_x(idx, ctx), self.dataset.getitem_x(other, ctx)

    dataset = Pairs()
    mode = ModeWrapper(Mixed(as_kd(dataset)), "x class")
    assert mode.__getitems__([1, 2]) == [
        (("image 1", "image 2"), 1),
        (("image 2", "image 3"), 0),
    ]
    assert dataset.reads == [1, 2, 2, 3]


def test_a_ctx_that_is_kept_does_not_keep_the_sample():
    mode = ModeWrapper(as_kd(Pairs()), "x class", return_ctx=True)
    for _, ctx in [mode[0], *mode.__getitems__([1])]:
        assert ctx == {}
        assert ctx.reads is None
