"""Labels given beside a dataset, known without reading a sample."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from kappacore.datasets import ModeWrapper, as_kd
from kappacore.errors import InvalidOptionError
from support.pairs import Pairs


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


def test_labels_that_are_an_attribute_are_not_pickled_twice():
    plain = len(pickle.dumps(as_kd(Pairs(2000))))
    assert len(pickle.dumps(as_kd(Pairs(2000), labels="targets"))) < plain + 200
