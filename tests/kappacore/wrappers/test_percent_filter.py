from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappacore.errors import DatasetTypeError, InvalidOptionError
from kappacore.wrappers import ClasswisePercentWrapper, PercentFilterWrapper
from support.labelled import Labelled, labels, samples
from support.numbers import Numbers

BOTH = pytest.mark.parametrize("kind", [PercentFilterWrapper, ClasswisePercentWrapper])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, range(10)),
        ({"from_fraction": 0.25}, range(2, 10)),
        ({"to_fraction": 0.75}, range(7)),
        ({"from_fraction": 0.25, "to_fraction": 0.75}, range(2, 7)),
        ({"from_fraction": 0.25, "ceil_from_index": True}, range(3, 10)),
        ({"to_fraction": 0.75, "ceil_to_index": True}, range(8)),
        ({"to_fraction": 0}, []),
        ({"from_fraction": 1.0}, []),
        ({"from_fraction": 0.5, "to_fraction": 0.5}, []),
        ({"from_fraction": np.float32(0.5), "to_fraction": 1}, range(5, 10)),
    ],
)
def test_a_part_is_given_by_fractions_of_the_length(options, expected):
    assert samples(PercentFilterWrapper(Numbers(10), **options)) == list(expected)


@BOTH
def test_kappadatas_names_of_the_fractions_are_accepted(kind):
    wrapper = kind(Labelled([0] * 8), from_percent=0.25, to_percent=0.5)
    assert samples(wrapper) == [2, 3]
    assert (wrapper.from_fraction, wrapper.to_fraction) == (0.25, 0.5)
    assert (wrapper.from_percent, wrapper.to_percent) == (0.25, 0.5)
    assert "from_fraction=0.25, to_fraction=0.5) of 2" in repr(wrapper)


def test_the_indices_can_be_asked_for():
    wrapper = PercentFilterWrapper(Numbers(10), 0.25, 0.75)
    assert (wrapper.from_index, wrapper.to_index) == (2, 7)


@given(st.integers(0, 100), st.integers(0, 300))
def test_whole_percents_are_exact_whatever_floats_make_of_them(percent, length):
    wrapper = PercentFilterWrapper(Numbers(length), to_fraction=percent / 100)
    assert len(wrapper) == percent * length // 100
    wrapper = PercentFilterWrapper(Numbers(length), to_fraction=percent / 100, ceil_to_index=True)
    assert len(wrapper) == -(-percent * length // 100)


@given(st.floats(0, 1), st.integers(0, 100))
def test_parts_that_meet_share_nothing_and_leave_out_nothing(fraction, length):
    dataset = Numbers(length)
    first = samples(PercentFilterWrapper(dataset, to_fraction=fraction))
    second = samples(PercentFilterWrapper(dataset, from_fraction=fraction))
    assert first + second == list(range(length))


def test_the_same_part_of_every_class_is_kept_in_the_datasets_order():
    dataset = Labelled([0, 1, 0, 1, 0, 0, 1, 1, 2])
    assert samples(ClasswisePercentWrapper(dataset, to_fraction=0.5)) == [0, 1, 2, 3]
    assert samples(ClasswisePercentWrapper(dataset, from_fraction=0.5)) == [4, 5, 6, 7, 8]
    wrapper = ClasswisePercentWrapper(dataset, to_fraction=0.3, ceil_to_index=True)
    assert samples(wrapper) == [0, 1, 2, 3, 8]
    assert labels(wrapper) == [0, 1, 0, 1, 2]
    assert len(ClasswisePercentWrapper(dataset, 0.5, 0.5, ceil_from_index=True)) == 0


@given(st.lists(st.integers(-1, 3), max_size=40), st.floats(0, 1))
def test_parts_of_classes_that_meet_share_nothing_and_leave_out_nothing(values, fraction):
    dataset = Labelled(values)
    first = ClasswisePercentWrapper(dataset, to_fraction=fraction)
    second = ClasswisePercentWrapper(dataset, from_fraction=fraction)
    assert sorted(samples(first) + samples(second)) == list(range(len(values)))
    for label in set(values):
        expected = math.floor(round(fraction * values.count(label), 6))
        assert labels(first).count(label) == expected


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_fraction": -0.1}, r"^from_fraction=-0\.1: expected a fraction from 0 to 1\.$"),
        ({"to_fraction": 75}, r"^to_fraction=75: expected a fraction.* Did you mean 0\.75\?"),
        ({"to_fraction": math.nan}, r"^to_fraction=nan: expected"),
        ({"to_fraction": True}, r"^to_fraction=True: expected"),
        ({"to_fraction": "0.5"}, r"^to_fraction='0\.5': expected"),
        ({"from_fraction": [0.5]}, r"^from_fraction=\[0\.5\]: expected"),
        (
            {"from_fraction": 0.8, "to_fraction": 0.2},
            r"^from_fraction=0\.8 is above to_fraction=0\.2",
        ),
        ({"to_percent": 75}, r"^to_percent=75: expected a fraction.* Did you mean 0\.75\?"),
        (
            {"from_percent": 0.8, "to_fraction": 0.2},
            r"^from_percent=0\.8 is above to_fraction=0\.2",
        ),
        (
            {"to_percent": 0.5, "to_fraction": 0.5},
            r"^to_percent= is KappaData's name of to_fraction=; got both",
        ),
    ],
)
def test_what_is_no_part_is_refused(kind, options, message):
    with pytest.raises(InvalidOptionError, match=message):
        kind(Labelled([0, 1]), **options)


@BOTH
def test_a_plain_dataset_is_refused(kind):
    with pytest.raises(DatasetTypeError, match=rf"{kind.__name__} needs a KDDataset; got a list"):
        kind([1, 2])
