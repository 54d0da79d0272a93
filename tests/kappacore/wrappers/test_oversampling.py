from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappacore.errors import InvalidOptionError
from kappacore.wrappers import OversamplingWrapper
from support.labelled import Labelled, labels, samples

LABELS = [0, 1, 0, 0, 2, 1, 0, 0]  # 5, 2 and 1


def test_multiply_repeats_smaller_classes_as_often_as_they_fit_into_the_largest():
    assert samples(OversamplingWrapper(Labelled(LABELS))) == [*range(8), 1, 5, 4, 4, 4, 4]


def test_exact_makes_every_class_as_large_as_the_largest():
    dataset = OversamplingWrapper(Labelled(LABELS), strategy="exact")
    assert samples(dataset) == [*range(8), 1, 5, 1, 4, 4, 4, 4]
    assert np.bincount(labels(dataset)).tolist() == [5, 5, 5]


def test_balanced_classes_and_empty_ones_stay_as_they_are():
    dataset = Labelled([2, 0, 2, 0], ["a", "b", "c"])
    assert samples(OversamplingWrapper(dataset)) == [0, 1, 2, 3]
    assert samples(OversamplingWrapper(dataset, "exact")) == [0, 1, 2, 3]


def test_an_empty_dataset_stays_empty():
    assert len(OversamplingWrapper(Labelled([]))) == 0


@pytest.mark.slow
@given(st.lists(st.sampled_from([-1, 0, 1, 5, 70_000]), max_size=30))
def test_the_result_is_what_a_loop_over_classes_gives(values):
    labelled = [value for value in values if value >= 0]
    largest = max(map(values.count, labelled), default=0)
    multiplied, exact = list(range(len(values))), list(range(len(values)))
    for label in sorted(set(labelled)):  # -1 is no class: kept once
        mine = [idx for idx, value in enumerate(values) if value == label]
        multiplied += mine * (largest // len(mine) - 1)
        exact += (mine * largest)[: largest - len(mine)]
    assert samples(OversamplingWrapper(Labelled(values))) == multiplied
    assert samples(OversamplingWrapper(Labelled(values), "exact")) == exact


def test_an_unknown_strategy_is_refused():
    with pytest.raises(InvalidOptionError, match=r"^strategy='add' is unknown; expected"):
        OversamplingWrapper(Labelled(LABELS), strategy="add")
