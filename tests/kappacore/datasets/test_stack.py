from __future__ import annotations

import functools

import numpy as np
import pytest
import torch.utils.data
from torch.utils.data import DataLoader

from kappacore.caching import CachedDataset, CacheWrapper
from kappacore.datasets import (
    KDConcatDataset,
    KDSubset,
    KDWrapper,
    ModeWrapper,
    as_kd,
    find_wrapper,
    iter_wrappers,
)
from kappacore.errors import EmptyDatasetError
from kappacore.wrappers import (
    ClassFilterWrapper,
    PercentFilterWrapper,
    RepeatWrapper,
    ShuffleWrapper,
    SubsetWrapper,
    TransformWrapper,
)
from support.labelled import Labelled
from support.numbers import Numbers, add_one


def names(dataset):
    return [type(part).__name__ for part in iter_wrappers(dataset)]


def test_wrappers_come_from_the_outermost_on():
    stack = ModeWrapper(KDSubset(TransformWrapper(KDSubset(Numbers(), [1, 2]), add_one), [0]), "x")
    assert names(stack) == ["ModeWrapper", "KDSubset", "TransformWrapper", "KDSubset"]
    assert names(Numbers()) == []


def test_what_is_in_a_concatenation_comes_one_after_another():
    stack = KDConcatDataset([RepeatWrapper(Numbers(), 2), Numbers(), KDSubset(Numbers(), [1])])
    assert names(stack) == ["KDConcatDataset", "RepeatWrapper", "KDSubset"]


def test_datasets_of_torch_and_caches_are_looked_into():
    plain = torch.utils.data.Subset([(1, 2), (3, 4)], [0])
    with CachedDataset(ModeWrapper(as_kd(plain), "x"), "memory") as cached:
        assert names(cached) == ["CachedDataset", "ModeWrapper", "AdaptedDataset", "Subset"]


def test_a_cache_over_torchs_stack_lists_its_parts():
    image, label = ([0, 1], [2, 3])
    for stacked in (
        torch.utils.data.StackDataset(image, label),
        torch.utils.data.StackDataset(image=image, label=label),
    ):
        with CachedDataset(stacked, "memory") as cached:
            lines = ["CachedDataset(backend='memory') of 2", "  StackDataset of 2", "    list of 2"]
            parts = [line.replace("()", "") for line in repr(cached).splitlines()]
            assert parts == [*lines, "    list of 2"]


def test_a_wrapper_is_found_by_its_type():
    inner = TransformWrapper(Numbers(), add_one)
    outer = TransformWrapper(RepeatWrapper(inner, 2), add_one, "y")
    assert find_wrapper(ModeWrapper(outer, "x"), TransformWrapper) is outer
    assert find_wrapper(outer.dataset, TransformWrapper) is inner
    assert find_wrapper(outer, KDWrapper) is outer
    assert find_wrapper(outer, CacheWrapper) is None


def test_a_stack_is_shown_one_part_a_line():
    dataset = Labelled([0, 1, 2, 1], ["a", "b", "c"])
    stack = ClassFilterWrapper(dataset, valid_classes=["b"])
    stack = TransformWrapper(RepeatWrapper(stack, repetitions=3), str, seed=0)
    mode = ModeWrapper(KDSubset(stack, np.arange(3)), "x class")
    assert repr(mode).splitlines() == [
        "ModeWrapper(mode='x class') of 3",
        "  KDSubset(indices=array([0, 1, 2])) of 3",
        "    TransformWrapper(transform=<class 'str'>, seed=0) of 6",
        "      RepeatWrapper(repetitions=3) of 6",
        "        ClassFilterWrapper(valid_classes=[1]) of 2",
        "          Labelled(labels=array([0, 1, 2, 1])) of 4",
    ]


def test_long_values_are_shortened_and_defaults_left_out():
    assert repr(Numbers()) == "Numbers() of 10"
    assert repr(KDSubset(Numbers(100), range(50))).splitlines() == [
        "KDSubset(indices=<50 values>) of 50",
        "  Numbers(length=100) of 100",
    ]
    transformed = TransformWrapper(Numbers(), functools.partial(str, "y" * 100))
    assert repr(transformed).splitlines()[0].endswith("yyy…) of 10")


def test_parts_of_a_concatenation_are_shown_side_by_side():
    assert repr(Numbers(1) + KDSubset(Numbers(2), [1])).splitlines() == [
        "KDConcatDataset() of 2",
        "  Numbers(length=1) of 1",
        "  KDSubset(indices=array([1])) of 1",
        "    Numbers(length=2) of 2",
    ]


def test_a_dataset_without_a_length_is_shown_too():
    class Endless(Numbers):
        __len__ = None

    assert repr(Endless()) == "Endless()"


# ---- nothing left


EMPTY = {
    "filter": lambda: ClassFilterWrapper(Labelled([0, 1]), valid_classes=[]),
    "percent": lambda: PercentFilterWrapper(Numbers(), to_percent=0.0),
    "subset": lambda: SubsetWrapper(Numbers(), []),
    "below others": lambda: RepeatWrapper(
        ShuffleWrapper(PercentFilterWrapper(Numbers(), 0.5, 0.5)), 2
    ),
}


@pytest.mark.parametrize("make", EMPTY.values(), ids=EMPTY)
def test_an_epoch_of_nothing_is_an_error_that_names_the_wrapper(make):
    dataset = make()
    assert len(dataset) == 0
    mode = ModeWrapper(dataset, "x")
    message = r"^There is no sample to read: (Class|Percent|Subset)\w+\(.*\) of 0 left none of the"
    for begin in (
        lambda: next(iter(mode)),
        lambda: next(iter(DataLoader(mode, batch_size=2))),
        lambda: list(DataLoader(mode)),
        lambda: DataLoader(mode, shuffle=True),
        lambda: mode[0],
    ):
        with pytest.raises(EmptyDatasetError, match=message):
            begin()
    assert repr(mode).startswith("ModeWrapper(mode='x')\n")


def test_a_part_of_a_concatenation_may_be_empty():
    both = KDConcatDataset([PercentFilterWrapper(Numbers(2), to_percent=0), Numbers(2)])
    assert list(ModeWrapper(both, "x")) == [0, 10]


def test_a_source_or_indices_without_samples_are_an_epoch_of_nothing():
    assert list(DataLoader(ModeWrapper(Numbers(0), "x"))) == []
    assert list(ModeWrapper(KDSubset(Numbers(), []), "x")) == []
    assert list(ModeWrapper(ShuffleWrapper(Numbers(0), 0), "x")) == []


def test_secrets_are_not_shown():
    class Remote(Numbers):
        def __init__(self, url, access_token):
            super().__init__(3)
            self.url, self._access_token = url, access_token

    text = repr(KDSubset(Remote("https://me:hunter2@host/", access_token="xyz"), [0]))
    assert "Remote(url='https://***@host/', access_token='***') of 3" in text
