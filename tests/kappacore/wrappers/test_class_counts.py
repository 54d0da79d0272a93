"""Counts of classes, for every dataset that gives labels; and `classes` that are no names."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from kappacore.datasets import KDDataset, KDSubset, KDWrapper, as_kd
from kappacore.datasets import items as items_module
from kappacore.errors import (
    InvalidOptionError,
    MissingLabelsError,
    UnknownItemError,
)
from kappacore.wrappers import (
    ClassFilterWrapper,
    LabelSmoothingWrapper,
    OneHotWrapper,
    OversamplingWrapper,
    RemapClassesWrapper,
    RepeatWrapper,
    class_counts,
)
from support.labelled import Labelled, samples


class Plain(KDDataset):
    """A dataset as KappaData's users have them: no column, no names."""

    def __init__(self, labels, **attributes):
        self.given = list(labels)
        vars(self).update(attributes)

    def __len__(self):
        return len(self.given)

    def getitem_x(self, idx, ctx=None):
        raise AssertionError("no image is needed")

    def getitem_class(self, idx, ctx=None):
        return self.given[idx]


def test_all_labels_of_a_dataset_that_gives_them_one_by_one():
    dataset = Plain([0, 2, 2, 1], n_classes=4)
    assert dataset.getall_class().tolist() == [0, 2, 2, 1]
    assert dataset.getall_class().dtype == np.int64
    assert np.bincount(dataset.getall_class(), minlength=dataset.n_classes).tolist() == [1, 1, 2, 0]
    for above, wanted in (
        (KDWrapper(dataset), [0, 2, 2, 1]),
        (KDSubset(dataset, [3, 0]), [1, 0]),
        (RepeatWrapper(dataset, 2), [0, 2, 2, 1] * 2),
        (dataset + dataset, [0, 2, 2, 1] * 2),
    ):
        assert above.getall_class().tolist() == wanted
    assert Plain([]).getall_class().tolist() == []
    assert Plain(map(torch.tensor, [1, 0])).getall_class().tolist() == [1, 0]
    assert Plain(["cat", "dog"]).getall_class() == ["cat", "dog"]
    assert not hasattr(dataset, "getall_x")


def test_a_column_is_asked_for_first():
    dataset = Labelled([0, 1])
    dataset.getall_class()
    assert (dataset.columns, dataset.reads) == (1, 0)


def test_labels_within_whole_samples_are_not_read():
    dataset = as_kd([("a", 0), ("b", 1)])
    assert not hasattr(dataset, "getall_class")
    with pytest.raises(UnknownItemError, match=r"reading each sample whole: pass them to as_kd\("):
        dataset.getall_class()
    with pytest.raises(MissingLabelsError, match="class_counts needs the labels"):
        class_counts(dataset)


def test_reading_them_says_what_it_costs(monkeypatch, caplog):
    Plain([0, 1]).getall_class()
    assert not caplog.records
    monkeypatch.setattr(items_module, "_LONG", -1.0)
    with caplog.at_level(logging.WARNING, "kappacore.datasets"):
        Plain([0, 1]).getall_class()
    assert "item 'class' of 2 samples one by one took 0.0 s" in caplog.text
    assert "Define getall_class()" in caplog.text


def test_counts():
    for kind in (Plain, Labelled):
        dataset = kind([0, 2, 2, -1])
        dataset.n_classes = 4
        counts = class_counts(dataset)
        assert counts.tolist() == [1, 0, 2, 0]
        assert counts.dtype == np.int64
        assert class_counts(KDSubset(dataset, [1])).tolist() == [0, 0, 1, 0]
    assert class_counts(Plain([0, 2])).tolist() == [1, 0, 1]
    assert class_counts(as_kd([1, 2], items=("y",), labels=[0, 1])).tolist() == [1, 1]
    assert class_counts(as_kd([1, 1], items=("x",), labels=[0, 1]), label="class").tolist() == [
        1,
        1,
    ]


# ---- an attribute `classes` with one entry per sample


PER_SAMPLE = {
    "numbers": [0, 1, 2, 1, 0],
    "an array": np.array([0, 1, 2, 1, 0]),
    "a tensor": torch.tensor([0, 1, 2, 1, 0]),
    "names": ["a", "b", "c", "b", "a"],
}


@pytest.mark.parametrize("classes", PER_SAMPLE.values(), ids=PER_SAMPLE)
@pytest.mark.parametrize(
    "wrap", [KDWrapper, lambda ds: KDSubset(ds, [1, 2, 3]), lambda ds: RepeatWrapper(ds, 2)]
)
def test_labels_are_not_taken_for_names(classes, wrap):
    dataset = wrap(Plain([0, 1, 2, 1, 0], classes=classes))
    for kind in (OneHotWrapper, LabelSmoothingWrapper):
        with pytest.raises(InvalidOptionError, match=r"`classes` are no names .* Pass n_classes="):
            kind(dataset)
    assert OneHotWrapper(dataset, n_classes=3).getitem_class(1).shape == (3,)
    with pytest.raises(InvalidOptionError, match="its `classes` are no names of classes"):
        ClassFilterWrapper(dataset, valid_classes=["a"])
    assert set(ClassFilterWrapper(dataset, valid_classes=[1]).getall_class()) == {1}
    remapped = RemapClassesWrapper(dataset, {0: 0, 1: 1, 2: 0})
    assert not hasattr(remapped, "classes")
    assert remapped.n_classes == 2


def test_names_are_taken_for_names():
    dataset = Plain([0, 1, 2], classes=["a", "b", "c"])
    assert OneHotWrapper(dataset).n_classes == 3
    assert OneHotWrapper(KDSubset(dataset, [0, 0, 1])).n_classes == 3
    assert len(ClassFilterWrapper(dataset, valid_classes=["a"])) == 1


def test_samples_without_a_label_are_not_repeated():
    dataset = Labelled([0] * 10 + [1] * 5 + [-1])
    assert samples(OversamplingWrapper(dataset)) == [*range(16), *range(10, 15)]
    assert samples(OversamplingWrapper(dataset, "exact")) == [*range(16), *range(10, 15)]
    assert samples(OversamplingWrapper(Labelled([-1, -1, 0]))) == [0, 1, 2]
