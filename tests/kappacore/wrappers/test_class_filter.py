from __future__ import annotations

import numpy as np
import pytest
import torch

from kappacore.datasets import as_kd
from kappacore.errors import DatasetTypeError, InvalidOptionError
from kappacore.wrappers import ClassFilterWrapper
from support.labelled import Labelled, labels, samples

LABELS = [2, 0, 1, 0, 2]
NAMES = ["cat", "dog", "fox"]


def test_valid_classes_are_kept_in_the_datasets_order():
    assert samples(ClassFilterWrapper(Labelled(LABELS), valid_classes=[2, 0])) == [0, 1, 3, 4]


def test_invalid_classes_are_left_out():
    assert samples(ClassFilterWrapper(Labelled(LABELS), invalid_classes=[2, 0])) == [2]


def test_classes_are_chosen_by_name_where_there_are_names():
    dataset = Labelled(LABELS, NAMES)
    assert samples(ClassFilterWrapper(dataset, valid_classes=["fox", 1])) == [0, 2, 4]
    assert samples(ClassFilterWrapper(dataset, invalid_classes=["fox"])) == [1, 2, 3]


def test_names_are_also_looked_up_in_class_to_idx():
    dataset = Labelled(LABELS)
    dataset.class_to_idx = {"tabby": 0, "fox": 2}
    assert samples(ClassFilterWrapper(dataset, valid_classes=["tabby"])) == [1, 3]


@pytest.mark.parametrize(
    "classes", [(1, 2), {1, 2}, range(1, 3), np.array([1, 2]), torch.tensor([1, 2])]
)
def test_classes_may_be_any_iterable(classes):
    assert samples(ClassFilterWrapper(Labelled(LABELS), valid_classes=classes)) == [0, 2, 4]


def test_labels_and_their_number_stay_what_they_are():
    subset = ClassFilterWrapper(Labelled(LABELS, NAMES), valid_classes=[2])
    assert labels(subset) == [2, 2]
    assert subset.n_classes == 3
    assert subset.classes == NAMES


def test_no_sample_is_read():
    dataset = Labelled(LABELS)
    ClassFilterWrapper(dataset, valid_classes=[1])
    assert (dataset.reads, dataset.columns) == (0, 1)


def test_a_class_without_samples_may_be_chosen():
    dataset = Labelled([0, 0], NAMES)
    assert len(ClassFilterWrapper(dataset, valid_classes=[1])) == 0
    assert len(ClassFilterWrapper(dataset, valid_classes=[])) == 0
    assert len(ClassFilterWrapper(dataset, invalid_classes=[])) == 2


def test_labels_may_be_negative_and_beyond_n_classes():
    dataset = Labelled([-1, 0, 7])
    dataset.n_classes = 1
    assert samples(ClassFilterWrapper(dataset, invalid_classes=[-1])) == [1, 2]
    assert samples(ClassFilterWrapper(dataset, valid_classes=[7, 0])) == [1, 2]


def test_the_label_may_be_another_item():
    dataset = as_kd([(10, "a"), (20, "b")], items=("x", "name"), labels=[0, 1])
    assert samples(ClassFilterWrapper(dataset, valid_classes=[1], label="class")) == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"takes valid_classes= or invalid_classes=; got neither"),
        ({"valid_classes": [0], "invalid_classes": [1]}, "got both"),
        ({"valid_classes": [0, 3]}, r"^valid_classes=\[0, 3\] has 3, .* its classes are 0 to 2"),
        ({"invalid_classes": [-2]}, r"^invalid_classes=\[-2\] has -2, which is no class of Label"),
        ({"valid_classes": ["fix"]}, r"^valid_classes has 'fix', .* Did you mean 'fox'\?"),
        ({"valid_classes": "cat"}, r"^valid_classes='cat' is no list of classes"),
        ({"valid_classes": 1}, r"^valid_classes=1 is no list of classes"),
        ({"valid_classes": {"cat": 0}}, r"is no list of classes"),
        ({"valid_classes": [1.0]}, r"^valid_classes has 1\.0; expected the number or the name"),
        ({"valid_classes": [True]}, r"^valid_classes has True; expected the number or the name"),
    ],
)
def test_what_is_no_choice_of_classes_is_refused(options, message):
    with pytest.raises(InvalidOptionError, match=message):
        ClassFilterWrapper(Labelled(LABELS, NAMES), **options)


def test_a_name_without_names_is_refused():
    with pytest.raises(InvalidOptionError, match=r"'cat'.*there are no names \(`classes`\)"):
        ClassFilterWrapper(Labelled(LABELS), valid_classes=["cat"])


def test_a_name_of_two_classes_is_refused():
    dataset = Labelled(LABELS, ["crane", "dog", "crane"])
    with pytest.raises(InvalidOptionError, match=r"'crane', .* several classes: \[0, 2\]"):
        ClassFilterWrapper(dataset, valid_classes=["crane"])


def test_a_plain_dataset_is_refused():
    with pytest.raises(DatasetTypeError, match=r"ClassFilterWrapper needs a KDDataset; got a list"):
        ClassFilterWrapper([1], valid_classes=[0])
