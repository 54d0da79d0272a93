from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from kappacore.datasets import KDDataset, KDSubset, KDWrapper, ModeWrapper
from kappacore.errors import (
    DatasetTypeError,
    IndexOutOfRangeError,
    InvalidIndexError,
    ModeError,
    UnknownItemError,
)
from support.numbers import BatchNumbers, Numbers, PlusOne


class Drawing(Numbers):
    """Leaves what x is in the ctx, and shows in y what the ctx holds by then."""

    def getitem_x(self, idx, ctx=None):
        ctx["drawn"] = idx + 0.5
        return idx

    def getitem_y(self, idx, ctx=None):
        return dict(ctx)


# ---- samples


def test_one_item_gives_the_bare_value_and_several_a_tuple():
    assert ModeWrapper(Numbers(), "x")[3] == 30
    assert ModeWrapper(Numbers(), "y x")[3] == (3, 30)
    assert ModeWrapper(Numbers(), " x\ty ")[3] == (30, 3)


def test_the_default_mode_is_x_and_y():
    assert ModeWrapper(Numbers())[3] == (30, 3)


def test_only_what_the_mode_asks_for_is_read():
    dataset = Numbers()
    assert list(ModeWrapper(dataset, "y")) == list(range(10))
    assert {item for item, _ in dataset.calls} == {"y"}


def test_return_ctx_gives_the_ctx_beside_the_sample():
    assert ModeWrapper(Numbers(), "x", return_ctx=True)[3] == (30, {"seen": 3})
    assert ModeWrapper(Numbers(), "x y", return_ctx=True)[3] == ((30, 3), {"seen": 3})


def test_a_batch_is_the_same_samples_as_one_by_one():
    for mode in ("x", "x y", "index x ctx.seen y"):
        for return_ctx in (False, True):
            wrapper = ModeWrapper(Numbers(), mode, return_ctx)
            indices = [4, 0, 4]
            assert wrapper.__getitems__(indices) == [wrapper[idx] for idx in indices]


def test_each_item_of_a_batch_is_read_at_once():
    dataset = BatchNumbers()
    ModeWrapper(dataset, "x y x").__getitems__([1, 2])
    assert dataset.calls == [("getitems", [1, 2])] * 2


def test_a_batch_does_not_skip_wrappers():
    dataset = PlusOne(KDSubset(BatchNumbers(), [5, 6]))
    assert ModeWrapper(dataset, "x").__getitems__([0, 1]) == [51, 61]


def test_an_empty_batch_is_an_empty_list():
    assert ModeWrapper(Numbers(), "x y").__getitems__([]) == []
    assert ModeWrapper(Numbers(), "x")[[]] == []


# ---- ctx and index


def test_all_items_of_a_sample_share_one_fresh_ctx():
    wrapper = ModeWrapper(Drawing(), "x y")
    assert wrapper[1] == (1, {"drawn": 1.5})
    assert wrapper[1] == (1, {"drawn": 1.5})
    assert wrapper.__getitems__([1, 2]) == [(1, {"drawn": 1.5}), (2, {"drawn": 2.5})]
    assert ModeWrapper(Drawing(), "y x")[1] == ({}, 1)


def test_the_ctx_passes_through_wrappers():
    class Noting(KDWrapper):
        def getitem_x(self, idx, ctx=None):
            value = self.dataset.getitem_x(idx, ctx)
            ctx["noted"] = ctx["seen"] + 1
            return value

    assert ModeWrapper(Noting(KDSubset(Numbers(), [7])), "x ctx.noted")[0] == (70, 8)


def test_ctx_keys_are_resolved_after_the_other_items_wherever_they_stand():
    wrapper = ModeWrapper(Drawing(), "ctx.drawn x ctx.drawn")
    assert wrapper[2] == (2.5, 2, 2.5)
    assert wrapper.__getitems__([2]) == [(2.5, 2, 2.5)]


def test_a_ctx_key_may_be_any_text_without_blanks():
    class Keyed(Numbers):
        def getitem_x(self, idx, ctx=None):
            ctx["crop.size-1"] = idx
            return idx

    assert ModeWrapper(Keyed(), "x ctx.crop.size-1")[2] == (2, 2)


@pytest.mark.parametrize("read", [lambda mode: mode[2], lambda mode: mode.__getitems__([2])])
def test_a_missing_ctx_key_lists_the_keys_there_are(read):
    with pytest.raises(
        UnknownItemError,
        match=r"'ctx.crop', but the ctx of sample 2 has no key 'crop'; its keys are: 'drawn'",
    ):
        read(ModeWrapper(Drawing(), "x ctx.crop"))
    with pytest.raises(UnknownItemError, match="its keys are: none"):
        read(ModeWrapper(Drawing(), "ctx.crop"))


def test_index_is_the_index_into_this_dataset():
    subset = KDSubset(Numbers(), [7, 8, 9])
    wrapper = ModeWrapper(subset, "index x")
    assert wrapper[-1] == (2, 90)
    assert wrapper.__getitems__([2, 0]) == [(2, 90), (0, 70)]
    assert type(wrapper[np.int64(1)][0]) is int
    assert type(wrapper[np.array([1])][0][0]) is int


def test_a_datasets_own_index_is_taken():
    class Indexed(Numbers):
        def getitem_index(self, idx):
            return f"row {idx}"

    assert ModeWrapper(KDSubset(Indexed(), [7]), "index")[0] == "row 7"


def test_an_item_named_twice_is_read_twice_with_one_ctx():
    class Counting(Numbers):
        def getitem_x(self, idx, ctx=None):
            ctx["reads"] = ctx.get("reads", 0) + 1
            return ctx["reads"]

    assert ModeWrapper(Counting(), "x x")[0] == (1, 2)


# ---- ways to index


@pytest.mark.parametrize("index", [3, -7, np.int32(3), np.array(3), torch.tensor(3)])
def test_any_integer_gives_a_sample(index):
    assert ModeWrapper(Numbers(), "x")[index] == 30


@pytest.mark.parametrize(
    "index",
    [
        slice(2, 8, 3),
        [2, 5],
        [2, -5],
        (2, -5),
        range(2, 8, 3),
        np.array([2, 5]),
        torch.tensor([2, 5]),
        [np.int64(2), torch.tensor(5)],
    ],
)
def test_a_slice_or_a_sequence_gives_a_list_of_samples(index):
    assert ModeWrapper(Numbers(), "x")[index] == [20, 50]


def test_slices_behave_as_those_of_lists():
    values = [10 * idx for idx in range(10)]
    wrapper = ModeWrapper(Numbers(), "x")
    for index in (slice(None), slice(-3, None), slice(None, None, -2), slice(5, 100), slice(8, 2)):
        assert wrapper[index] == values[index]


def test_iteration_ends_and_can_be_repeated():
    wrapper = ModeWrapper(Numbers(3), "x")
    assert [list(wrapper), list(wrapper)] == [[0, 10, 20]] * 2
    assert len(wrapper) == 3


@pytest.mark.parametrize("index", [10, -11, [0, 10], torch.tensor([-11]), 2**70])
def test_past_the_end_is_an_index_error(index):
    with pytest.raises(
        IndexOutOfRangeError, match=r"is out of range for ModeWrapper of 10 samples \(0 to 9\)"
    ) as caught:
        ModeWrapper(Numbers(), "x")[index]
    assert isinstance(caught.value, IndexError)


def test_an_empty_dataset_says_that_it_is_empty():
    with pytest.raises(IndexOutOfRangeError, match="index 0 is out of range: ModeWrapper is empty"):
        ModeWrapper(Numbers(0), "x")[0]


@pytest.mark.parametrize(
    "index",
    [
        True,
        np.bool_(True),
        torch.tensor(True),
        1.0,
        np.float64(1),
        torch.tensor(1.0),
        "x",
        None,
        {1, 2},
        [1.0],
        [True, 1],
        slice(0.5, 2),
        ...,
    ],
)
def test_what_is_no_index_is_refused(index):
    with pytest.raises(InvalidIndexError, match=r"ModeWrapper .*integers"):
        ModeWrapper(Numbers(), "x")[index]


@pytest.mark.parametrize("mask", [[True, False], np.ones(10, dtype=bool)])
def test_a_boolean_mask_is_refused_with_what_to_do(mask):
    with pytest.raises(InvalidIndexError, match=r"np.flatnonzero"):
        ModeWrapper(Numbers(), "x")[mask]


# ---- bad modes and datasets


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("", "the mode '' names no item"),
        ("  \t", "names no item"),
        (None, "a mode is a string of item names.*got a NoneType"),
        (["x", "y"], "got a list"),
        ("x,y", "malformed at 'x,y'.*separated by blanks"),
        ("x ctx.", "malformed at 'ctx.'"),
        ("x.a", "malformed at 'x.a'"),
    ],
)
def test_a_mode_that_is_empty_or_malformed_is_refused(mode, message):
    with pytest.raises(ModeError, match=message):
        ModeWrapper(Numbers(), mode)


def test_an_unknown_item_is_refused_at_construction():
    with pytest.raises(UnknownItemError, match=r"Numbers has no item 'z'; its items are: x, y\."):
        ModeWrapper(Numbers(), "x z")


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ([1, 2, 3], r"ModeWrapper needs a KDDataset; got a list.*as_kd\("),
        (Stream(), "an IterableDataset has no indices, so single samples cannot be read"),
        (ModeWrapper(Numbers(), "x"), "needs a KDDataset; got a ModeWrapper"),
    ],
)
def test_what_is_no_kd_dataset_is_refused(dataset, message):
    with pytest.raises(DatasetTypeError, match=message):
        ModeWrapper(dataset, "x")


# ---- everything else


def test_the_sample_fingerprint_depends_on_items_and_order():
    def fingerprint(mode, return_ctx=False, dataset=None):
        return ModeWrapper(dataset or BatchNumbers(), mode, return_ctx).sample_fingerprint()

    assert fingerprint("x y") == fingerprint("x  y")
    modes = ("x", "y", "x y", "y x", "x y index", "x x")
    fingerprints = {fingerprint(mode) for mode in modes}
    assert len(fingerprints) == len(modes)
    assert None not in fingerprints


def test_the_sample_fingerprint_is_unknown_where_an_items_is_or_a_ctx_is_asked_for():
    assert ModeWrapper(PlusOne(BatchNumbers()), "x y").sample_fingerprint() is None
    assert ModeWrapper(BatchNumbers(), "x ctx.a").sample_fingerprint() is None
    assert ModeWrapper(BatchNumbers(), "x", return_ctx=True).sample_fingerprint() is None


def test_it_says_what_it_is():
    dataset = KDWrapper(Numbers())
    wrapper = ModeWrapper(dataset, "x y", return_ctx=True)
    assert wrapper.dataset is dataset
    assert wrapper.mode == "x y"
    assert wrapper.return_ctx is True
    assert wrapper.is_random is False
    assert wrapper.root_dataset is dataset.dataset
    assert not isinstance(wrapper, KDDataset)


def test_randomness_below_is_seen():
    class Random(Numbers):
        is_random = True

    assert ModeWrapper(KDWrapper(Random()), "x").is_random


def test_it_closes_the_dataset():
    closed = []

    class Closable(Numbers):
        def close(self):
            closed.append(True)

    with ModeWrapper(Closable(), "x") as wrapper:
        assert wrapper[0] == 0
    wrapper.dispose()
    assert closed == [True, True]


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda ds: pickle.loads(pickle.dumps(ds))]
)
def test_it_survives_copying_and_pickling(duplicate):
    wrapper = ModeWrapper(KDSubset(Numbers(), [3, 4]), "x index")
    assert list(duplicate(wrapper)) == [(30, 0), (40, 1)]


def test_a_copy_reads_the_dataset_that_it_is_given():
    wrapper = ModeWrapper(Numbers(), "x")
    assert wrapper[1] == 10
    twin = copy.copy(wrapper)
    twin.dataset = PlusOne(Numbers())
    assert [wrapper[1], twin[1]] == [10, 11]


def test_what_is_found_out_per_process_is_not_pickled():
    wrapper = ModeWrapper(Numbers(), "x")
    assert wrapper[0] == 0
    assert b"ClassItem" not in pickle.dumps(wrapper)
