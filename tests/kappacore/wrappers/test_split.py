from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappacore.datasets import as_kd
from kappacore.errors import DatasetTypeError, InvalidOptionError, MissingLabelsError
from kappacore.wrappers import train_test_split
from support.labelled import Labelled, labels, samples
from support.numbers import Numbers


@given(st.integers(0, 60), st.floats(0, 1), st.booleans())
def test_both_parts_together_have_every_sample_once_in_order(length, fraction, stratified):
    dataset = Labelled([idx % 3 for idx in range(length)])
    train, test = train_test_split(dataset, fraction, stratified)
    assert len(train) == int(np.floor(round(fraction * length, 6) + 0.5))
    assert sorted(samples(train) + samples(test)) == list(range(length))
    assert train.indices.tolist() == sorted(train.indices.tolist())


def test_the_split_for_a_seed_is_pinned():
    assert samples(train_test_split(Numbers(10))[1]) == [1, 8]
    assert samples(train_test_split(Numbers(10), seed=1)[1]) != [1, 8]
    assert samples(train_test_split(Numbers(10), 0.5)[0]) == [2, 3, 4, 6, 7]


def test_stratified_parts_have_the_same_share_of_every_class():
    dataset = Labelled([0] * 50 + [1] * 20 + [2] * 10)
    train, test = train_test_split(dataset, 0.9, stratified=True, seed=3)
    assert np.bincount(labels(train)).tolist() == [45, 18, 9]
    assert np.bincount(labels(test)).tolist() == [5, 2, 1]
    other, _ = train_test_split(dataset, 0.9, stratified=True, seed=4)
    assert samples(other) != samples(train)


def test_small_classes_share_what_rounding_leaves():
    train, _ = train_test_split(Labelled([0, 0, 0, 1, 1, 1, 2, 2]), 0.5, stratified=True)
    assert len(train) == 4
    assert min(np.bincount(labels(train))) == 1


@pytest.mark.parametrize("fraction", [1.5, -0.1, "half", None])
def test_what_is_no_fraction_is_refused(fraction):
    with pytest.raises(InvalidOptionError, match=r"^fraction=.*: expected a fraction"):
        train_test_split(Numbers(), fraction)


def test_stratified_without_labels_is_refused():
    dataset = as_kd([1, 2], items=("x",))
    train_test_split(dataset)
    with pytest.raises(MissingLabelsError, match=r"^train_test_split needs labels"):
        train_test_split(dataset, stratified=True)


def test_a_plain_dataset_is_refused():
    with pytest.raises(DatasetTypeError, match=r"train_test_split needs a KDDataset; got a list"):
        train_test_split([1, 2])
