"""Datasets that as_kd refuses, and the error messages."""

from __future__ import annotations

import pytest
from torch.utils.data import IterableDataset

from kappacore.datasets import ModeWrapper, as_kd
from kappacore.errors import DatasetTypeError, InvalidItemError, InvalidOptionError
from support.pairs import Pairs


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
        ({"x": 1.5}, r"has 1.5 for 'x'; expected a position \(int\) or a key \(str\)"),
        ({"x": True}, "has True for 'x'"),
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
