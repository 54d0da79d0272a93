from __future__ import annotations

import numpy as np
import pytest
import torch

from kappacore.datasets import ModeWrapper, as_kd
from kappacore.errors import InvalidOptionError, MissingLabelsError, UnknownItemError
from kappacore.samplers import ClassBalancedSampler, WeightedSampler
from support.labelled import Labelled

WEIGHTS = [1, 1, 1, 1, 0, 4, 4, 4]


class Places(Labelled):
    """Has a second label beside the class."""

    def getall_place(self):
        return self.labels


LABELS = [0, 1, 2, 1, 0, 1, -1, 1, 2, 1, 1]


def test_orders_are_pinned():
    assert list(WeightedSampler(range(8), WEIGHTS)) == [5, 0, 6, 7, 0, 6, 6, 7]
    without = WeightedSampler(range(8), WEIGHTS, replacement=False, num_samples=7)
    assert list(without) == [3, 2, 6, 1, 7, 5, 0]
    by_class = WeightedSampler(Labelled(LABELS), by="class")
    assert list(by_class) == [4, 9, 8, 2, 5, 0, 4, 8, 9, 8, 0]
    assert list(ClassBalancedSampler(Labelled(LABELS), 3)) == [4, 2, 7, 2, 4, 3, 8, 5, 0]


@pytest.mark.slow
@pytest.mark.parametrize("replacement", [True, False])
def test_samples_are_drawn_as_often_as_they_weigh(replacement):
    """The first draw of each epoch, with and without replacement, goes by the weights."""
    weights = np.array([1, 2, 0, 3, 4])
    sampler = WeightedSampler(range(5), weights, num_samples=1, replacement=replacement)
    drawn = np.bincount([next(iter(sampler)) for _ in range(4000)], minlength=5)
    expected = 4000 * weights / weights.sum()
    assert drawn[2] == 0
    assert (abs(drawn - expected) < 5 * np.sqrt(expected + 1)).all()


def test_the_draws_of_an_epoch_are_in_disorder():
    drawn = np.array(list(WeightedSampler(range(1000), np.ones(1000), num_samples=10_000)))
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.05


@pytest.mark.slow
def test_without_replacement_the_second_draw_goes_by_the_weights_that_are_left():
    sampler = WeightedSampler(range(3), [6, 3, 1], num_samples=2, replacement=False)
    pairs = [tuple(sampler) for _ in range(4000)]
    after_0 = [second for first, second in pairs if first == 0]
    assert abs(after_0.count(1) / len(after_0) - 0.75) < 0.05


def test_without_replacement_all_samples_that_weigh_anything_may_be_drawn():
    sampler = WeightedSampler(range(8), WEIGHTS, num_samples=7, replacement=False)
    assert sorted(sampler) == [0, 1, 2, 3, 5, 6, 7]
    with pytest.raises(InvalidOptionError, match=r"^num_samples=8 without .* 7 of 8 samples have"):
        WeightedSampler(range(8), WEIGHTS, replacement=False)


def test_by_class_draws_every_class_as_often_and_no_sample_without_one():
    labels = np.array(LABELS)
    sampler = WeightedSampler(Labelled(labels), by="class", num_samples=30_000)
    drawn = np.array(list(sampler))
    assert set(drawn) == set(np.flatnonzero(labels >= 0))
    assert (abs(np.bincount(labels[drawn]) - 10_000) < 500).all()


def test_by_takes_any_labels_and_what_a_loader_reads():
    dataset = Places([0, 0, 0, 1])
    by_place = WeightedSampler(ModeWrapper(dataset, "x"), by="place", num_samples=1000)
    assert 400 < list(by_place).count(3) < 600
    same = as_kd([1, 2, 3, 4], items=("x",), labels=[0, 0, 0, 1])
    assert list(WeightedSampler(same, by="class", num_samples=1000)) == list(
        WeightedSampler(dataset, by="place", num_samples=1000)
    )


def test_weights_may_be_of_any_kind_and_any_scale():
    expected = list(WeightedSampler(range(8), WEIGHTS))
    for weights in (torch.tensor(WEIGHTS), np.array(WEIGHTS) * 2.0**60, tuple(WEIGHTS)):
        assert list(WeightedSampler(range(8), weights)) == expected
    given = np.array(WEIGHTS, dtype=float)
    WeightedSampler(range(8), given)
    assert given.tolist() == WEIGHTS


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, -1, 1], r"has -1\.0 at 1; expected finite numbers from 0 on"),
        ([1, 1, float("nan")], r"has nan at 2; expected finite"),
        ([float("inf"), 1, 1], r"has inf at 0; expected finite"),
        ([0, 0, 0], r"sum to 0\.0; expected at least one above 0"),
        ([1e308, 1e308, 1], r"sum to inf"),
        ([1, 1], r"has the shape \(2,\); expected one for each of 3"),
        ([[1, 1, 1]], r"has the shape \(1, 3\)"),
        (1, r"has the shape \(\)"),
        (["a", "b", "c"], r"WeightedSampler cannot use weights="),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(InvalidOptionError, match=message):
        WeightedSampler(range(3), weights)


def test_exactly_one_of_weights_and_by_is_needed():
    with pytest.raises(InvalidOptionError, match=r"takes weights= or by=; got neither"):
        WeightedSampler(range(3))
    with pytest.raises(InvalidOptionError, match=r"takes weights= or by=; got both"):
        WeightedSampler(Labelled([0, 1]), [1, 1], by="class")


@pytest.mark.parametrize("make", [ClassBalancedSampler, lambda ds: WeightedSampler(ds, by="class")])
def test_labels_are_needed(make):
    with pytest.raises(MissingLabelsError, match=r"Sampler needs labels, but"):
        make(as_kd([1, 2], items=("x",)))
    with pytest.raises(InvalidOptionError, match=r"without samples"):
        make(as_kd([], items=("x",)))
    with pytest.raises(InvalidOptionError, match=r"sum to 0|no sample has a label"):
        make(Labelled([-1, -1]))


def test_an_unknown_label_is_refused():
    with pytest.raises(UnknownItemError, match="place"):
        WeightedSampler(Labelled([0, 1]), by="place")


@pytest.mark.parametrize("number", [0, -1, 1.5])
def test_what_is_no_number_of_samples_is_refused(number):
    with pytest.raises(InvalidOptionError, match=r"^num_samples="):
        WeightedSampler(range(3), [1, 1, 1], num_samples=number)
    with pytest.raises(InvalidOptionError, match=r"^samples_per_class="):
        ClassBalancedSampler(Labelled([0, 1]), number)


# ---- class balanced


def test_every_class_occurs_as_often_and_its_samples_evenly():
    labels = np.array(LABELS)
    sampler = ClassBalancedSampler(ModeWrapper(Labelled(labels), "x"))
    for _ in range(20):
        drawn = np.array(list(sampler))
        assert np.bincount(labels[drawn]).tolist() == [6, 6, 6]
        assert set(drawn) == set(np.flatnonzero(labels >= 0))
        times = np.bincount(drawn)
        for label in range(3):
            assert np.ptp(times[labels == label]) <= 1


def test_fewer_samples_of_a_class_are_others_in_each_epoch():
    sampler = ClassBalancedSampler(Labelled([0] * 100 + [1] * 3), samples_per_class=5)
    drawn = [{index for index in sampler if index < 100} for _ in range(30)]
    assert all(len(each) == 5 for each in drawn)
    assert len(set().union(*drawn)) > 60
