"""What a subset says of its samples is about these samples: indices, and columns of the source."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torch.utils.data

from kappacore.datasets import KDDataset, KDSubset, KDWrapper, ModeWrapper, as_kd
from kappacore.errors import InvalidOptionError
from kappacore.wrappers import (
    PercentFilterWrapper,
    RemapClassesWrapper,
    RepeatWrapper,
    ShuffleWrapper,
    TransformWrapper,
)
from support.numbers import Numbers

LABELS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]


class Columns(KDDataset):
    """Everything that datasets in the field call their columns."""

    n_classes = 10

    def __init__(self):
        self.targets = list(LABELS)
        self.labels = np.array(LABELS)
        self.data = torch.tensor(LABELS) * 10
        self.samples = [(f"{idx}.png", label) for idx, label in enumerate(LABELS)]
        self.imgs = tuple(self.samples)

    def __len__(self):
        return len(LABELS)

    def getitem_x(self, idx):
        return f"image {idx}"

    def getitem_class(self, idx):
        return LABELS[idx]


class KappaDataWay(KDSubset):
    """A wrapper as KappaData's users write it: by ``dataset`` and ``indices``."""

    def getitem_x(self, idx, ctx=None):
        return "changed " + self.dataset.getitem_x(self.indices[idx])


def read(dataset, mode="class"):
    return ModeWrapper(dataset, mode)[:]


def nested():
    return {
        "one": KDSubset(Columns(), [9, 8, 2]),
        "two": KDSubset(KDSubset(Columns(), [9, 8, 7, 2]), [2, 0, 0]),
        "shuffled": PercentFilterWrapper(ShuffleWrapper(Columns(), seed=0), to_fraction=0.5),
        "of a wrapper": KDSubset(KDWrapper(KDSubset(Columns(), [9, 8, 7])), [1, 2]),
        "of a repetition": KDSubset(RepeatWrapper(ShuffleWrapper(Columns(), seed=1), 2), [19, 3]),
        "of a changed one": KDSubset(KappaDataWay(ShuffleWrapper(Columns(), 2), [4, 5]), [1, 0]),
    }


@pytest.mark.parametrize("name", nested())
def test_dataset_and_indices_belong_together(name):
    subset = nested()[name]
    assert [subset.dataset.getitem_class(int(idx)) for idx in subset.indices] == read(subset)
    assert [subset.root.getitem_class(int(idx)) for idx in subset.root_indices] == read(subset)
    assert [subset.dataset.targets[idx] for idx in subset.indices] == subset.targets


@pytest.mark.parametrize("name", nested())
def test_columns_follow_a_subset(name):
    subset = nested()[name]
    labels = read(subset)
    for above in (subset, ModeWrapper(subset, "x"), TransformWrapper(subset, str)):
        assert above.targets == labels
        assert above.labels.tolist() == labels
        assert above.data.tolist() == [10 * label for label in labels]
        assert [label for _, label in above.samples] == labels
        assert [label for _, label in above.imgs] == labels
        assert above.n_classes == 10


def test_a_subset_class_in_kappadatas_way_gets_images_beside_their_labels():
    for inner in (KDSubset(Columns(), [5, 6, 7, 8]), ShuffleWrapper(Columns(), seed=0)):
        for outer in (
            KappaDataWay(inner, [1, 2]),
            KDSubset(KappaDataWay(inner, [3, 1, 2]), [1, 2]),
        ):
            for x, label in read(outer, "x class"):
                assert label == LABELS[int(x.removeprefix("changed image "))]


def test_the_composed_indices_are_made_when_asked_for_and_not_sent():
    inner = ShuffleWrapper(Numbers(10_000), seed=0)
    outer = ShuffleWrapper(inner, seed=1)
    before = len(pickle.dumps(outer))
    assert "_kd_composed" not in vars(outer)
    assert outer.root_indices.tolist() == inner.indices[outer.indices].tolist()
    assert "_kd_composed" not in vars(inner)
    assert len(pickle.dumps(outer)) == before
    assert pickle.loads(pickle.dumps(outer)).root_indices.tolist() == outer.root_indices.tolist()
    assert inner.root_indices is inner.indices
    with pytest.raises(ValueError, match="read-only"):
        outer.root_indices[0] = 1


def test_indices_are_not_assigned_anew():
    subset = KDSubset(Numbers(), [1, 2])
    with pytest.raises(
        InvalidOptionError, match=r"indices of a KDSubset are fixed.*Make a new one"
    ):
        subset.indices = [3]
    assert read(subset, "x") == [10, 20]


# ---- what passes through wrappers


@pytest.mark.parametrize(
    "wrap", [KDWrapper, lambda ds: TransformWrapper(ds, str), lambda ds: ModeWrapper(ds, "x")]
)
def test_indices_do_not_pass_a_wrapper_but_those_of_the_root_do(wrap):
    wrapper = wrap(KDSubset(Columns(), [9, 8]))
    with pytest.raises(AttributeError, match=r"has no indices: .* Use \.dataset\.indices"):
        wrapper.indices  # noqa: B018
    assert wrapper.root_indices.tolist() == [9, 8]
    assert isinstance(wrapper.root, Columns)


def test_nor_those_of_torch():
    inner = torch.utils.data.Subset([("a", 0), ("b", 1)], [1])
    assert not hasattr(as_kd(inner), "indices")


def test_nothing_about_samples_passes_a_change_of_length():
    repeated = RepeatWrapper(KDSubset(Columns(), [9, 8]), 2)
    for name in ("indices", "root_indices"):
        assert not hasattr(repeated, name)
    assert repeated.targets == [3, 5, 3, 5]
    assert repeated.labels.tolist() == [3, 5, 3, 5]
    assert len(repeated.data) == len(repeated.samples) == len(repeated.imgs) == 4


def test_a_wrapper_with_a_length_of_its_own_has_the_columns_of_its_samples():
    class Half(KDWrapper):
        def __len__(self):
            return len(self.dataset) // 2

    half = Half(KDSubset(Columns(), [9, 8, 7, 6]))
    assert half.targets == read(half) == [3, 5]
    assert half.labels.tolist() == [3, 5]
    assert half.data.tolist() == [30, 50]
    assert not hasattr(half, "root_indices")


def test_columns_of_a_concatenation_are_joined():
    both = KDSubset(Columns(), [1, 2]) + KDSubset(Columns(), [5])
    assert both.labels.tolist() == [1, 4, 9]
    assert both.data.tolist() == [10, 40, 90]
    assert KDSubset(both, [2, 0]).labels.tolist() == [9, 1]


def test_known_names_with_other_meanings_pass_unchanged():
    dataset = Numbers()
    dataset.data = "a path"
    dataset.labels = ["even", "odd"]
    for above in (KDSubset(dataset, [1]), RepeatWrapper(dataset, 2), dataset + dataset):
        assert above.data == "a path"
        assert above.labels == ["even", "odd"]


def test_columns_of_pandas_are_picked_by_position():
    class Frame:  # as much of one as matters: [] goes by its own labels
        ndim = 1

        def __init__(self, values):
            self.values = values
            self.iloc = self

        def __array__(self, *_, **__):
            return np.array(self.values)

        def __len__(self):
            return len(self.values)

        def __getitem__(self, positions):
            return [self.values[position] for position in positions]

    dataset = Numbers()
    dataset.labels = Frame(list("abcdefghij"))
    assert KDSubset(dataset, [2, 1]).labels == ["c", "b"]


def test_labels_are_renumbered_as_targets_are():
    dataset = RemapClassesWrapper(KDSubset(Columns(), [0, 1]), {3: 0, 1: 1})
    assert dataset.targets == dataset.labels.tolist() == read(dataset) == [0, 1]


# ---- classes: names or labels


class PerSample(KDDataset):
    """KappaData's own test dataset keeps the labels of its samples as ``classes``."""

    def __init__(self, classes):
        self.classes = classes

    def __len__(self):
        return len(self.classes)

    def getitem_class(self, idx, ctx=None):
        return self.classes[idx]


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_classes_that_are_labels_follow_a_subset(kind):
    dataset = PerSample(kind([2, 0, 1, 2, 0]))
    assert list(KDSubset(dataset, [3, 4]).classes) == [2, 0]
    assert list(KDSubset(KDSubset(dataset, [3, 4, 1]), [0, 1]).classes) == [2, 0]
    assert len(RepeatWrapper(dataset, 2).classes) == 10


@pytest.mark.parametrize(
    "classes",
    [["a", "b", "c"], ["crane", "owl", "crane"], ["0", "1", "2"], [0, 1, 2], [10, 20, 30]],
)
def test_names_of_classes_pass_whole(classes):
    for dataset in (Numbers(), Numbers(3)):
        dataset.classes = classes
        dataset.n_classes = 3
        assert KDSubset(dataset, [0, 1]).classes == classes
        assert KDSubset(KDSubset(dataset, [0, 1, 2]), [1]).classes == classes
        assert RepeatWrapper(dataset, 2).classes == classes
        assert (dataset + dataset).classes == classes
