from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappacore.datasets import as_kd
from kappacore.errors import (
    DatasetTypeError,
    InvalidOptionError,
    MissingLabelsError,
    UnknownItemError,
)
from kappacore.wrappers import k_fold, leave_one_group_out, split, train_test_split
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


# ---- any number of parts

GROUPS = [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4]


class Patients(Labelled):
    def getitem_patient(self, idx):
        return f"patient {GROUPS[idx]}"


def indices(parts):
    return [part.indices.tolist() for part in parts]


def left_out(folds):
    return indices(test for _, test in folds)


def test_parts_and_folds_are_pinned():
    dataset = Patients([idx % 3 for idx in range(12)])
    assert indices(split(Numbers(10), [0.6, 0.2, 0.2])) == [[2, 3, 4, 5, 6, 7], [0, 9], [1, 8]]
    assert indices(split(dataset, [0.5, 0.25, 0.25], stratified=True)) == [
        [0, 2, 4, 5, 7, 9], [3, 10, 11], [1, 6, 8],
    ]  # fmt: skip
    assert indices(split(dataset, [0.5, 0.25, 0.25], groups="patient")) == [
        [5, 6, 7, 8, 9, 10, 11], [0, 1], [2, 3, 4],
    ]  # fmt: skip
    both = split(dataset, [0.5, 0.25, 0.25], groups="patient", stratified=True, seed=1)
    assert indices(both) == [[0, 1, 2, 3, 4, 11], [5, 6], [7, 8, 9, 10]]
    assert left_out(k_fold(Numbers(10), 3)) == [[2, 4, 6, 7], [3, 5, 9], [0, 1, 8]]
    assert left_out(k_fold(dataset, 3, groups="patient")) == [
        [2, 3, 4, 5, 6], [0, 1, 11], [7, 8, 9, 10],
    ]  # fmt: skip
    assert left_out(leave_one_group_out(dataset, "patient")) == [
        [0, 1], [2, 3, 4], [5, 6], [7, 8, 9, 10], [11],
    ]  # fmt: skip


@st.composite
def labelled_groups(draw):
    length = draw(st.integers(0, 60))
    column = st.lists(st.integers(-1, 4), min_size=length, max_size=length)
    return draw(column), draw(st.one_of(st.none(), column))


@pytest.mark.slow
@given(
    labelled_groups(),
    st.lists(st.integers(0, 10), min_size=1, max_size=5).filter(any),
    st.booleans(),
    st.integers(0, 3),
)
def test_no_sample_is_in_two_parts_none_is_missing_and_groups_are_whole(
    data, weights, stratified, seed
):
    classes, groups = data
    fractions = [weight / sum(weights) for weight in weights]
    parts = split(Labelled(classes), fractions, stratified=stratified, groups=groups, seed=seed)
    assert len(parts) == len(fractions)
    together = [index for part in indices(parts) for index in part]
    assert sorted(together) == list(range(len(classes)))
    assert all(part == sorted(part) for part in indices(parts))
    if groups is not None:
        where = {}
        for number, part in enumerate(indices(parts)):
            for index in part:
                assert where.setdefault(groups[index], number) == number
    else:
        exact = [fraction * len(classes) for fraction in fractions]
        assert all(abs(len(p) - e) <= 1 + 1e-5 for p, e in zip(parts, exact, strict=True))


@pytest.mark.slow
@given(labelled_groups(), st.integers(2, 6), st.booleans())
def test_every_sample_is_left_out_once_and_no_fold_is_empty(data, k, stratified):
    classes, groups = data
    if k > len(classes if groups is None else set(groups)):
        return
    folds = k_fold(Labelled(classes), k, stratified=stratified, groups=groups)
    assert sorted(index for part in left_out(folds) for index in part) == list(range(len(classes)))
    for train, test in folds:
        assert sorted([*train.indices, *test.indices]) == list(range(len(classes)))
        assert len(test)
        if groups is None:
            assert abs(len(test) - len(classes) / k) < 1
        else:
            assert not {groups[i] for i in train.indices} & {groups[i] for i in test.indices}


@pytest.mark.parametrize("fraction", [0.8, 0.5, 0.25, 1.0, 0.0])
def test_two_parts_are_those_of_train_test_split(fraction):
    for length in (1, 9, 10, 50):
        both = indices(split(Numbers(length), [fraction, 1 - fraction], seed=4))
        assert both == indices(train_test_split(Numbers(length), fraction, seed=4))


def test_stratified_parts_have_their_fraction_of_every_class():
    dataset = Labelled([0] * 50 + [1] * 20 + [2] * 10)
    parts = split(dataset, [0.8, 0.1, 0.1], stratified=True)
    assert [np.bincount(labels(part)).tolist() for part in parts] == [
        [40, 16, 8], [5, 2, 1], [5, 2, 1],
    ]  # fmt: skip
    for _, test in k_fold(dataset, 10, stratified=True):
        assert np.bincount(labels(test)).tolist() == [5, 2, 1]


def test_groups_keep_fractions_and_classes_as_nearly_as_they_can():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(400), 5)
    classes = np.repeat(generator.choice(3, 400, p=[0.7, 0.2, 0.1]), 5)
    parts = split(Labelled(classes), [0.8, 0.1, 0.1], stratified=True, groups=groups)
    for part, fraction in zip(parts, [0.8, 0.1, 0.1], strict=True):
        exact = fraction * np.bincount(classes)
        assert (abs(np.bincount(labels(part)) - exact) <= 5).all()


def test_large_groups_are_for_training_no_more_often_than_small_ones():
    groups = [0] * 10 + list(range(1, 41))
    large = sum(
        0 in split(Numbers(50), [0.5, 0.5], groups=groups, seed=seed)[0].indices
        for seed in range(200)
    )
    assert 60 < large < 140


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ([0.8, 0.1], r"which sum to 0\.9; expected fractions that sum to 1"),
        ([0.8, 0.3], r"which sum to 1\.1;"),
        ([], r"^fractions=\[\]; expected"),
        (0.8, r"^fractions=0\.8; expected fractions that sum to 1, such as \[0\.8, 0\.1, 0\.1\]"),
        ("0.8", r"^fractions='0\.8'; expected"),
        ([80, 20], r"^fractions=80: expected a fraction from 0 to 1\. Did you mean 0\.8\?"),
        ([1.2, -0.2], r"^fractions=1\.2"),
        ([float("nan"), 1], r"^fractions=nan"),
    ],
)
def test_fractions_that_are_none_are_refused(fractions, message):
    with pytest.raises(InvalidOptionError, match=message):
        split(Numbers(), fractions)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([1, 2], r"groups= of split has the shape \(2,\); expected one .* of 3 samples: \(3,\)"),
        ([1.0, float("nan"), 2], r"sample 1 has none \(.*nan"),
        (["a", "b", None], r"sample 2 has none \(None\)"),
        (np.array(["a", 1, "b"], dtype=object), r"are of types that do not compare"),
    ],
)
def test_groups_that_are_missing_are_refused(groups, message):
    with pytest.raises(InvalidOptionError, match=message):
        split(Numbers(3), [0.5, 0.5], groups=groups)


def test_an_item_of_groups_has_to_be_there_and_known():
    with pytest.raises(UnknownItemError, match="patient"):
        split(Numbers(3), [0.5, 0.5], groups="patient")
    with pytest.raises(
        MissingLabelsError, match=r"split needs the groups .* each of the 2 samples"
    ):
        split(as_kd([(1, 2), (3, 4)], items=("x", "patient")), [0.5, 0.5], groups="patient")
    with pytest.raises(MissingLabelsError, match=r"^k_fold needs labels"):
        k_fold(as_kd([1, 2], items=("x",)), 2, stratified=True)


def test_folds_that_cannot_be_are_refused():
    with pytest.raises(InvalidOptionError, match=r"^k=1"):
        k_fold(Numbers(), 1)
    with pytest.raises(InvalidOptionError, match=r"^k=11 folds of 10 samples"):
        k_fold(Numbers(10), 11)
    with pytest.raises(InvalidOptionError, match=r"^k=3 folds of 2 groups"):
        k_fold(Numbers(3), 3, groups=[0, 0, 1])
    with pytest.raises(InvalidOptionError, match=r"at least two groups; the 3 samples are of 1"):
        leave_one_group_out(Numbers(3), [1, 1, 1])


class Halves:
    """A splitter as scikit-learn has them."""

    def split(self, X, y=None, groups=None):  # noqa: N803 - its name there
        self.given = (
            len(X),
            None if y is None else list(y),
            None if groups is None else list(groups),
        )
        first = np.arange(len(X)) < len(X) // 2
        yield np.flatnonzero(first), np.flatnonzero(~first)
        yield np.flatnonzero(~first), np.flatnonzero(first)


def test_a_splitter_gets_labels_and_groups():
    splitter = Halves()
    folds = split(Labelled([0, 1, 1, 0]), splitter, groups=["b", "a", "b", "a"])
    assert splitter.given == (4, [0, 1, 1, 0], [1, 0, 1, 0])
    assert [indices(fold) for fold in folds] == [[[0, 1], [2, 3]], [[2, 3], [0, 1]]]
    split(as_kd([1, 2], items=("x",)), splitter)
    assert splitter.given == (2, None, None)
    with pytest.raises(InvalidOptionError, match=r"a Halves decides it by itself"):
        split(Labelled([0, 1]), splitter, stratified=True)


@pytest.mark.parametrize("function", [split, k_fold, leave_one_group_out])
def test_plain_datasets_are_refused(function):
    with pytest.raises(DatasetTypeError, match=rf"{function.__name__} needs a KDDataset; got a li"):
        function([1, 2], [0.5, 0.5])
