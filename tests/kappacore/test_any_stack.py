"""Whatever is wrapped around a source, all that can be read of it is what a plain list gives.

Random stacks of wrappers, caches, subsets and torch's datasets are compared with a list of what
each sample should be: singly, in batches, in another process, and by their attributes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch.utils.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from kappacore import PRIVATE
from kappacore.caching import CachedDataset, CacheWrapper
from kappacore.datasets import KDConcatDataset, KDDataset, KDSubset, KDWrapper, ModeWrapper, as_kd
from kappacore.wrappers import (
    RepeatWrapper,
    ShuffleWrapper,
    SortByClassWrapper,
    TransformWrapper,
)
from support.numbers import PlusOne, add_one

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ["cat", "dog", "fox"]
MOST = 40  # samples


class Source(KDDataset):
    """Samples, and all the attributes by which they are known in the field."""

    n_classes = 3
    classes = NAMES

    def __init__(self, labels):
        self.targets = list(labels)
        self.labels = np.array(labels, dtype=np.int64)
        self.data = torch.arange(len(labels)) * 100
        self.samples = [(f"{idx}.png", label) for idx, label in enumerate(labels)]
        self.imgs = tuple(self.samples)

    def __len__(self):
        return len(self.targets)

    def getitem_x(self, idx, ctx=None):
        return 10 * idx

    def getitem_class(self, idx, ctx=None):
        return self.targets[idx]


class KappaDataWay(KDSubset):
    def getitem_x(self, idx, ctx=None):
        return self.dataset.getitem_x(int(self.indices[idx]), ctx) + 1


class FirstHalf(KDWrapper):
    def __len__(self):
        return (len(self.dataset) + 1) // 2


@dataclasses.dataclass
class Stack:
    """A dataset, and what its samples should be: ``(x, class, index in the source)`` each."""

    dataset: Any
    model: list[tuple[int, int, int]]
    columns: bool = True  # whether the source's attributes are to be seen

    def around(self, wrap: Callable[[Any], Any], model: Any = None, **changes: Any) -> Stack:
        model = self.model if model is None else model
        return dataclasses.replace(self, dataset=wrap(self.dataset), model=model, **changes)


def shifted(model):
    return [(x + 1, label, source) for x, label, source in model]


def pick(model, indices):
    return [model[idx] for idx in indices]


def order(stack):
    return np.random.default_rng(1).permutation(len(stack.model)).tolist()


def subset(stack, indices, kind=KDSubset):
    picked = pick(stack.model, indices)
    model = shifted(picked) if kind is KappaDataWay else picked
    return stack.around(lambda ds: kind(ds, indices), model)


def whole(stack, **changes):
    """Return the samples read whole, as torch's datasets give them."""
    return stack.around(lambda ds: ModeWrapper(ds, "x class"), **changes)


def by_label(stack):
    return sorted(stack.model, key=lambda sample: sample[1])


def has_labels(stack):
    """Return whether the labels are known without reading whole samples."""
    return hasattr(stack.dataset, "getall_class")


STEPS: dict[str, Callable[[Stack], Stack]] = {
    "repeat": lambda s: s.around(lambda ds: RepeatWrapper(ds, 2), s.model * 2),
    "concat": lambda s: s.around(lambda ds: KDConcatDataset([ds, ds]), s.model * 2),
    "shuffle": lambda s: s.around(lambda ds: ShuffleWrapper(ds, seed=1), pick(s.model, order(s))),
    "plain": lambda s: s.around(KDWrapper),
    "plus one": lambda s: s.around(PlusOne, shifted(s.model)),
    "transform": lambda s: s.around(lambda ds: TransformWrapper(ds, add_one), shifted(s.model)),
    "half": lambda s: s.around(FirstHalf, s.model[: (len(s.model) + 1) // 2]),
    "reverse": lambda s: subset(s, range(len(s.model))[::-1]),
    "kappadata": lambda s: subset(s, range(len(s.model))[::-2], KappaDataWay),
    "cache": lambda s: s.around(lambda ds: CacheWrapper(ds, items="x", **CACHE)),
    "cache all": lambda s: s.around(lambda ds: CacheWrapper(ds, items="x class", **CACHE)),
    "cached": lambda s: whole(s).around(lambda ds: as_kd(CachedDataset(ds, **CACHE))),
    "torch": lambda s: whole(s, columns=False).around(
        lambda ds: as_kd(torch.utils.data.Subset(ds, range(len(s.model))[::-1])), s.model[::-1]
    ),
    "sort": lambda s: s.around(SortByClassWrapper, by_label(s)) if has_labels(s) else s,
}
CACHE: dict[str, Any] = {"backend": "memory", "namespace": PRIVATE, "max_bytes": "1MiB"}


@st.composite
def stacks(draw):
    labels = draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
    model = [(10 * idx, label, idx) for idx, label in enumerate(labels)]
    return (
        labels,
        model,
        draw(st.lists(st.sampled_from(sorted(STEPS)), max_size=7)),
        draw(st.lists(st.integers(0, 2**16), min_size=4, max_size=4)),
    )


def build(labels, model, names, numbers, closing):
    stack = Stack(Source(labels), model)
    closing.callback(stack.dataset.close)
    for name in names:
        if len(stack.model) <= MOST:
            stack = STEPS[name](stack)
            closing.callback(stack.dataset.close)
    if numbers[0] % 2:
        stack = subset(stack, [number % len(stack.model) for number in numbers])
    return stack


def check_attributes(stack):
    dataset, model = stack.dataset, stack.model
    mapped = [label for _, label, _ in model]
    assert len(dataset) == len(model)
    if hasattr(dataset, "getall_class"):
        assert list(dataset.getall_class()) == mapped
    if isinstance(dataset, KDSubset):
        for inner, indices in (
            (dataset.dataset, dataset.indices),
            (dataset.root, dataset.root_indices),
        ):
            assert [inner.getitem_class(idx) for idx in indices.tolist()] == mapped
    else:
        assert not hasattr(dataset, "indices")
    if not stack.columns:
        assert not hasattr(dataset, "targets")
        return
    assert dataset.classes == NAMES
    assert dataset.n_classes == 3
    assert list(dataset.targets) == list(dataset.labels) == mapped
    assert dataset.data.tolist() == [100 * source for _, _, source in model]
    for records in (dataset.samples, dataset.imgs):
        assert list(records) == [(f"{source}.png", label) for _, label, source in model]


def check_reading(stack, numbers):
    mode = ModeWrapper(stack.dataset, "x class index")
    wanted = [(x, label, idx) for idx, (x, label, _) in enumerate(stack.model)]
    batch = [number % len(wanted) for number in numbers]
    for _ in range(2):  # the second time from the caches
        assert mode[batch] == pick(wanted, batch)
        assert [mode[idx] for idx in batch] == pick(wanted, batch)
        assert mode[:] == wanted
        assert list(mode) == wanted


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::kappacore.errors.CacheWarning")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stacks())
def test_samples_and_attributes_are_those_of_a_list(drawn):
    labels, model, names, numbers = drawn
    with contextlib.ExitStack() as closing:
        stack = build(labels, model, names, numbers, closing)
        check_attributes(stack)
        check_reading(stack, numbers)
        check_attributes(stack)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::kappacore.errors.CacheWarning")
@pytest.mark.parametrize("backend", ["memory", "shared"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stacks())
def test_another_process_reads_the_same(backend, drawn):
    labels, model, names, numbers = drawn
    with contextlib.ExitStack() as closing:
        patch = closing.enter_context(pytest.MonkeyPatch.context())
        patch.setitem(CACHE, "backend", backend)
        stack = build(labels, model, names, numbers, closing)
        mode = ModeWrapper(stack.dataset, "x class")
        loader = DataLoader(mode, batch_size=3, num_workers=1, collate_fn=list)
        wanted = [(x, label) for x, label, _ in stack.model]
        assert [sample for batch in loader for sample in batch] == wanted
        assert mode[:] == wanted
        assert [sample for batch in loader for sample in batch] == wanted
        check_attributes(stack)
