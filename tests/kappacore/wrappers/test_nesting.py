"""Whatever wrappers are nested in, every way of reading gives what a plain list would."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kappacore.caching import CacheWrapper
from kappacore.datasets import KDConcatDataset, KDWrapper, ModeWrapper, find_item
from kappacore.wrappers import (
    ClassFilterWrapper,
    ClasswisePercentWrapper,
    IntraClassShuffleWrapper,
    OversamplingWrapper,
    PercentFilterWrapper,
    RemapClassesWrapper,
    RepeatWrapper,
    ShuffleWrapper,
    SortByClassWrapper,
    SubsetWrapper,
    TransformWrapper,
)
from support.labelled import Labelled
from support.numbers import add_one


def by_class(model):
    return sorted(model, key=lambda sample: sample[1])


def remapped(model):
    return [(x, 3 - label) for x, label in model]


WRAPPERS = {
    "filter": (
        lambda ds: ClassFilterWrapper(ds, invalid_classes=[1] if 1 in ds.getall_class() else []),
        lambda model: [sample for sample in model if sample[1] != 1],
    ),
    "repeat": (lambda ds: RepeatWrapper(ds, 2), lambda model: model * 2),
    "percent": (
        lambda ds: PercentFilterWrapper(ds, 0.25, 0.75),
        lambda model: model[len(model) // 4 : len(model) * 3 // 4],
    ),
    "sort": (SortByClassWrapper, by_class),
    "shuffle": (
        lambda ds: ShuffleWrapper(ds, seed=1),
        lambda model: [model[idx] for idx in np.random.default_rng(1).permutation(len(model))],
    ),
    "remap": (lambda ds: RemapClassesWrapper(ds, [3, 2, 1, 0]), remapped),
    "end": (lambda ds: SubsetWrapper(ds, end=-1), lambda model: model[:-1]),
    "twice": (lambda ds: KDConcatDataset([ds, ds]), lambda model: model + model),
    "plain": (KDWrapper, lambda model: model),
    "cache": (lambda ds: CacheWrapper(ds, "memory", items="x class"), lambda model: model),
    "cache x": (lambda ds: CacheWrapper(ds, "memory", items="x"), lambda model: model),
    "transform": (
        lambda ds: TransformWrapper(ds, add_one),
        lambda model: [(x + 1, label) for x, label in model],
    ),
}

#: These are compared with what they promise, not with a model.
PERMUTING = {
    "intra": lambda ds: IntraClassShuffleWrapper(ds, seed=2),
    "half": lambda ds: ClasswisePercentWrapper(ds, to_percent=0.5, ceil_to_index=True),
    "oversample": lambda ds: OversamplingWrapper(ds, "exact"),
}

VALUES = st.lists(st.integers(0, 3), max_size=8)


def check(dataset, model, data):
    count = len(model)
    assert len(dataset) == count
    column = dataset.getall_class()
    assert list(column) == [label for _, label in model]
    x, label = find_item(dataset, "x"), find_item(dataset, "class")
    assert [(x.get(idx), label.get(idx)) for idx in range(count)] == model
    indices = data.draw(st.lists(st.integers(0, count - 1), max_size=6)) if count else []
    wanted = [model[idx] for idx in indices]
    assert list(zip(x.get_batch(indices), label.get_batch(indices), strict=True)) == wanted
    if count:
        assert ModeWrapper(dataset, "x class").__getitems__(indices) == wanted


@pytest.mark.filterwarnings("ignore:This cache reads and keeps samples more than once")
@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, st.lists(st.sampled_from(sorted(WRAPPERS)), max_size=6), st.data())
def test_any_order_of_nesting_gives_what_a_list_would(values, names, data):
    model = [(10 * idx, label) for idx, label in enumerate(values)]
    with contextlib.ExitStack() as caches:
        dataset = Labelled(values)
        for name in names:
            wrap, apply = WRAPPERS[name]
            if name.startswith("cache") and not model:
                continue
            dataset, model = wrap(dataset), apply(model)
            caches.callback(dataset.close)
        check(dataset, model, data)


@settings(max_examples=60, deadline=None)
@given(VALUES.filter(bool), st.permutations(sorted(PERMUTING)), st.data())
def test_what_picks_samples_composes_into_one_look_up(values, names, data):
    root = Labelled(values)
    dataset, model = root, []
    for name in names:
        dataset = PERMUTING[name](RepeatWrapper(dataset, 2))
        assert dataset.root is root
        model = [(10 * idx, values[idx]) for idx in dataset.root_indices]
    check(dataset, model, data)
