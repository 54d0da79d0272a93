from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from kappacore.datasets import KDSubset, as_kd
from kappacore.errors import InvalidItemError, InvalidOptionError
from kappacore.wrappers import ClassFilterWrapper, RemapClassesWrapper
from support.labelled import Labelled, labels, samples
from support.numbers import Numbers

LABELS = [2, 0, 1, 0, 2]
NAMES = ["cat", "dog", "fox"]


@pytest.mark.parametrize(
    "mapping",
    [
        {0: 1, 1: 0, 2: 1},
        {"cat": 1, "dog": 0, "fox": 1},
        [1, 0, 1],
        np.array([1, 0, 1]),
        torch.tensor([1, 0, 1]),
    ],
)
def test_classes_get_other_numbers(mapping):
    wrapper = RemapClassesWrapper(Labelled(LABELS, NAMES), mapping)
    assert labels(wrapper) == [1, 1, 0, 1, 1]
    assert wrapper.getall_class().tolist() == [1, 1, 0, 1, 1]
    assert wrapper.n_classes == 2
    assert wrapper.mapping == {0: 1, 1: 0, 2: 1}
    assert samples(wrapper) == [0, 1, 2, 3, 4]


def test_the_names_follow():
    pets = ClassFilterWrapper(Labelled(LABELS, NAMES), valid_classes=["dog", "fox"])
    wrapper = RemapClassesWrapper(pets, {"fox": 0, "dog": 1})
    assert labels(wrapper) == [0, 1, 0]
    assert wrapper.classes == ["fox", "dog"]
    assert wrapper.class_to_idx == {"fox": 0, "dog": 1}
    assert labels(ClassFilterWrapper(wrapper, valid_classes=["dog"])) == [1]


def test_the_names_of_classes_that_become_one_are_joined_or_given():
    dataset = Labelled(LABELS, NAMES)
    assert RemapClassesWrapper(dataset, [0, 0, 1]).classes == ["cat/dog", "fox"]
    assert RemapClassesWrapper(dataset, [0, 0, 1], classes=["pet", "fox"]).classes == ["pet", "fox"]


def test_names_that_are_not_known_are_not_made_up():
    wrapper = RemapClassesWrapper(Labelled(LABELS, NAMES), [0, 5, 1])
    assert wrapper.n_classes == 6
    assert not hasattr(wrapper, "class_to_idx")
    with pytest.raises(AttributeError, match=r"no 'classes': .*Pass them: classes="):
        wrapper.classes  # noqa: B018
    assert not hasattr(RemapClassesWrapper(Labelled(LABELS), [0, 1, 2]), "classes")


def test_there_may_be_more_classes_than_occur():
    assert RemapClassesWrapper(Labelled(LABELS), [0, 1, 2], n_classes=10).n_classes == 10


@pytest.mark.parametrize("targets", [LABELS, np.array(LABELS), torch.tensor(LABELS)])
def test_targets_follow_as_what_they_are(targets):
    dataset = Labelled(LABELS)
    dataset.targets = targets
    mapped = RemapClassesWrapper(KDSubset(dataset, [0, 1, 2]), [5, 6, 7]).targets
    assert type(mapped) is type(targets)
    assert list(mapped) == [7, 5, 6]


def test_targets_that_are_no_labels_stay():
    dataset = Labelled(LABELS)
    for targets in (["a"] * 5, [0.5] * 5, [9] * 5, 3):
        dataset.targets = targets
        assert RemapClassesWrapper(dataset, [0, 1, 2]).targets == targets


def test_labels_far_apart_are_mapped():
    wrapper = RemapClassesWrapper(Labelled([10**12, -3, 5]), {-3: 0, 5: 1, 10**12: 2})
    assert wrapper.getall_class().tolist() == [2, 0, 1]
    assert labels(wrapper) == [2, 0, 1]


def test_labels_without_a_column_are_mapped():
    wrapper = RemapClassesWrapper(Numbers(4), [3, 2, 1, 0], label="y")
    assert wrapper.getitems_y([0, 3]) == [3, 0]
    assert wrapper.getitem_y(1) == 2
    assert not hasattr(wrapper, "getall_y")


def test_mappings_follow_one_another():
    twice = RemapClassesWrapper(RemapClassesWrapper(Labelled(LABELS), [1, 2, 0]), [1, 2, 0])
    assert twice.getall_class().tolist() == [1, 2, 0, 2, 1]


def test_the_fingerprint_tells_the_mapping():
    dataset = Labelled(LABELS)
    found = {
        RemapClassesWrapper(dataset, mapping).fingerprint("class")
        for mapping in ([0, 1, 2], [0, 1, 1], {2: 1, 1: 1, 0: 0})
    }
    assert len(found | {dataset.fingerprint("class")}) == 3
    assert RemapClassesWrapper(Numbers(), range(10)).fingerprint("y") is None
    assert RemapClassesWrapper(dataset, [0, 1, 2]).fingerprint("x") == dataset.fingerprint("x")


def test_it_pickles():
    wrapper = pickle.loads(pickle.dumps(RemapClassesWrapper(Labelled(LABELS, NAMES), [1, 0, 1])))
    assert labels(wrapper) == [1, 1, 0, 1, 1]
    assert wrapper.classes == ["dog", "cat/fox"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mapping": {0: 0, 1: 1}},
            r"^mapping= has no new number for \[2\], which occur",
        ),
        ({"mapping": [0]}, r"^mapping= has no new number for \[1, 2\]"),
        ({"mapping": [0, -1, 1]}, r"^mapping\[1\]=-1: expected an integer of at least 0"),
        ({"mapping": {0: "a", 1: 0, 2: 0}}, r"^mapping\[0\]='a': expected an integer"),
        ({"mapping": {"cow": 0}}, r"^mapping has 'cow', which is the name of no class"),
        ({"mapping": {0: 0, "cat": 1, 1: 1, 2: 1}}, r"^mapping= has two entries for 1 classes"),
        ({"mapping": "abc"}, r"^mapping='abc': expected \{old: new"),
        ({"mapping": 3}, r"^mapping=3: expected \{old: new"),
        ({"mapping": [0, 1, 2], "n_classes": 2}, r"^n_classes=2, but mapping= .* number 2"),
        ({"mapping": [0, 1, 1], "classes": ["a"]}, r"^classes= has 1 names for 2 classes"),
    ],
)
def test_what_is_no_mapping_is_refused(options, message):
    with pytest.raises(InvalidOptionError, match=message):
        RemapClassesWrapper(Labelled(LABELS, NAMES), **options)


def test_a_label_that_has_appeared_since_is_an_error():
    dataset = Labelled([0, 1])
    wrapper = RemapClassesWrapper(dataset, [1, 0])
    dataset.labels[1] = 2
    with pytest.raises(InvalidItemError, match=r"a sample has the label 2, for which mapping="):
        labels(wrapper)
    with pytest.raises(InvalidItemError, match=r"a sample has the label 2, for which mapping="):
        wrapper.getall_class()


def test_numbers_of_torch_are_mapped():
    tensors = as_kd([(1, torch.tensor(0)), (2, torch.tensor(1))], labels=torch.tensor([0, 1]))
    assert labels(RemapClassesWrapper(tensors, [4, 3])) == [4, 3]


def test_a_label_between_two_classes_is_none():
    class Soft(Labelled):
        def getitem_class(self, idx):
            return self.labels[idx] + 0.5

        def getall_class(self):
            return self.labels

    with pytest.raises(InvalidItemError, match=r"^a sample has the label 0\.5, for which"):
        RemapClassesWrapper(Soft([0, 1]), [1, 0]).getitem_class(0)


@pytest.mark.parametrize("names", ["ab", 2])
def test_names_that_are_no_list_are_refused(names):
    with pytest.raises(InvalidOptionError, match=r"^classes=.*: expected a list of names"):
        RemapClassesWrapper(Labelled([0, 1]), [0, 1], classes=names)
