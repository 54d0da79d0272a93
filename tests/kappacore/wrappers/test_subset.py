from __future__ import annotations

import numpy as np
import pytest
import torch

from kappacore.errors import (
    DatasetTypeError,
    IndexOutOfRangeError,
    InvalidIndexError,
    InvalidOptionError,
)
from kappacore.wrappers import SubsetWrapper
from support.labelled import samples
from support.numbers import BatchNumbers, Numbers

MASK = [False, True, False, True, True]


@pytest.mark.parametrize("indices", [[3, 1, -1], np.array([3, 1, 4]), torch.tensor([3, 1, 4])])
def test_samples_are_chosen_by_indices(indices):
    assert samples(SubsetWrapper(Numbers(5), indices)) == [3, 1, 4]


@pytest.mark.parametrize(
    "mask", [MASK, tuple(MASK), list(np.array(MASK)), np.array(MASK), torch.tensor(MASK)]
)
def test_samples_are_chosen_by_a_mask(mask):
    assert samples(SubsetWrapper(Numbers(5), mask)) == [1, 3, 4]


@pytest.mark.parametrize(
    ("start", "end"), [(2, None), (None, 3), (1, 4), (-2, None), (None, -1), (0, 100), (4, 2)]
)
def test_start_and_end_are_those_of_a_slice(start, end):
    wrapper = SubsetWrapper(Numbers(5), start=start, end=end)
    assert samples(wrapper) == list(range(5)[start:end])


def test_subsets_compose():
    root = BatchNumbers(10)
    outer = SubsetWrapper(SubsetWrapper(root, start=5), [True, False, True, False, False])
    assert outer.root is root
    assert outer.root_indices.tolist() == [5, 7]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, InvalidOptionError, r"takes indices=, or start= and end=; got neither"),
        ({"indices": [0], "end": 3}, InvalidOptionError, "got both"),
        ({"indices": [True]}, InvalidOptionError, r"^indices= is a mask of shape \(1,\) for .* 5"),
        ({"indices": np.ones((5, 1), bool)}, InvalidOptionError, r"mask of shape \(5, 1\)"),
        ({"start": 0.5}, InvalidOptionError, r"takes integers for start and end; got 0\.5"),
        ({"indices": [5]}, IndexOutOfRangeError, "index 5 is out of range for SubsetWrapper of 5"),
        ({"indices": "12"}, InvalidIndexError, "SubsetWrapper takes a list"),
    ],
)
def test_what_is_no_part_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        SubsetWrapper(Numbers(5), **given)


def test_a_plain_dataset_is_refused():
    with pytest.raises(DatasetTypeError, match=r"SubsetWrapper needs a KDDataset; got a list"):
        SubsetWrapper([1, 2], end=1)
