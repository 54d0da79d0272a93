"""A dataset that holds others is seen through: what is random, epochs, closing, each once."""

from __future__ import annotations

import collections

import pytest
import torch
from torch.utils.data import ConcatDataset, Subset

from kappacore import PRIVATE
from kappacore.caching import CachedDataset, CacheWrapper
from kappacore.datasets import (
    KDConcatDataset,
    KDDataset,
    KDSubset,
    KDWrapper,
    ModeWrapper,
    find_wrapper,
)
from kappacore.errors import RandomSourceError
from kappacore.wrappers import TransformWrapper
from support.numbers import Numbers, add_one


class Leaf(Numbers):
    """A dataset that notes what reaches it."""

    def __init__(self, is_random=False):
        super().__init__()
        self.events = []
        self.is_random = is_random

    def set_epoch(self, epoch):
        self.events.append(epoch)

    def close(self):
        self.events.append("closed")


class Own(KDDataset):
    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __len__(self):
        return 10

    def getitem_x(self, idx, ctx=None):
        return idx


class OwnOfTorch(torch.utils.data.Dataset):
    def __init__(self, inner):
        self.inner = inner

    def __len__(self):
        return 10

    def __getitem__(self, idx):
        return ModeWrapper(self.inner, "x")[idx]


def mode(dataset):
    return ModeWrapper(dataset, "x")


HOLDERS = {
    "attribute": lambda leaf: Own(a=leaf),
    "private attribute": lambda leaf: Own(_a=leaf),
    "list": lambda leaf: Own(parts=[None, leaf]),
    "tuple": lambda leaf: Own(parts=(leaf, 3)),
    "dict": lambda leaf: Own(parts={"train": leaf}),
    "another dict": lambda leaf: Own(parts=collections.OrderedDict(train=leaf)),
    "long list": lambda leaf: Own(parts=[0] * 999 + [leaf]),
    "two levels": lambda leaf: Own(a=Own(b=leaf)),
    "twice": lambda leaf: Own(a=leaf, b=leaf, c=[leaf]),
    "a diamond": lambda leaf: Own(a=Own(c=leaf), b=Own(c=leaf)),
    "within torch's": lambda leaf: Own(a=Subset(mode(leaf), [0, 1])),
    "deep within torch's": lambda leaf: Own(a=ConcatDataset([Subset(mode(leaf), [0])])),
    "within one of torch's kind": lambda leaf: Own(a=OwnOfTorch(leaf)),
    "beside the dataset of a wrapper": lambda leaf: with_attribute(KDWrapper(Numbers()), leaf),
    "beside those of a concatenation": lambda leaf: with_attribute(Numbers() + Numbers(), leaf),
    "below wrappers": lambda leaf: KDSubset(KDWrapper(Own(a=leaf)), [1]),
    "below a cache": lambda leaf: CacheWrapper(Own(a=leaf), "memory", namespace=PRIVATE),
}


def with_attribute(dataset, leaf):
    dataset.other = leaf
    return dataset


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
def test_epochs_and_closing_reach_what_is_held_once(hold):
    leaf = Leaf()
    for times in (1, 2):
        with hold(leaf) as holder:
            holder.set_epoch(7)
        assert leaf.events == [7, "closed"] * times


@pytest.mark.parametrize("name", [name for name in HOLDERS if name != "below a cache"])
def test_what_holds_a_random_dataset_is_random(name):
    assert HOLDERS[name](Leaf(is_random=True)).is_random
    assert not HOLDERS[name](Leaf()).is_random


@pytest.mark.parametrize("name", [name for name in HOLDERS if name != "below a cache"])
def test_no_cache_is_put_above_it(name):
    with pytest.raises(RandomSourceError, match="Leaf is random"):
        CacheWrapper(HOLDERS[name](Leaf(is_random=True)), "memory", namespace=PRIVATE)


@pytest.mark.parametrize(
    "wrap", [lambda ds: Subset(mode(ds), [0]), lambda ds: mode(Own(a=ds)), OwnOfTorch]
)
def test_nor_one_of_whole_samples(wrap):
    with pytest.raises(RandomSourceError, match="Leaf is random"):
        CachedDataset(wrap(Leaf(is_random=True)), "memory", namespace=PRIVATE)
    leaf = Leaf()
    with CachedDataset(wrap(leaf), "memory", namespace=PRIVATE) as cached:
        cached.set_epoch(2)
    assert leaf.events == [2, "closed"]


def test_a_seeded_wrapper_inside_draws_anew_in_each_epoch():
    augmented = TransformWrapper(Numbers(), lambda x: x + float(torch.rand(())), seed=0)

    class Augmented(Own):
        def getitem_x(self, idx, ctx=None):
            return self.inner.getitem_x(idx, ctx=ctx)

    dataset = mode(KDWrapper(Augmented(inner=augmented)))
    drawn = set()
    for epoch in range(3):
        dataset.set_epoch(epoch)
        drawn.add(dataset[0])
    assert len(drawn) == 3


def test_wrappers_held_by_a_dataset_are_found_and_shown():
    inner = TransformWrapper(Numbers(), add_one)
    dataset = KDWrapper(Own(a=inner))
    assert find_wrapper(dataset, TransformWrapper) is inner
    shown = [line.split("(")[0] for line in repr(dataset).splitlines()]
    assert shown == ["KDWrapper", "  Own", "    TransformWrapper", "      Numbers"]


def test_circles_are_met_once():
    leaf = Leaf(is_random=True)
    first = Own(leaf=leaf)
    first.other = Own(other=first, parts=[first, leaf])
    first.itself = first
    assert first.is_random
    assert first.other.is_random
    first.set_epoch(1)
    first.close()
    assert leaf.events == [1, "closed"]
    assert repr(first).count("Leaf(") == 2
    with pytest.raises(RandomSourceError):
        CacheWrapper(first, "memory", namespace=PRIVATE)


def test_more_than_a_thousand_entries_are_not_looked_through():
    leaf = Leaf(is_random=True)
    dataset = Own(parts=[leaf] * 1001, nested=[[leaf]])
    assert not dataset.is_random
    assert len(KDConcatDataset([leaf] * 1001).inner_datasets()) == 1001
    assert KDConcatDataset([leaf] * 1001).is_random


def test_a_class_says_otherwise():
    class Borrowing(Own):
        def inner_datasets(self):
            return [self.mine]

    mine, borrowed = Leaf(), Leaf(is_random=True)
    with Borrowing(mine=mine, borrowed=borrowed) as dataset:
        assert not dataset.is_random
    assert (mine.events, borrowed.events) == (["closed"], [])


def test_one_that_fails_to_close_keeps_no_other_open():
    class Failing(Leaf):
        def close(self):
            raise OSError("no more")

    leaf = Leaf()
    with pytest.raises(OSError, match="no more"):
        Own(a=leaf, b=Failing(), c=[Failing()]).close()
    assert leaf.events == ["closed"]
    Own(a=leaf).close()
    assert leaf.events == ["closed"] * 2


# ---- dispose, KappaData's name


class Handles(Numbers):
    def __init__(self):
        super().__init__()
        self.disposed = 0

    def dispose(self):
        self.disposed += 1


class CallsSuper(Handles):
    def dispose(self):
        super().dispose()
        self.disposed += 10


class CallsBase(Numbers):
    disposed = 0

    def dispose(self):
        super().dispose()
        self.disposed += 1


class CallsClose(Numbers):
    disposed = 0

    def dispose(self):
        self.close()
        self.disposed += 1


ENTRANCES = {
    "dispose": lambda ds: ds.dispose(),
    "close": lambda ds: ds.close(),
    "with": lambda ds: ds.__exit__(None, None, None),
    "subset": lambda ds: KDSubset(ds, [0]).close(),
    "subset's dispose": lambda ds: KDSubset(ds, [0]).dispose(),
    "concatenation": lambda ds: (ds + ds).dispose(),
    "mode": lambda ds: ModeWrapper(ds, "x").dispose(),
    "own": lambda ds: Own(a=ds, b=[ds]).dispose(),
    "cache": lambda ds: CacheWrapper(ds, "memory", namespace=PRIVATE).dispose(),
    "cached": lambda ds: CachedDataset(mode(ds), "memory", namespace=PRIVATE).dispose(),
}


@pytest.mark.parametrize("enter", ENTRANCES.values(), ids=ENTRANCES)
@pytest.mark.parametrize("kind", [Handles, CallsSuper, CallsBase, CallsClose])
def test_an_overridden_dispose_is_called_once_whatever_closes_it(kind, enter):
    dataset = kind()
    enter(dataset)
    assert dataset.disposed == (11 if kind is CallsSuper else 1)


def test_a_dispose_of_its_own_closes_what_is_inside():
    class Holder(Own):
        disposed = 0

        def dispose(self):
            self.disposed += 1

    class Passing(KDWrapper):  # as wrappers of KappaData do
        def dispose(self):
            self.dataset.dispose()

    for close in ("close", "dispose"):
        leaf, handles = Leaf(), Handles()
        holder = Holder(a=leaf, b=Passing(handles))
        getattr(holder, close)()
        assert (holder.disposed, leaf.events, handles.disposed) == (1, ["closed"], 1)


def test_a_close_of_its_own_is_called_by_dispose():
    class Both(Handles):
        closed = 0

        def close(self):
            self.closed += 1
            super().close()

    for close in ("close", "dispose"):
        dataset = Both()
        getattr(dataset, close)()
        assert (dataset.closed, dataset.disposed) == (1, 1)
