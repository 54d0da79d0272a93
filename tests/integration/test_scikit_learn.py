"""Splitters of scikit-learn, taken as they are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import (
    KFold,
    LeaveOneGroupOut,
    StratifiedGroupKFold,
    StratifiedShuffleSplit,
)

from kappacore.wrappers import split
from support.labelled import Labelled, labels

CLASSES = np.tile([0, 0, 0, 1], 30)
GROUPS = np.repeat(np.arange(30), 4)


class Patients(Labelled):
    def getall_patient(self):
        return [f"patient {group}" for group in GROUPS]


@pytest.mark.parametrize(
    ("splitter", "groups"),
    [
        (KFold(4), None),
        (StratifiedShuffleSplit(3, random_state=0), None),
        (StratifiedGroupKFold(5), "patient"),
        (LeaveOneGroupOut(), "patient"),
    ],
    ids=str,
)
def test_its_folds_are_those_that_it_makes_of_arrays(splitter, groups):
    folds = split(Patients(CLASSES), splitter, groups=groups)
    names = None if groups is None else np.array([f"patient {group}" for group in GROUPS])
    expected = list(splitter.split(np.zeros(len(CLASSES)), CLASSES, names))
    assert len(folds) == len(expected)
    for (train, test), (train_indices, test_indices) in zip(folds, expected, strict=True):
        assert train.indices.tolist() == train_indices.tolist()
        assert test.indices.tolist() == test_indices.tolist()


def test_groups_stay_whole_and_classes_in_proportion():
    for train, test in split(Patients(CLASSES), StratifiedGroupKFold(5), groups="patient"):
        assert not set(GROUPS[train.indices]) & set(GROUPS[test.indices])
        assert np.mean(labels(test)) == 0.25
