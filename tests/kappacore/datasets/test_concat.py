from __future__ import annotations

import numpy as np
import pytest
import torch

from kappacore.datasets import (
    KDConcatDataset,
    KDDataset,
    KDSubset,
    ModeWrapper,
    find_item,
)
from kappacore.errors import (
    DatasetTypeError,
    IndexOutOfRangeError,
    InvalidItemError,
    InvalidOptionError,
    UnknownItemError,
)
from support.numbers import BatchNumbers, Numbers, PlusOne


def test_datasets_follow_one_another():
    concat = KDConcatDataset([Numbers(2), PlusOne(Numbers(3)), Numbers(0), Numbers(1)])
    assert len(concat) == 6
    assert list(ModeWrapper(concat, "x")) == [0, 10, 1, 11, 21, 0]


def test_adding_datasets_concatenates_them():
    total = Numbers(2) + PlusOne(Numbers(1)) + Numbers(1)
    assert isinstance(total, KDConcatDataset)
    assert list(ModeWrapper(total, "x")) == [0, 10, 1, 0]


def test_a_batch_calls_each_dataset_once():
    first, second = BatchNumbers(5), BatchNumbers(5)
    batch = ModeWrapper(first + second, "x").__getitems__([7, 0, 9, 4])
    assert batch == [20, 0, 40, 40]
    assert first.calls == [("getitems", [0, 4])]
    assert second.calls == [("getitems", [2, 4])]


def test_datasets_that_a_batch_does_not_need_are_not_called():
    first, second = BatchNumbers(5), BatchNumbers(5)
    ModeWrapper(first + second, "x").__getitems__([1, 2])
    assert second.calls == []


def test_each_sample_keeps_its_ctx():
    mode = ModeWrapper(Numbers(5) + Numbers(5), "index x ctx.seen")
    assert mode.__getitems__([7, 0, 9]) == [(7, 20, 2), (0, 0, 0), (9, 40, 4)]
    assert mode[7] == (7, 20, 2)


def test_only_items_that_all_have_are_items():
    class Extra(Numbers):
        def getitem_extra(self, idx):
            return idx

    concat = Extra() + Numbers()
    with pytest.raises(UnknownItemError, match=r"no item 'extra'; its items are: x, y\."):
        ModeWrapper(concat, "extra")


def test_getall_is_joined_without_reading_samples():
    first, second = BatchNumbers(2), BatchNumbers(3)
    assert (first + second).getall_x() == [0, 10, 0, 10, 20]
    assert first.calls == second.calls == [("getall",)]


def test_getall_needs_all_to_have_it():
    assert not hasattr(BatchNumbers(2) + Numbers(2), "getall_x")


class Columns(KDDataset):
    def __init__(self, column):
        self.column = column

    def __len__(self):
        return len(self.column)

    def getall_class(self):
        return self.column


def test_arrays_and_tensors_of_one_type_are_joined_as_such():
    arrays = (Columns(np.array([1, 2])) + Columns(np.array([3]))).getall_class()
    assert isinstance(arrays, np.ndarray)
    assert arrays.tolist() == [1, 2, 3]
    tensors = (Columns(torch.tensor([1, 2])) + Columns(torch.tensor([3]))).getall_class()
    assert torch.equal(tensors, torch.tensor([1, 2, 3]))


def test_columns_of_different_types_keep_their_values():
    joined = (Columns(np.array([1, 2])) + Columns(["a"])).getall_class()
    assert joined == [1, 2, "a"]
    joined = (Columns(np.array([1])) + Columns(np.array([0.5]))).getall_class()
    assert [value.dtype.kind for value in joined] == ["i", "f"]


def test_raw_values_are_decoded_by_the_dataset_that_they_are_from():
    class Hexadecimal(BatchNumbers):
        def getraw_x(self, idx):
            return hex(idx).encode()

        def decode_x(self, raw):
            return int(raw, 16)

    item = find_item(BatchNumbers(2) + Hexadecimal(20), "x")
    raws = item.get_raw_batch([14, 1])
    assert raws == [(1, b"0xc"), (0, b"10")]
    assert [item.decode(raw) for raw in raws] == [12, 10]


def test_there_is_a_raw_form_only_where_all_have_one():
    concat = BatchNumbers() + Numbers()
    assert not find_item(concat, "x").has_raw
    assert not hasattr(concat, "getraw_x")


def test_the_fingerprint_is_known_where_all_are_and_depends_on_order_and_lengths():
    def fingerprint(*datasets):
        return KDConcatDataset(datasets).fingerprint("x")

    two, three = BatchNumbers(2), BatchNumbers(3)
    assert fingerprint(two, three) == fingerprint(BatchNumbers(2), BatchNumbers(3))
    assert len({fingerprint(two, three), fingerprint(three, two), fingerprint(two)}) == 3
    assert fingerprint(two, Numbers()) is None


def test_the_fingerprint_depends_on_where_one_dataset_ends():
    class Alike(Numbers):
        def getitem_x(self, idx, ctx=None):
            return idx

        def fingerprint(self, item, raw=False):
            return "alike"

    first = Alike(2) + Alike(3)
    second = Alike(3) + Alike(2)
    assert first.fingerprint("x") != second.fingerprint("x")


def test_class_attributes_pass_through_where_all_agree():
    first, second = Numbers(), Numbers()
    first.classes = second.classes = ["a", "b"]
    first.class_to_idx = {"a": 0}
    second.class_to_idx = {"a": 1}
    first.n_classes = np.array([2])
    second.n_classes = np.array([2])
    concat = first + second
    assert concat.classes == ["a", "b"]
    assert concat.n_classes == np.array([2])
    with pytest.raises(AttributeError, match="no 'class_to_idx': its datasets do not agree"):
        concat.class_to_idx  # noqa: B018


def test_sample_aligned_attributes_are_joined():
    first, second = Numbers(2), Numbers(3)
    first.targets, second.targets = [0, 1], np.array([2, 3, 4])
    first.samples = [("a", 0), ("b", 1)]
    concat = first + KDSubset(second, [2])
    assert concat.targets == [0, 1, 4]
    assert not hasattr(concat, "samples")
    assert not hasattr(concat, "anything_else")


def test_sample_aligned_attributes_of_another_length_are_refused():
    first, second = Numbers(2), Numbers(2)
    first.targets, second.targets = [0, 1], [0]
    with pytest.raises(InvalidItemError, match=r"Numbers.targets has 1 entries for 2 samples"):
        (first + second).targets  # noqa: B018


def test_randomness_of_one_is_randomness_of_all():
    class Random(Numbers):
        is_random = True

    assert not (Numbers() + Numbers()).is_random
    assert (Numbers() + Random()).is_random


def test_all_are_closed_even_if_one_fails():
    closed = []

    class Closable(Numbers):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def close(self):
            closed.append(self.name)
            if self.name == "b":
                raise OSError("cannot close b")

    with pytest.raises(OSError, match="cannot close b"):
        KDConcatDataset([Closable(name) for name in "abc"]).close()
    assert sorted(closed) == ["a", "b", "c"]


def test_direct_access_counts_negative_indices_from_the_end_of_all():
    concat = Numbers(2) + Numbers(3)
    assert concat.getitem_x(-1) == 20
    assert concat.getitems_x([-1, -4]) == [20, 10]
    with pytest.raises(IndexOutOfRangeError, match="index 5 is out of range"):
        concat.getitem_x(5)


def test_an_empty_list_is_refused():
    with pytest.raises(InvalidOptionError, match="at least one dataset; got none"):
        KDConcatDataset([])


def test_a_single_dataset_in_place_of_a_list_is_refused():
    with pytest.raises(InvalidOptionError, match=r"takes a list.*KDConcatDataset\(\["):
        KDConcatDataset(Numbers())
    with pytest.raises(InvalidOptionError, match=r"takes a list.*; got a single int"):
        KDConcatDataset(3)


def test_a_plain_dataset_among_them_is_refused():
    with pytest.raises(DatasetTypeError, match=r"needs a KDDataset; got a list.*as_kd"):
        Numbers() + [1, 2]  # noqa: RUF005
