from __future__ import annotations

import numpy as np
import pytest
import torch

from kappacore.caching import CacheWrapper
from kappacore.datasets import KDConcatDataset, KDDataset, KDSubset, KDWrapper, ModeWrapper, as_kd
from kappacore.errors import (
    InvalidItemError,
    InvalidOptionError,
    MissingLabelsError,
    UnknownItemError,
)
from kappacore.wrappers import (
    ClassFilterWrapper,
    ClasswisePercentWrapper,
    FewshotWrapper,
    IntraClassShuffleWrapper,
    OneHotWrapper,
    OversamplingWrapper,
    RemapClassesWrapper,
    RepeatWrapper,
    ShuffleWrapper,
    SortByClassWrapper,
    TransformWrapper,
)
from support.labelled import Labelled, samples
from support.numbers import Numbers

#: Each wrapper that goes by labels, in the simplest way.
BY_LABELS = {
    ClassFilterWrapper: lambda ds, **how: ClassFilterWrapper(ds, invalid_classes=[0], **how),
    ClasswisePercentWrapper: lambda ds, **how: ClasswisePercentWrapper(ds, 0.5, **how),
    FewshotWrapper: lambda ds, **how: FewshotWrapper(ds, 1, **how),
    IntraClassShuffleWrapper: lambda ds, **how: IntraClassShuffleWrapper(ds, 0, **how),
    OversamplingWrapper: OversamplingWrapper,
    RemapClassesWrapper: lambda ds, **how: RemapClassesWrapper(ds, range(10), **how),
    SortByClassWrapper: SortByClassWrapper,
}
EACH = pytest.mark.parametrize("kind", BY_LABELS)


class Whole(torch.utils.data.Dataset):
    """Samples that are read whole, and counted."""

    def __init__(self, length=4):
        self.targets = [idx % 2 for idx in range(length)]
        self.reads = 0

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, idx):
        self.reads += 1
        return 10 * idx, self.targets[idx]


@EACH
def test_a_dataset_without_labels_is_refused(kind):
    with pytest.raises(
        MissingLabelsError,
        match=rf"^{kind.__name__} needs labels, but .* neither an item 'class' nor 'y'; .*: x",
    ):
        BY_LABELS[kind](as_kd([1, 2], items=("x",)))


@EACH
def test_samples_are_not_read_whole_to_learn_a_label(kind):
    source = Whole()
    for dataset in (as_kd(source), KDSubset(as_kd(source), [0]), KDConcatDataset([as_kd(source)])):
        with pytest.raises(
            MissingLabelsError, match=r"reading each of the \d samples whole\. .* labels='targets'"
        ):
            BY_LABELS[kind](RepeatWrapper(dataset, 2))
    BY_LABELS[kind](as_kd(source, labels="targets"))
    assert source.reads == 0


@EACH
def test_the_label_is_class_else_y_else_the_one_named(kind):
    labels = [1, 0, 1, 0]
    expected = samples(BY_LABELS[kind](Labelled(labels)))
    as_y = as_kd([(10 * idx, 7) for idx in range(4)], items=("x", "y"), labels=labels)
    assert samples(BY_LABELS[kind](as_y)) == expected

    class Both(Labelled):
        def getitem_fine(self, idx):
            return labels[idx]

    other = Both([0, 0, 1, 1])
    assert samples(BY_LABELS[kind](other, label="fine")) == expected
    with pytest.raises(UnknownItemError, match=r"has no item 'coarse'"):
        BY_LABELS[kind](other, label="coarse")


@pytest.mark.parametrize(
    "column", [[2, 0, 2], (2, 0, 2), np.array([2, 0, 2], np.uint8), torch.tensor([2, 0, 2])]
)
def test_columns_may_be_of_any_kind(column):
    class Column(KDDataset):
        def __len__(self):
            return 3

        def getall_class(self):
            return column

        def getitem_x(self, idx):
            return 10 * idx

    assert samples(KDSubset(ClassFilterWrapper(KDSubset(Column(), [2, 1]), [2]), [0])) == [2]
    assert samples(SortByClassWrapper(RepeatWrapper(Column(), 2))) == [1, 1, 0, 2, 0, 2]


def test_labels_without_a_column_are_read_alone():
    dataset = Numbers(20_000)
    assert len(ClassFilterWrapper(dataset, range(1, 10), label="y")) == 18_000
    assert {name for name, _ in dataset.calls} == {"y"}
    assert len(dataset.calls) == 20_000


@pytest.mark.parametrize("values", [["a", "b"], [0.5, 1.0], [[0, 1], [1, 0]]])
def test_labels_that_are_no_integers_are_refused(values):
    dataset = as_kd([1, 2], items=("x",), labels=values)
    with pytest.raises(InvalidItemError, match=r"SortByClassWrapper needs labels that are"):
        SortByClassWrapper(dataset)


def test_a_wrapper_that_changes_labels_is_asked_for_them():
    class Flipped(KDWrapper):
        def getitem_class(self, idx, ctx=None):
            return 1 - self.dataset.getitem_class(idx)

    dataset = Flipped(Labelled([0, 1, 0]))
    assert samples(ClassFilterWrapper(dataset, valid_classes=[1])) == [0, 2]
    assert KDSubset(dataset, [2, 0]).getall_class().tolist() == [1, 1]


def test_labels_through_a_stack_are_one_column_read_once():
    dataset = Labelled([0, 1, 2] * 4)
    stack = KDConcatDataset([RepeatWrapper(ShuffleWrapper(dataset, 0), 2), KDSubset(dataset, [3])])
    stack = RemapClassesWrapper(TransformWrapper(KDWrapper(stack), str, seed=0), [2, 0, 1])
    stack = SortByClassWrapper(ClassFilterWrapper(stack, invalid_classes=[1]))
    dataset.columns = 0
    column = stack.getall_class()
    assert isinstance(column, np.ndarray)
    assert column.tolist() == [0] * 8 + [2] * 9
    assert list(ModeWrapper(stack, "class")) == column.tolist()
    assert dataset.columns == 2  # of the concatenation's two parts


def test_wrappers_go_by_labels_above_a_cache():
    dataset = Labelled([0, 1, 2, 1])
    with CacheWrapper(dataset, "memory", items="x class") as cached:
        assert samples(ClassFilterWrapper(cached, valid_classes=[1])) == [1, 3]
    with (
        CacheWrapper(OneHotWrapper(dataset), "memory", items="class") as cached,
        pytest.raises(InvalidItemError, match=r"array of float32 of shape \(4, 3\)"),
    ):
        SortByClassWrapper(cached)


class Coarse(Labelled):
    """Fine labels with names, and coarse ones without."""

    def getitem_coarse(self, idx):
        return int(self.labels[idx]) // 2


def test_names_and_numbers_of_classes_are_not_those_of_another_label():
    dataset = Coarse([0, 1, 2, 3], ["cat", "dog", "oak", "fir"])
    assert samples(ClassFilterWrapper(dataset, valid_classes=["oak"])) == [2]
    assert samples(ClassFilterWrapper(dataset, valid_classes=["oak"], label="class")) == [2]
    with pytest.raises(InvalidOptionError, match=r"'oak'.*there are no names"):
        ClassFilterWrapper(dataset, valid_classes=["oak"], label="coarse")
    with pytest.raises(InvalidOptionError, match=r"has 3, .* its classes are 0 to 1"):
        ClassFilterWrapper(dataset, valid_classes=[3], label="coarse")
    with pytest.raises(InvalidOptionError, match=r"neither n_classes .* 'coarse'\. Pass"):
        OneHotWrapper(dataset, label="coarse")
    swapped = RemapClassesWrapper(dataset, [1, 0], label="coarse")
    assert list(ModeWrapper(swapped, "coarse class")) == [(1, 0), (1, 1), (0, 2), (0, 3)]
    assert (swapped.n_classes, swapped.classes) == (4, ["cat", "dog", "oak", "fir"])


def test_labels_that_make_no_array_are_refused():
    class Ragged(Numbers):
        def getitem_y(self, idx):
            return [0] * idx

    with pytest.raises(InvalidItemError, match=r"cannot use item 'y' of Ragged as labels: "):
        SortByClassWrapper(Ragged())


class Head(KDWrapper):
    """The first samples, by nothing but a length of its own."""

    def __init__(self, dataset, length):
        super().__init__(dataset)
        self.length = length

    def __len__(self):
        return self.length


def test_the_labels_of_a_wrapper_with_a_length_of_its_own_are_those_of_its_samples():
    dataset = Labelled([0, 1, 2, 0, 1, 2])
    joined = KDConcatDataset([Head(dataset, 2), RepeatWrapper(Head(dataset, 1), 2), dataset])
    assert joined.getall_class().tolist() == list(ModeWrapper(joined, "class"))
    assert samples(ClassFilterWrapper(joined, valid_classes=[1])) == [1, 1, 4]
    assert samples(SortByClassWrapper(Head(dataset, 4))) == [0, 3, 1, 2]


def test_wrappers_with_lengths_of_their_own_have_identities_of_their_own():
    def identity(length):
        repeated = KDWrapper(RepeatWrapper(Head(Labelled([0, 1, 2]), length), 3))
        return KDSubset(repeated, [0, 1, 2]).fingerprint("x")

    assert identity(2) == identity(2) != identity(3)
