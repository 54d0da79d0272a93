"""Whatever datasets are built of, every way of reading them gives what a plain list would."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kappacore.datasets import (
    KDConcatDataset,
    KDDataset,
    KDSubset,
    KDWrapper,
    ModeWrapper,
    as_kd,
    find_item,
)
from kappacore.wrappers import TransformWrapper
from support.numbers import BatchNumbers, Numbers, Overridden, PlusOne, add_one


class OnlyBatch(KDDataset):
    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def getitems_x(self, indices, ctxs=None):
        return [idx * 10 for idx in indices]

    def getall_y(self):
        return [idx % 10 for idx in range(self.length)]


class NegatedSubset(KDSubset):
    def getitem_x(self, idx, ctx=None):
        return -self.dataset.getitem_x(int(self.indices[idx]), ctx)


def pairs(length):
    return as_kd([(10 * idx, idx % 10) for idx in range(length)], items=("x", "y"))


def labelled(length):
    samples = [10 * idx for idx in range(length)]
    return as_kd(samples, items=("x", "y"), labels=[idx % 10 for idx in range(length)])


def expected(length):
    return [(10 * idx, idx % 10) for idx in range(length)]


def leaf():
    tens = st.sampled_from([Numbers, BatchNumbers, OnlyBatch, pairs, labelled])
    return st.one_of(
        st.builds(lambda make, n: (make(n), expected(n)), tens, st.integers(0, 6)),
        st.builds(
            lambda n: (Overridden(n), [(-idx, idx % 10) for idx in range(n)]), st.integers(0, 6)
        ),
    )


def plus_one(model):
    return [(x + 1, y) for x, y in model]


@st.composite
def subset(draw, children, make=KDSubset, sign=1):
    dataset, model = draw(children)
    count = len(model)
    choice = st.lists(st.integers(-count, count - 1), max_size=8) if count else st.just([])
    indices = draw(choice)
    picked = [model[idx] for idx in indices]
    return make(dataset, indices), [(sign * x, y) for x, y in picked]


def grow(children):
    return st.one_of(
        subset(children),
        subset(children, NegatedSubset, -1),
        st.builds(lambda pair: (KDWrapper(pair[0]), pair[1]), children),
        st.builds(lambda pair: (PlusOne(pair[0]), plus_one(pair[1])), children),
        st.builds(lambda pair: (TransformWrapper(pair[0], add_one), plus_one(pair[1])), children),
        st.builds(
            lambda parts: (
                KDConcatDataset([dataset for dataset, _ in parts]),
                [sample for _, model in parts for sample in model],
            ),
            st.lists(children, min_size=1, max_size=3),
        ),
    )


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.recursive(leaf(), grow, max_leaves=6), st.data())
def test_single_batch_and_column_access_agree_with_a_list(tree, data):
    dataset, model = tree
    mode = ModeWrapper(dataset, "x y index")
    indexed = [(x, y, idx) for idx, (x, y) in enumerate(model)]
    assert len(mode) == len(model)
    assert list(mode) == indexed

    count = len(model)
    indices = data.draw(st.lists(st.integers(0, count - 1), max_size=10)) if count else []
    assert mode.__getitems__(indices) == [indexed[idx] for idx in indices]

    for position, name in enumerate("xy"):
        item = find_item(dataset, name)
        column = [sample[position] for sample in model]
        values = item.get_all()
        assert values is None or list(values) == column
        if item.has_raw:
            raws = item.get_raw_batch(list(range(count)))
            assert [item.decode(raw) for raw in raws] == column
        assert [getattr(dataset, f"getitem_{name}")(idx) for idx in range(count)] == column
