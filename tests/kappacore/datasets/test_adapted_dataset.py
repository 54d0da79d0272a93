"""An adapted dataset is a KDDataset: its identity, attributes, copies, and wrappers around it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from kappacore.datasets import KDDataset, KDSubset, KDWrapper, ModeWrapper, as_kd
from kappacore.errors import InvalidOptionError, UnknownItemError
from support.numbers import Numbers
from support.pairs import Pairs, Random, Rows


def test_the_result_is_a_kd_dataset():
    assert isinstance(as_kd(Pairs()), KDDataset)


def test_a_kd_dataset_is_returned_as_it_is():
    dataset = Numbers()
    assert as_kd(dataset) is dataset
    assert as_kd(dataset, items=("x", "y")) is dataset
    with pytest.raises(InvalidOptionError, match=r"Numbers is a KDDataset already.*labels="):
        as_kd(dataset, labels=[1] * 10)


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
