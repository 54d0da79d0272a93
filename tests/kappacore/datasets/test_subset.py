from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from kappacore.datasets import KDSubset, KDWrapper, ModeWrapper, find_item
from kappacore.errors import (
    DatasetTypeError,
    IndexOutOfRangeError,
    InvalidIndexError,
    InvalidItemError,
)
from support.numbers import BatchNumbers, Numbers, PlusOne


class Labelled(BatchNumbers):
    def __init__(self, length=10):
        super().__init__(length)
        self.targets = list(range(length))
        self.samples = [(f"{idx}.png", idx) for idx in range(length)]
        self.imgs = np.arange(length) * 10
        self.classes = ["even", "odd"]


def values(dataset):
    return list(ModeWrapper(dataset, "x"))


@pytest.mark.parametrize(
    "indices",
    [
        [3, 1, 3],
        (3, 1, 3),
        np.array([3, 1, 3], dtype=np.uint8),
        torch.tensor([3, 1, 3]),
        [np.int64(3), 1, torch.tensor(3)],
        [-7, 1, -7],
        np.array([3, -9, 3]),
    ],
)
def test_a_subset_takes_any_sequence_of_integers(indices):
    subset = KDSubset(Numbers(), indices)
    assert len(subset) == 3
    assert values(subset) == [30, 10, 30]


def test_a_subset_takes_a_range():
    assert values(KDSubset(Numbers(), range(8, 2, -3))) == [80, 50]


@pytest.mark.parametrize("indices", [[], (), np.array([]), torch.tensor([]), range(0)])
def test_a_subset_may_be_empty(indices):
    subset = KDSubset(Numbers(), indices)
    assert len(subset) == 0
    assert values(subset) == []
    assert subset.getitems_x([]) == []


def test_a_batch_is_mapped_at_once():
    dataset = BatchNumbers()
    assert ModeWrapper(KDSubset(dataset, [5, 6, 7]), "x").__getitems__([2, 0]) == [70, 50]
    assert dataset.calls == [("getitems", [7, 5])]


def test_indices_reach_the_dataset_as_python_integers():
    dataset = BatchNumbers()
    mode = ModeWrapper(KDSubset(dataset, np.arange(10)), "x")
    mode.__getitems__([1])
    find_item(KDSubset(dataset, [2]), "x").get(0)
    (_, (first,)), (_, second) = dataset.calls
    assert type(first) is int
    assert type(second) is int


def test_nested_subsets_compose_into_one_look_up():
    root = Numbers(100)
    inner = KDSubset(root, range(50, 100))
    middle = KDSubset(inner, range(10, 20))
    outer = KDSubset(middle, [3, 4])
    assert outer.root is root
    assert outer.dataset is middle
    assert outer.root_indices.tolist() == [63, 64]
    assert values(outer) == [630, 640]


def test_a_subset_class_that_mixes_in_an_item_is_not_skipped():
    class Mixed:
        def getitem_x(self, idx, ctx=None):
            return -idx

    class Kept(KDSubset, Mixed):
        pass

    assert values(KDSubset(Kept(Numbers(), [4, 5, 6]), [2, 1])) == [-2, -1]


def test_a_subset_of_a_wrapper_of_a_subset_takes_the_batch_path():
    root = BatchNumbers(100)
    outer = KDSubset(KDWrapper(KDSubset(root, range(50, 100))), [1, 2, 3])
    assert ModeWrapper(outer, "x").__getitems__([2, 0]) == [530, 510]
    assert root.calls == [("getitems", [53, 51])]


def test_a_wrapper_between_two_subsets_is_not_skipped():
    outer = KDSubset(PlusOne(KDSubset(Numbers(100), range(50, 100))), [1, 2])
    assert values(outer) == [511, 521]


def test_a_subset_class_that_changes_an_item_is_not_skipped():
    class Negated(KDSubset):
        def getitem_x(self, idx, ctx=None):
            return -self.dataset.getitem_x(int(self.indices[idx]), ctx)

    inner = Negated(Numbers(), [4, 5, 6])
    outer = KDSubset(inner, [0, 2])
    assert outer.root is inner
    assert values(outer) == [-40, -60]
    assert list(ModeWrapper(outer, "y")) == [4, 6]


def test_a_method_set_on_an_inner_subset_is_not_skipped():
    inner = KDSubset(Numbers(), [4, 5, 6])
    inner.getitem_x = lambda idx: idx
    assert values(KDSubset(inner, [2, 1])) == [2, 1]


def test_a_subset_class_that_only_chooses_indices_composes():
    class FirstHalf(KDSubset):
        def __init__(self, dataset):
            super().__init__(dataset, range(len(dataset) // 2))

    root = Numbers(100)
    outer = FirstHalf(FirstHalf(FirstHalf(root)))
    assert outer.root is root
    assert len(outer) == 12


def test_sample_aligned_attributes_are_mapped_through_the_indices():
    subset = KDSubset(KDWrapper(KDSubset(Labelled(), range(5, 10))), [4, 0])
    assert subset.targets == [9, 5]
    assert subset.samples == [("9.png", 9), ("5.png", 5)]
    assert isinstance(subset.imgs, np.ndarray)
    assert subset.imgs.tolist() == [90, 50]
    assert subset.classes == ["even", "odd"]
    assert ModeWrapper(subset, "x").targets == [9, 5]


def test_tensors_stay_tensors():
    dataset = Labelled()
    dataset.targets = torch.arange(10)
    assert torch.equal(KDSubset(dataset, [2, 1]).targets, torch.tensor([2, 1]))


def test_a_subset_class_with_targets_of_its_own_is_asked_for_them():
    class Relabelled(KDSubset):
        def __init__(self, dataset, indices):
            super().__init__(dataset, indices)
            self.targets = ["new"] * len(indices)

    inner = Relabelled(Labelled(), [1, 2, 3])
    assert KDSubset(inner, [0]).targets == ["new"]


def test_something_else_named_samples_passes_unchanged():
    dataset = Numbers()
    dataset.samples = 10
    assert KDSubset(dataset, [1]).samples == 10


def test_aligned_attributes_of_another_length_are_refused():
    dataset = Labelled()
    dataset.targets = [1, 2]
    with pytest.raises(InvalidItemError, match=r"Labelled.targets has 2 entries for 10 samples"):
        KDSubset(dataset, [1]).targets  # noqa: B018


def test_getall_gives_the_part_without_reading_samples():
    dataset = Labelled()
    assert KDSubset(dataset, [3, 1]).getall_x() == [30, 10]
    assert dataset.calls == [("getall",)]


def test_the_raw_form_is_kept():
    subset = KDSubset(BatchNumbers(), [3, 1])
    item = find_item(subset, "x")
    assert item.get_raw_batch([0, 1]) == [b"30", b"10"]
    assert subset.decode_x(subset.getraw_x(1)) == 10


def test_the_fingerprint_depends_on_the_dataset_the_indices_and_the_form():
    def fingerprint(length, indices, raw=False):
        return find_item(KDSubset(BatchNumbers(length), indices), "x").fingerprint(raw)

    assert fingerprint(10, [1, 2]) == fingerprint(10, np.array([1, 2]))
    different = {
        fingerprint(10, [1, 2]),
        fingerprint(10, [2, 1]),
        fingerprint(10, []),
        fingerprint(11, [1, 2]),
        fingerprint(10, [1, 2], raw=True),
    }
    assert len(different) == 5
    assert None not in different


def test_nested_and_direct_subsets_of_the_same_samples_have_the_same_fingerprint():
    root = BatchNumbers()
    nested = KDSubset(KDSubset(root, range(5, 10)), [1, 2])
    assert nested.fingerprint("x") == KDSubset(root, [6, 7]).fingerprint("x")


def test_the_fingerprint_is_unknown_where_the_datasets_is():
    assert KDSubset(Numbers(), [1]).fingerprint("x") is None


def test_later_changes_of_the_callers_array_do_not_matter():
    indices = np.array([1, 2])
    subset = KDSubset(Numbers(), indices)
    indices[:] = 9
    assert values(subset) == [10, 20]
    with pytest.raises(ValueError, match="read-only"):
        subset.indices[0] = 5


def test_a_subset_pickles_to_little_more_than_its_indices():
    subset = KDSubset(KDSubset(Numbers(1000), range(1000)), range(0, 1000, 2))
    size = len(pickle.dumps(ModeWrapper(subset, "x")))
    assert size < 1500 * 8 + 2000


def test_public_access_past_the_end_is_an_index_error():
    with pytest.raises(IndexError):
        KDSubset(Numbers(), [1, 2]).getitem_x(2)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 10], r"index 10 is out of range for KDSubset of 10 samples \(0 to 9\)"),
        ([-11], "index -11 is out of range"),
        ([2**70], "index 1180591620717411303424 is out of range"),
        (np.array([2**64 - 1], dtype=np.uint64), "index 18446744073709551615 is out of range"),
        (range(5, 15), "index 10 is out of range"),
    ],
)
def test_an_index_without_a_sample_is_named(indices, message):
    with pytest.raises(IndexOutOfRangeError, match=message):
        KDSubset(Numbers(), indices)


@pytest.mark.parametrize(
    "mask", [[True] * 10, np.ones(10, dtype=bool), torch.ones(10, dtype=torch.bool)]
)
def test_a_boolean_mask_is_refused_with_what_to_do(mask):
    with pytest.raises(InvalidIndexError, match=r"not a boolean mask.*np.flatnonzero\(mask\)"):
        KDSubset(Numbers(), mask)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 1.5], r"got 1.5 \(float\)"),
        ([0, torch.tensor([1])], r"got tensor\(\[1\]\) \(Tensor\)"),
        ([0, True], r"got True \(bool\)"),
        (["a"], r"got 'a' \(str\)"),
        ([[0, 1]], r"got \[0, 1\] \(list\)"),
        (np.array([0.0, 1.0]), "takes integers; got an array of float64"),
        (np.zeros((2, 2), dtype=int), r"one dimension; got an array of shape \(2, 2\)"),
        (np.int64(3), "one dimension"),
        (3, r"KDSubset takes a list.*got 3 \(int\)"),
        ("12", r"got '12' \(str\)"),
        ({1, 2}, r"got \{1, 2\} \(set\)"),
        (None, "got None"),
    ],
)
def test_anything_but_integers_is_refused(indices, message):
    with pytest.raises(InvalidIndexError, match=message):
        KDSubset(Numbers(), indices)


def test_a_plain_dataset_is_refused():
    with pytest.raises(DatasetTypeError, match="KDSubset needs a KDDataset"):
        KDSubset([1, 2, 3], [0])
