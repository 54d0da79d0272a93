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
        ({"from_percent": 0.25}, range(2, 10)),
        ({"to_percent": 0.75}, range(7)),
        ({"from_percent": 0.25, "to_percent": 0.75}, range(2, 7)),
        ({"from_percent": 0.25, "ceil_from_index": True}, range(3, 10)),
        ({"to_percent": 0.75, "ceil_to_index": True}, range(8)),
        ({"to_percent": 0}, []),
        ({"from_percent": 1.0}, []),
        ({"from_percent": 0.5, "to_percent": 0.5}, []),
        ({"from_percent": np.float32(0.5), "to_percent": 1}, range(5, 10)),
    ],
)
def test_a_part_is_given_by_shares_of_the_length(options, expected):
    assert samples(PercentFilterWrapper(Numbers(10), **options)) == list(expected)


def test_the_indices_can_be_asked_for():
    wrapper = PercentFilterWrapper(Numbers(10), 0.25, 0.75)
    assert (wrapper.from_index, wrapper.to_index) == (2, 7)


@given(st.integers(0, 100), st.integers(0, 300))
def test_whole_percents_are_exact_whatever_floats_make_of_them(percent, length):
    wrapper = PercentFilterWrapper(Numbers(length), to_percent=percent / 100)
    assert len(wrapper) == percent * length // 100
    wrapper = PercentFilterWrapper(Numbers(length), to_percent=percent / 100, ceil_to_index=True)
    assert len(wrapper) == -(-percent * length // 100)


@given(st.floats(0, 1), st.integers(0, 100))
def test_parts_that_meet_share_nothing_and_leave_out_nothing(share, length):
    dataset = Numbers(length)
    first = samples(PercentFilterWrapper(dataset, to_percent=share))
    second = samples(PercentFilterWrapper(dataset, from_percent=share))
    assert first + second == list(range(length))


def test_the_same_part_of_every_class_is_kept_in_the_datasets_order():
    dataset = Labelled([0, 1, 0, 1, 0, 0, 1, 1, 2])
    assert samples(ClasswisePercentWrapper(dataset, to_percent=0.5)) == [0, 1, 2, 3]
    assert samples(ClasswisePercentWrapper(dataset, from_percent=0.5)) == [4, 5, 6, 7, 8]
    wrapper = ClasswisePercentWrapper(dataset, to_percent=0.3, ceil_to_index=True)
    assert samples(wrapper) == [0, 1, 2, 3, 8]
    assert labels(wrapper) == [0, 1, 0, 1, 2]
    assert len(ClasswisePercentWrapper(dataset, 0.5, 0.5, ceil_from_index=True)) == 0


@given(st.lists(st.integers(-1, 3), max_size=40), st.floats(0, 1))
def test_parts_of_classes_that_meet_share_nothing_and_leave_out_nothing(values, share):
    dataset = Labelled(values)
    first = ClasswisePercentWrapper(dataset, to_percent=share)
    second = ClasswisePercentWrapper(dataset, from_percent=share)
    assert sorted(samples(first) + samples(second)) == list(range(len(values)))
    for label in set(values):
        expected = math.floor(round(share * values.count(label), 6))
        assert labels(first).count(label) == expected


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from_percent": -0.1}, r"^from_percent=-0\.1: expected a share.* from 0 to 1\.$"),
        ({"to_percent": 75}, r"^to_percent=75: expected a share.* Did you mean 0\.75\?"),
        ({"to_percent": math.nan}, r"^to_percent=nan: expected"),
        ({"to_percent": True}, r"^to_percent=True: expected"),
        ({"to_percent": "0.5"}, r"^to_percent='0\.5': expected"),
        ({"from_percent": [0.5]}, r"^from_percent=\[0\.5\]: expected"),
        (
            {"from_percent": 0.8, "to_percent": 0.2},
            r"^from_percent=0\.8 is above to_percent=0\.2",
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
