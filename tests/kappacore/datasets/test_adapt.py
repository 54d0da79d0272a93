from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from kappacore.datasets import KDDataset, KDSubset, KDWrapper, ModeWrapper, as_kd
from kappacore.errors import (
    DatasetTypeError,
    InvalidItemError,
    InvalidOptionError,
    UnknownItemError,
)
from support.numbers import Numbers, PlusOne


class Pairs(Dataset):
    """Tuples of an image and a label, as torchvision's datasets give them."""

    classes = ("even", "odd")

    def __init__(self, length=10):
        self.targets = [idx % 2 for idx in range(length)]
        self.reads = []

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, idx):
        self.reads.append(idx)
        return f"image {idx}", self.targets[idx]


class BatchPairs(Pairs):
    def __getitems__(self, indices):
        self.reads.append(list(indices))
        return [(f"image {idx}", self.targets[idx]) for idx in indices]


class Rows(Dataset):
    """Dicts of columns, as Hugging Face's datasets give them."""

    def __len__(self):
        return 10

    def __getitem__(self, idx):
        return {"image": f"image {idx}", "label": idx % 2, "x": f"x {idx}"}


# ---- reading


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


class Random(Pairs):
    is_random = True

    def __getitem__(self, idx):
        value = random.random()
        return value, value


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


# ---- labels


@pytest.mark.parametrize(
    "labels",
    ["targets", [idx % 2 for idx in range(10)], np.arange(10) % 2, torch.arange(10) % 2],
)
def test_labels_are_known_without_reading_a_sample(labels):
    plain = Pairs()
    dataset = as_kd(plain, labels=labels)
    mode = ModeWrapper(dataset, "class")
    assert list(mode) == [0, 1] * 5
    assert mode.__getitems__([3, 4]) == [1, 0]
    assert type(mode[3]) is int
    assert isinstance(dataset.getall_class(), np.ndarray)
    assert plain.reads == []
    assert ModeWrapper(dataset, "x class")[3] == ("image 3", 1)


@pytest.mark.parametrize(
    ("items", "label"), [(("x", "class", "y"), "class"), (("x", "y"), "y"), (("x",), "class")]
)
def test_labels_are_class_else_y_else_class(items, label):
    dataset = as_kd(Pairs(), items=items, labels=["label"] * 10)
    assert ModeWrapper(dataset, label)[0] == "label"
    assert dataset.getall_class() if label == "class" else dataset.getall_y()


def test_labels_beside_bare_samples():
    dataset = as_kd(torch.arange(3), labels=["a", "b", "c"])
    assert ModeWrapper(dataset, "x class")[1] == (1, "b")
    assert dataset.getall_class() == ["a", "b", "c"]


def test_labels_of_several_dimensions_are_given_row_by_row():
    labels = np.eye(10)
    dataset = as_kd(Pairs(), labels=labels)
    row = ModeWrapper(dataset, "class")[3]
    assert row.tolist() == labels[3].tolist()
    row[:] = 7
    assert labels[3, 3] == 1


def test_labels_keep_their_type():
    assert ModeWrapper(as_kd([0, 0], labels=[1, 2.5]), "class")[:] == [1, 2.5]
    assert ModeWrapper(as_kd([0, 0], labels=[True, False]), "class")[0] is True
    assert ModeWrapper(as_kd([0, 0], labels=[2**70, 1]), "class")[0] == 2**70


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], "labels has 2 labels, but Pairs has 10 samples; expected one per sample"),
        ("reads", "Pairs.reads has 0 labels, but Pairs has 10 samples"),
        ("labels", "labels='labels' names an attribute, but Pairs has none of that name"),
        (7, "labels is a int; expected an array or list with one label per sample"),
        (np.array(7), "labels is a ndarray; expected"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(InvalidOptionError, match=message):
        as_kd(Pairs(), labels=labels)


# ---- identity, attributes, lifetime


def test_hugging_faces_fingerprint_identifies_the_items():
    def fingerprint(inner, name="x", items=("x", "label")):
        dataset = Rows()
        dataset._fingerprint = inner
        return as_kd(dataset, items=items).fingerprint(name)

    assert fingerprint("abc") == fingerprint("abc")
    different = {
        fingerprint("abc"),
        fingerprint("def"),
        fingerprint("abc", "label"),
        fingerprint("abc", items={"x": "image"}),
    }
    assert len(different) == 4
    assert None not in different


def test_a_fingerprint_is_not_taken_from_further_inside():
    class Around(Rows):
        def __init__(self):
            self.inner = Rows()
            self.inner._fingerprint = "abc"

        def __getattr__(self, name):
            return getattr(self.inner, name)

    assert as_kd(Around()).fingerprint("x") is None


def test_labels_are_identified_by_their_values():
    first = as_kd(Pairs(), labels="targets").fingerprint("class")
    assert first == as_kd([0] * 10, labels=np.arange(10) % 2).fingerprint("class")
    assert first != as_kd(Pairs(), labels=np.arange(10)).fingerprint("class")
    assert as_kd(Pairs(), labels="targets").fingerprint("x") is None


def test_public_attributes_pass_through():
    subset = KDSubset(as_kd(Pairs()), [3, 4])
    assert subset.classes == ("even", "odd")
    assert subset.targets == [1, 0]


def test_randomness_of_the_dataset_is_seen():
    assert as_kd(Random()).is_random
    assert not as_kd(Pairs()).is_random


def test_the_dataset_is_closed_where_it_can_be():
    class Closable(Pairs):
        closed = False

        def close(self):
            self.closed = True

    inner = Closable()
    as_kd(inner).close()
    as_kd(Pairs()).close()
    assert inner.closed


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda ds: pickle.loads(pickle.dumps(ds))])
@pytest.mark.parametrize("labels", [None, "targets", [1] * 10])
def test_it_survives_copying_and_pickling(duplicate, labels):
    mode = ModeWrapper(as_kd(Pairs(), labels=labels), "x class")
    assert duplicate(mode)[:] == mode[:]


def test_labels_that_are_an_attribute_are_not_pickled_twice():
    plain = len(pickle.dumps(as_kd(Pairs(2000))))
    assert len(pickle.dumps(as_kd(Pairs(2000), labels="targets"))) < plain + 200


def test_a_kd_dataset_is_returned_as_it_is():
    dataset = Numbers()
    assert as_kd(dataset) is dataset
    assert as_kd(dataset, items=("x", "y")) is dataset
    with pytest.raises(InvalidOptionError, match=r"Numbers is a KDDataset already.*labels="):
        as_kd(dataset, labels=[1] * 10)


def test_its_items_are_listed():
    dataset = as_kd(Rows(), items={"x": "image"}, labels=[1] * 10)
    with pytest.raises(UnknownItemError, match=r"no item 'image'; its items are: x, class\."):
        ModeWrapper(dataset, "image")


def test_a_wrapper_around_it_may_add_items():
    class Upper(KDWrapper):
        def getitem_upper(self, idx, ctx=None):
            return self.dataset.getitem_x(idx, ctx).upper()

    plain = Pairs()
    assert ModeWrapper(Upper(as_kd(plain)), "upper class")[3] == ("IMAGE 3", 1)
    assert plain.reads == [3]


# ---- bad input


@pytest.mark.parametrize(
    ("samples", "items", "message"),
    [
        ([(1,)], ("x", "class"), "sample 0 of list is a tuple of 1; item 'class' was expected at"),
        ([{"x": 1}], ("x", "class"), r"a dict with the keys \['x'\]; item 'class' .*key 'class'"),
        ([5], ("x", "class"), r"sample 0 of list is a int.*as_kd\(dataset, items=\{'class'"),
        ([(1, 2)], {"class": "label"}, "a tuple of 2; item 'class' was expected at key 'label'"),
        ([(1, 2)], {"class": 2}, "expected at position 2 of a tuple"),
    ],
)
def test_a_sample_without_the_item_is_named(samples, items, message):
    with pytest.raises(InvalidItemError, match=message):
        ModeWrapper(as_kd(samples, items=items), "class")[0]


def test_a_getitems_with_a_wrong_number_of_samples_is_refused():
    class Short(Pairs):
        def __getitems__(self, indices):
            return [("image", 0)]

    with pytest.raises(
        InvalidItemError, match=r"Short.__getitems__ returned a list of 1 for 2 indices"
    ):
        ModeWrapper(as_kd(Short()), "x").__getitems__([0, 1])


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ((), "items= is empty"),
        ("x", "takes a list of names or a mapping; got 'x'"),
        (("x", "x"), "names an item twice"),
        (("a b",), "has 'a b', which cannot be an item's name"),
        ((1, 2), "has 1, which cannot be an item's name"),
        ({"x": 1.5}, r"says 1.5 for 'x'; expected a position \(int\) or a key \(str\)"),
        ({"x": True}, "says True for 'x'"),
        (None, "takes a list of names or a mapping; got None"),
    ],
)
def test_items_that_make_no_sense_are_refused(items, message):
    with pytest.raises(InvalidOptionError, match=message):
        as_kd(Pairs(), items=items)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


class NoLength:
    def __getitem__(self, idx):
        return idx


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), "as_kd cannot use Stream: an IterableDataset has no indices.*map-style"),
        (NoLength(), "as_kd cannot use a NoLength: it has no __len__"),
        (iter([]), "it has no __len__ and no __getitem__"),
        ({"train": [1]}, r"a dict with the keys \['train'\].*Choose one of its values"),
        (Pairs, "as_kd needs a dataset; got the class Pairs"),
        (None, "cannot use a NoneType"),
    ],
)
def test_what_cannot_be_read_by_index_is_refused(dataset, message):
    with pytest.raises(DatasetTypeError, match=message):
        as_kd(dataset)


def test_the_result_is_a_kd_dataset():
    assert isinstance(as_kd(Pairs()), KDDataset)
