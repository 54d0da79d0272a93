from __future__ import annotations

import numpy as np
import pytest

from kappacore.errors import InvalidOptionError
from kappacore.wrappers import IntraClassShuffleWrapper, ShuffleWrapper, SortByClassWrapper
from support.labelled import Labelled, labels, samples
from support.numbers import Numbers

LABELS = [2, 0, 1, 0, 2, 0, 1, 0]


def test_the_order_for_a_seed_is_pinned():
    assert samples(ShuffleWrapper(Numbers(10), seed=0)) == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]
    assert samples(ShuffleWrapper(Numbers(10), seed=5)) == [7, 6, 1, 3, 2, 4, 0, 9, 5, 8]


def test_the_order_is_that_of_numpys_generator():
    expected = np.random.default_rng(2**40).permutation(100)
    assert samples(ShuffleWrapper(Numbers(100), seed=2**40)) == expected.tolist()


def test_without_a_seed_numpys_global_generator_decides():
    np.random.seed(3)
    first, second = (samples(ShuffleWrapper(Numbers(50))) for _ in range(2))
    np.random.seed(3)
    assert samples(ShuffleWrapper(Numbers(50))) == first
    assert first != second
    assert sorted(first) == list(range(50))


def test_sorting_by_class_keeps_the_order_within_each():
    wrapper = SortByClassWrapper(Labelled(LABELS))
    assert samples(wrapper) == [1, 3, 5, 7, 2, 6, 0, 4]
    assert labels(wrapper) == sorted(LABELS)
    assert samples(SortByClassWrapper(Labelled([10**9, -5, 7]))) == [1, 2, 0]


def test_shuffling_within_classes_keeps_the_sequence_of_labels():
    dataset = Labelled([value % 3 for value in range(60)])
    wrapper = IntraClassShuffleWrapper(dataset, seed=0)
    assert labels(wrapper) == labels(dataset)
    assert sorted(samples(wrapper)) == list(range(60))
    assert samples(wrapper) != list(range(60))
    assert samples(wrapper) == samples(IntraClassShuffleWrapper(dataset, seed=0))
    assert samples(wrapper) != samples(IntraClassShuffleWrapper(dataset, seed=1))


def test_the_order_within_classes_is_pinned():
    wrapper = IntraClassShuffleWrapper(Labelled(LABELS), seed=0)
    assert samples(wrapper) == [4, 3, 2, 5, 0, 1, 6, 7]


@pytest.mark.parametrize("kind", [SortByClassWrapper, IntraClassShuffleWrapper, ShuffleWrapper])
def test_an_empty_dataset_stays_empty(kind):
    assert len(kind(Labelled([]))) == 0


@pytest.mark.parametrize("seed", [-1, 1.5, "0", True, 2**63])
def test_what_is_no_seed_is_refused(seed):
    message = r"^seed=.*: expected an integer of at least 0 and below 2\*\*63\.$"
    for kind in (ShuffleWrapper, IntraClassShuffleWrapper):
        with pytest.raises(InvalidOptionError, match=message):
            kind(Labelled(LABELS), seed=seed)
