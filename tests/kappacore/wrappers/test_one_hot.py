from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kappacore.datasets import KDSubset, ModeWrapper, as_kd
from kappacore.errors import InvalidItemError, InvalidOptionError
from kappacore.wrappers import ClassFilterWrapper, LabelSmoothingWrapper, OneHotWrapper
from support.labelled import Labelled
from support.numbers import Numbers

LABELS = [2, 0, 1]
EYE = torch.eye(3)[LABELS]


def column(dataset, item="class"):
    """Return the values one by one, after seeing that batches and the column are the same."""
    values = torch.stack(list(ModeWrapper(dataset, item)))
    assert torch.equal(torch.stack(ModeWrapper(dataset, item)[:]), values)
    if hasattr(dataset, f"getall_{item}"):
        assert torch.equal(getattr(dataset, f"getall_{item}")(), values)
    return values


def test_labels_become_one_hot_vectors():
    wrapper = OneHotWrapper(Labelled(LABELS))
    assert torch.equal(column(wrapper), EYE)
    assert column(wrapper).dtype == torch.float32
    assert wrapper.n_classes == 3
    assert ModeWrapper(wrapper, "x")[1] == 10


def test_the_number_of_classes_may_be_given_or_follow_from_the_names():
    assert column(OneHotWrapper(Labelled(LABELS), n_classes=5)).shape == (3, 5)
    dataset = Labelled(LABELS, ["a", "b", "c", "d"])
    dataset.n_classes = None
    assert column(OneHotWrapper(dataset)).shape == (3, 4)


def test_smoothing_spreads_a_part_over_all_classes():
    expected = EYE * 0.7 + 0.1
    assert torch.allclose(column(LabelSmoothingWrapper(Labelled(LABELS), smoothing=0.3)), expected)
    above = LabelSmoothingWrapper(OneHotWrapper(Labelled(LABELS)), smoothing=0.3)
    assert torch.allclose(column(above), expected)
    assert torch.equal(column(LabelSmoothingWrapper(Labelled(LABELS), 0)), EYE)
    assert torch.allclose(column(LabelSmoothingWrapper(Labelled(LABELS))).sum(1), torch.ones(3))


def test_labels_without_a_column_become_vectors_too():
    assert torch.equal(column(OneHotWrapper(Numbers(10), 10, label="y"), "y"), torch.eye(10))


def test_a_vector_may_be_changed_in_place():
    wrapper = OneHotWrapper(Labelled(LABELS))
    for value in ModeWrapper(wrapper, "class")[:]:
        value += 1
    assert torch.equal(column(wrapper), EYE)


def test_vectors_go_through_subsets_and_loaders():
    subset = KDSubset(OneHotWrapper(Labelled(LABELS)), [1, 0])
    assert torch.equal(subset.getall_class(), EYE[[1, 0]])
    (batch,) = DataLoader(ModeWrapper(subset, "class"), batch_size=2)
    assert torch.equal(batch, EYE[[1, 0]])


def test_the_fingerprint_tells_classes_and_smoothing():
    dataset = Labelled(LABELS)
    made = [
        OneHotWrapper(dataset),
        OneHotWrapper(dataset, 4),
        LabelSmoothingWrapper(dataset, 0.1),
        LabelSmoothingWrapper(dataset, 0.2),
    ]
    assert len({dataset.fingerprint("class"), *(w.fingerprint("class") for w in made)}) == 5
    assert OneHotWrapper(Numbers(), 10, label="y").fingerprint("y") is None


def test_what_goes_by_labels_belongs_below():
    for above in (OneHotWrapper(Labelled(LABELS)), KDSubset(OneHotWrapper(Labelled(LABELS)), [0])):
        with pytest.raises(InvalidItemError, match=r"vectors above OneHotWrapper; put .* below it"):
            ClassFilterWrapper(above, valid_classes=[0])


@pytest.mark.parametrize("number", [-1, 3])
def test_a_label_that_is_no_class_is_named(number):
    wrapper = OneHotWrapper(Labelled([0, number]), n_classes=3)
    message = rf"OneHotWrapper got the label {number}; expected a class from 0 to 2"
    with pytest.raises(InvalidItemError, match=message):
        wrapper.getitem_class(1)
    with pytest.raises(InvalidItemError, match=message):
        wrapper.getall_class()


def test_a_vector_of_another_length_is_refused():
    above = LabelSmoothingWrapper(OneHotWrapper(Labelled(LABELS)), n_classes=4)
    with pytest.raises(InvalidItemError, match=r"label of shape \(3,\); expected .* n_classes=4"):
        above.getitem_class(0)
    with pytest.raises(InvalidItemError, match=r"label of shape \(3,\)"):
        above.getall_class()


def test_an_unknown_number_of_classes_is_refused():
    for kind in (OneHotWrapper, LabelSmoothingWrapper):
        with pytest.raises(InvalidOptionError, match=rf"{kind.__name__} needs the number of"):
            kind(Numbers(), label="y")


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, "a"])
def test_what_is_no_smoothing_is_refused(smoothing):
    with pytest.raises(InvalidOptionError, match=r"^smoothing=.*: expected a fraction"):
        LabelSmoothingWrapper(Labelled(LABELS), smoothing)


def test_no_classes_at_all_are_refused():
    with pytest.raises(InvalidOptionError, match=r"^n_classes=0: expected an integer of at"):
        OneHotWrapper(Labelled([]))


@pytest.mark.parametrize("labels", [[0.7, 1.2], ["0", "1"], np.array([0.0, 1.5])])
def test_labels_that_are_no_class_numbers_are_refused(labels):
    dataset = OneHotWrapper(as_kd([1, 2], items=("x",), labels=labels), n_classes=2)
    with pytest.raises(InvalidItemError, match=r"got the label .*; expected a class from 0 to 1"):
        dataset.getitem_class(0)
    with pytest.raises(InvalidItemError, match=r"got the label .*; expected a class from 0 to 1"):
        dataset.getall_class()


def test_labels_may_be_vectors_in_lists():
    vectors = [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]
    dataset = OneHotWrapper(as_kd([1, 2, 3], items=("x",), labels=vectors), n_classes=2)
    assert dataset.getall_class().tolist() == vectors
    assert [label.tolist() for label in ModeWrapper(dataset, "class")] == vectors


def test_smoothing_keeps_samples_without_a_label():
    """As in KappaData 1.x: a vector of -1, which a loss can leave out."""
    smoothed = LabelSmoothingWrapper(Labelled([1, -1, 0]), 0.5, n_classes=2)
    expected = [[0.25, 0.75], [-1.0, -1.0], [0.75, 0.25]]
    assert [vector.tolist() for vector in ModeWrapper(smoothed, "class")] == expected
    assert smoothed.getall_class().tolist() == expected
    with pytest.raises(InvalidItemError):
        ModeWrapper(LabelSmoothingWrapper(Labelled([-2]), n_classes=2), "class")[0]
