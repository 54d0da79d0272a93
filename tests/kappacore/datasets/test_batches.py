"""The stacked form of an item: defined by a class, under the one rule for forms, or derived."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kappacore.datasets import KDConcatDataset, KDDataset, KDSubset, KDWrapper, as_kd, find_item
from kappacore.errors import InvalidItemError, InvalidOptionError, NotUniformError
from kappacore.wrappers import (
    LabelSmoothingWrapper,
    OneHotWrapper,
    RemapClassesWrapper,
    RepeatWrapper,
    TransformWrapper,
)
from support.batches import equal, read_batch, read_ragged


class Base(KDDataset):
    def __len__(self):
        return 6

    def getitem_x(self, idx):
        return np.full(2, idx, np.float32)

    def getitem_class(self, idx):
        return idx % 3


class Batched(Base):
    """Its batches differ from its samples, to be told apart."""

    def getitem_x(self, idx):
        return super().getitem_x(idx)

    def getbatch_x(self, indices, out=None, ctxs=None):
        batch = np.full((len(indices), 2), -1, np.float32) if out is None else out
        batch[:] = -1
        return batch


class WithoutOut(Base):
    def getitem_x(self, idx):
        return super().getitem_x(idx)

    def getbatch_x(self, indices):
        return np.stack([self.getitem_x(idx) for idx in indices.tolist()])


def test_a_batch_form_of_the_class_is_used():
    dataset = Batched()
    assert (read_batch(dataset, "x", [1, 2]) == -1).all()
    out = np.zeros((2, 2), np.float32)
    assert read_batch(dataset, "x", [1, 2], out) is out
    assert (out == -1).all()
    assert find_item(dataset, "x").how_stacked() == (True, "by Batched.getbatch_x")


@pytest.mark.parametrize("out", [np.zeros((2, 2), "f4"), torch.zeros(2, 2)])
def test_out_is_filled_for_a_method_that_does_not_take_it(out):
    assert read_batch(WithoutOut(), "x", [1, -4], out) is out
    assert out.tolist() == [[1, 1], [2, 2]]
    with pytest.raises(InvalidOptionError, match=r"shape \(2, 2\).*expected .*\(3, 2\)"):
        read_batch(WithoutOut(), "x", [1, 2, 3], out)


def test_a_subset_and_a_repeat_use_it_and_a_wrapper_that_changes_the_item_does_not():
    class Twice(KDWrapper):
        def getitem_x(self, idx, ctx=None):
            return 2 * self.dataset.getitem_x(idx)

    dataset = KDSubset(RepeatWrapper(Batched(), 2), [7, 1])
    assert (read_batch(dataset, "x", [0, 1]) == -1).all()
    assert (read_batch(KDWrapper(dataset), "x", [0, 1]) == -1).all()
    assert read_batch(Twice(dataset), "x", [0, 1]).tolist() == [[2, 2], [2, 2]]
    assert (read_batch(KDConcatDataset([dataset, Base()]), "x", [0, 3])).tolist() == [
        [-1, -1],
        [1, 1],
    ]


def test_a_subclass_that_overrides_the_single_form_hides_the_batch():
    class Overriding(Batched):
        def getitem_x(self, idx):
            return np.full(2, 10 * idx, np.float32)

    assert read_batch(Overriding(), "x", [1, 2]).tolist() == [[10, 10], [20, 20]]


def test_a_batch_form_alone_is_an_error_that_names_both():
    class Alone(Base):
        def getbatch_x(self, indices):
            return None

    with pytest.raises(
        InvalidItemError,
        match=r"Alone defines getbatch_x but no getitem_x.*`getitem_x = Base.getitem_x` keeps",
    ):
        read_batch(Alone(), "x", [0])
    assert "x" not in Alone()._kd_item_names()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda n: [0] * n, "returned a list: expected an array or a tensor"),
        (lambda n: np.zeros((n + 1, 2)), r"returned the shape \(3, 2\) for 2 indices"),
        (lambda _: np.zeros(()), r"returned the shape \(\)"),
    ],
)
def test_what_a_batch_form_returns_is_checked(returned, said):
    class Wrong(Base):
        def getitem_x(self, idx):
            return 0

        def getbatch_x(self, indices):
            return returned(len(indices))

    with pytest.raises(InvalidItemError, match=said):
        read_batch(Wrong(), "x", [0, 1])


def test_ctxs_reach_it():
    class Ctx(Base):
        def getitem_x(self, idx, ctx=None):
            return 0

        def getbatch_x(self, indices, ctxs=None):
            for idx, ctx in zip(indices.tolist(), ctxs, strict=True):
                ctx["idx"] = idx
            return indices

    ctxs = [{}, {}]
    read_batch(KDSubset(Ctx(), [5, 4]), "x", [0, 1], ctxs=ctxs)
    assert ctxs == [{"idx": 5}, {"idx": 4}]


# ---- columns


class Columns(KDDataset):
    def __init__(self, column, example=None):
        self.column, self.example = column, example
        self.reads = 0

    def __len__(self):
        return len(self.column)

    def getitem_class(self, idx):
        self.reads += 1
        return self.column[idx] if self.example is None else self.example(self.column[idx])

    def getall_class(self):
        return self.column


@pytest.mark.parametrize(
    ("column", "example"),
    [
        ([3, 1, 2], None),
        ([0.5, 1.5, 2.5], None),
        ([True, False, True], None),
        (np.array([3, 1, 2], np.int32), None),
        (np.array([3, 1, 2], np.int32), int),
        (np.array([3, 1, 2], np.float32), float),
        (np.eye(3, dtype=np.float32), None),
        (torch.tensor([3, 1, 2]), None),
        (torch.tensor([3, 1, 2]), int),
        (torch.eye(3), None),
        ([3, 1, 2**70], float),
        (np.array([3, 1, 2**63], np.uint64), lambda value: min(int(value), 5)),
    ],
    ids=lambda value: getattr(value, "__name__", None) or repr(value)[:30],
)
def test_a_batch_of_a_column_is_of_the_type_of_its_values(column, example):
    dataset = Columns(column, example)
    item = find_item(dataset, "class")
    rows = [2, 0, 0, 1]
    single = [dataset.getitem_class(idx) for idx in rows]
    tensors = isinstance(single[0], torch.Tensor)
    wanted = torch.stack(single) if tensors else np.stack(list(map(np.asarray, single)))
    reads = dataset.reads
    for _ in range(3):
        assert equal(item.get_stacked(np.array(rows)), wanted)
    picked = dataset.reads - reads == 1
    assert picked or example is not None  # what does not convert safely is read one by one
    out = np.zeros_like(wanted)
    assert read_batch(dataset, "class", rows, out) is out
    assert (out == np.asarray(wanted)).all()


def test_labels_in_memory_are_picked():
    dataset = as_kd([(0.0, 5), (1.0, 6), (2.0, 7)], labels=np.array([5, 6, 7], np.uint8))
    assert equal(read_batch(dataset, "class", [2, 0]), np.array([7, 5]))
    names = as_kd([(0.0, 5), (1.0, 6)], labels=["a", "b"])
    with pytest.raises(NotUniformError, match="A str is not stacked"):
        read_batch(names, "class", [0, 1])


def test_label_wrappers_convert_whole_batches():
    one_hot = OneHotWrapper(Columns([0, 2, 1]), n_classes=3)
    smoothed = LabelSmoothingWrapper(one_hot, 0.1, n_classes=3)
    remapped = RemapClassesWrapper(Columns([0, 2, 1]), {0: 2, 1: 1, 2: 0})
    for dataset in (one_hot, smoothed):
        wanted = torch.stack([dataset.getitem_class(idx) for idx in (2, 0, 0)])
        assert equal(read_batch(dataset, "class", [2, 0, 0]), wanted)
    assert read_batch(remapped, "class", [2, 0, 0]).tolist() == [1, 2, 2]
    assert find_item(one_hot, "class").how_stacked()[0]


def test_what_is_transformed_by_itself_is_stacked_sample_by_sample():
    dataset = TransformWrapper(Batched(), lambda x: x + 1)
    assert read_batch(dataset, "x", [0, 5]).tolist() == [[1, 1], [6, 6]]
    fast, how = find_item(dataset, "x").how_stacked()
    assert not fast
    assert "each is transformed by itself" in how


def test_ragged_values_without_a_cache():
    class Boxes(Base):
        def getitem_x(self, idx):
            return torch.full((idx, 4), float(idx))

    ragged = read_ragged(Boxes(), "x", [2, 0, 3])
    assert ragged.offsets.tolist() == [0, 8, 8, 20]
    assert ragged.shapes.tolist() == [[2, 4], [0, 4], [3, 4]]
    assert torch.equal(ragged[2], torch.full((3, 4), 3.0))
