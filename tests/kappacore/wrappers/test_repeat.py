from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from kappacore.datasets import KDSubset, KDWrapper, ModeWrapper, find_item
from kappacore.errors import DatasetTypeError, IndexOutOfRangeError, InvalidOptionError
from kappacore.wrappers import RepeatWrapper, ShuffleWrapper
from support.labelled import Labelled, samples
from support.numbers import BatchNumbers, Numbers


def test_the_whole_dataset_comes_again_and_again():
    assert samples(RepeatWrapper(Numbers(3), repetitions=2)) == [0, 1, 2, 0, 1, 2]
    assert samples(RepeatWrapper(Numbers(3), 1)) == [0, 1, 2]


@pytest.mark.parametrize(("size", "length"), [(1, 3), (3, 3), (4, 6), (100, 102)])
def test_it_is_repeated_until_it_has_at_least_the_size(size, length):
    wrapper = RepeatWrapper(Numbers(3), min_size=size)
    assert len(wrapper) == length
    assert wrapper.repetitions == length // 3


def test_a_batch_is_read_at_once():
    dataset = BatchNumbers(3)
    wrapper = RepeatWrapper(dataset, 4)
    assert ModeWrapper(wrapper, "x").__getitems__([11, 0, 4]) == [20, 0, 10]
    assert dataset.calls == [("getitems", [2, 0, 1])]


def test_columns_are_repeated_as_what_they_are():
    dataset = Labelled([2, 0])
    dataset.targets = torch.tensor([2, 0])
    dataset.samples = ["a", "b"]
    wrapper = RepeatWrapper(dataset, 2)
    assert wrapper.getall_class().tolist() == [2, 0, 2, 0]
    assert torch.equal(wrapper.targets, torch.tensor([2, 0, 2, 0]))
    assert wrapper.samples == ["a", "b", "a", "b"]
    assert wrapper.n_classes == 3


def test_a_million_repetitions_take_no_memory():
    wrapper = RepeatWrapper(Numbers(10), 10**12)
    assert len(wrapper) == 10**13
    assert ModeWrapper(wrapper, "x")[-1] == 90
    assert len(pickle.dumps(wrapper)) < 1000


def test_a_subset_looks_through_a_repetition():
    root = BatchNumbers(10)
    inner = KDSubset(root, [5, 6, 7])
    outer = KDSubset(RepeatWrapper(inner, 3), [8, 0, 4])
    assert outer.root is root
    assert outer.root_indices.tolist() == [7, 5, 6]
    assert samples(outer) == [7, 5, 6]


def test_a_repetition_that_changes_an_item_is_not_looked_through():
    class Negated(RepeatWrapper):
        def getitem_x(self, idx, ctx=None):
            return -idx

    outer = KDSubset(Negated(Numbers(3), 2), [5])
    assert list(ModeWrapper(outer, "x y")) == [(-5, 2)]


def test_the_raw_form_is_kept():
    wrapper = RepeatWrapper(BatchNumbers(3), 2)
    assert find_item(wrapper, "x").get_raw_batch([5, 0]) == [b"20", b"0"]
    assert wrapper.decode_x(wrapper.getraw_x(4)) == 10
    assert wrapper.getitems_x([]) == []


def test_the_fingerprint_tells_how_often():
    dataset = BatchNumbers(3)
    one, two = (RepeatWrapper(dataset, n).fingerprint("x") for n in (2, 3))
    assert len({one, two, dataset.fingerprint("x")}) == 3
    assert RepeatWrapper(dataset, min_size=6).fingerprint("x") == one
    assert RepeatWrapper(Numbers(), 2).fingerprint("x") is None


def test_it_nests_with_other_wrappers():
    wrapper = RepeatWrapper(KDWrapper(RepeatWrapper(ShuffleWrapper(Numbers(3), 0), 2)), 2)
    assert samples(wrapper) == samples(ShuffleWrapper(Numbers(3), 0)) * 4


def test_past_the_end_there_is_nothing():
    wrapper = RepeatWrapper(Numbers(3), 2)
    with pytest.raises(IndexOutOfRangeError, match=r"index 6 is out of range for RepeatWrapper"):
        wrapper.getitem_x(6)
    with pytest.raises(IndexOutOfRangeError):
        wrapper.getitems_x([0, 6])


def test_an_empty_dataset_stays_empty():
    wrapper = RepeatWrapper(Numbers(0), 3)
    assert len(wrapper) == 0
    assert len(KDSubset(wrapper, [])) == 0
    assert RepeatWrapper(Labelled([]), 2).getall_class().tolist() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"takes repetitions= or min_size=; got neither"),
        ({"repetitions": 1, "min_size": 1}, "got both"),
        ({"repetitions": 0}, "^repetitions=0: expected an integer of at least 1"),
        ({"repetitions": -1}, "^repetitions=-1: expected an integer of at least 1"),
        ({"repetitions": 2.0}, r"^repetitions=2\.0: expected an integer"),
        ({"repetitions": True}, "^repetitions=True: expected an integer"),
        ({"min_size": 0}, "^min_size=0: expected an integer of at least 1"),
    ],
)
def test_what_is_no_number_of_repetitions_is_refused(options, message):
    with pytest.raises(InvalidOptionError, match=message):
        RepeatWrapper(Numbers(), **options)


def test_an_empty_dataset_reaches_no_size():
    with pytest.raises(InvalidOptionError, match=r"^min_size=5: an empty dataset has no samples"):
        RepeatWrapper(Numbers(0), min_size=5)


def test_numpy_integers_are_integers():
    assert len(RepeatWrapper(Numbers(3), np.int64(2))) == 6


def test_a_plain_dataset_is_refused():
    with pytest.raises(DatasetTypeError, match=r"RepeatWrapper needs a KDDataset; got a list"):
        RepeatWrapper([1], 2)
