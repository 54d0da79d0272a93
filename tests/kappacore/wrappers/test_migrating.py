"""What docs/migrating-from-kappadata.md says. KappaData's results were recorded from its 0.0.8."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from torch.utils.data import ConcatDataset, DataLoader, Subset

import kappacore
from kappacore.errors import (
    DatasetTypeError,
    EmptyDatasetError,
    IndexOutOfRangeError,
    InvalidOptionError,
    RandomSourceError,
    UnknownItemError,
    UseModeWrapperError,
)
from support.labelled import samples

LABELS = [2, 0, 1, 0, 2, 0]


class Old(kappacore.KDDataset):
    """A dataset as it was written for KappaData."""

    n_classes = 3

    def __init__(self, labels=LABELS):
        super().__init__()
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def getitem_x(self, idx, ctx=None):
        if ctx is not None:
            ctx["seen"] = idx
        return 10 * idx

    def getitem_class(self, idx, ctx=None):
        return self.labels[idx]


# ---- names


@pytest.mark.parametrize(
    "name",
    [
        "KDDataset",
        "KDSubset",
        "KDConcatDataset",
        "ModeWrapper",
        "ClassFilterWrapper",
        "OversamplingWrapper",
        "PercentFilterWrapper",
        "RepeatWrapper",
        "ShuffleWrapper",
        "copy_folder_from_global_to_local",
        "CachedDataset",
        "UseModeWrapperError",
    ],
)
def test_names_of_the_core(name):
    assert name in kappacore.__all__
    assert callable(getattr(kappacore, name))


def test_names_that_live_in_plugins():
    import kappa_imagefolder

    kappa_redis = pytest.importorskip("kappa_redis")
    import kappa_shared

    assert issubclass(kappa_shared.SharedDictDataset, kappacore.CachedDataset)
    assert issubclass(kappa_redis.RedisDataset, kappacore.CachedDataset)
    assert callable(kappa_imagefolder.raw_image_loader)
    assert callable(kappa_imagefolder.raw_image_folder_sample_to_pil_sample)
    for name, package in (("SharedDictDataset", "kappa_shared"), ("RedisDataset", "kappa_redis")):
        with pytest.raises(AttributeError, match=rf"from {package} import {name}"):
            getattr(kappacore, name)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (kappacore.ClassFilterWrapper, ["valid_classes", "invalid_classes"]),
        (kappacore.ModeWrapper, ["mode", "return_ctx"]),
        (kappacore.OversamplingWrapper, ["strategy"]),
        (
            kappacore.PercentFilterWrapper,
            ["from_fraction", "to_fraction", "ceil_from_index", "ceil_to_index"],
        ),
        (kappacore.RepeatWrapper, ["repetitions", "min_size"]),
        (kappacore.ShuffleWrapper, ["seed"]),
        (kappacore.KDSubset, ["indices"]),
    ],
)
def test_parameters_have_kappadatas_order(kind, parameters):
    found = list(inspect.signature(kind).parameters)
    assert found[: len(parameters) + 1] == ["dataset", *parameters]


def test_class_counts():
    dataset = kappacore.as_kd(LABELS, items=("x",), labels=LABELS)
    assert np.bincount(dataset.getall_class(), minlength=4).tolist() == [3, 1, 2, 0]


def test_copying_returns_kappadatas_fields_first():
    result = kappacore.staging.CopyResult(True, False, False, None)
    assert result._fields[:3] == ("was_copied", "was_deleted", "was_zip")


# ---- samples


def test_samples_of_one_item_are_bare_and_a_ctx_comes_beside_the_sample():
    dataset = Old()
    assert kappacore.ModeWrapper(dataset, "x")[1] == 10
    assert kappacore.ModeWrapper(dataset, "x")[1:3] == [10, 20]
    assert kappacore.ModeWrapper(dataset, "index x")[2] == (2, 20)
    mode = kappacore.ModeWrapper(dataset, "x   class", return_ctx=True)
    assert mode[1] == ((10, 0), {"seen": 1})
    assert kappacore.ModeWrapper(kappacore.as_kd([(1, 2)], ("x", "y")))[0] == (1, 2)


def test_indices_past_the_end_are_errors_and_negative_ones_are_not():
    mode = kappacore.ModeWrapper(Old(), "x")
    assert mode[-1] == 50
    for index in (6, -7):
        with pytest.raises(IndexOutOfRangeError):
            mode[index]


def test_errors_say_what_there_is():
    with pytest.raises(UnknownItemError, match=r"no item 'nope'; its items are: x, class"):
        kappacore.ModeWrapper(Old(), "nope")
    with pytest.raises(UseModeWrapperError, match=r"its items are: x, class"):
        Old()[0]
    with pytest.raises(DatasetTypeError, match="as_kd"):
        kappacore.KDSubset([1, 2], [0])


def test_the_ctx_may_be_left_out_and_may_be_none():
    class Plain(Old):
        def getitem_x(self, idx):
            return idx

    assert kappacore.ModeWrapper(Plain(), "x")[3] == 3
    with kappacore.CacheWrapper(Old(), "memory") as cached:
        (_, ctx) = kappacore.ModeWrapper(cached, "x", return_ctx=True)[3]
    assert ctx == {}


def test_datasets_have_no_logger_and_two_names_for_close():
    class Closing(Old):
        closed = 0

        def close(self):
            self.closed += 1

    dataset = Closing()
    kappacore.KDSubset(dataset, [0]).dispose()
    with dataset:
        pass
    dataset.dispose()
    assert dataset.closed == 3
    assert not hasattr(dataset, "logger")


def test_concatenations_agree_on_attributes():
    one, other = Old(), Old()
    both = kappacore.KDConcatDataset([one, other])
    assert both.n_classes == 3
    assert samples(both) == [*range(6), *range(6)]
    other.n_classes = 4
    assert not hasattr(both, "n_classes")
    one.anything = 1
    assert not hasattr(both, "anything")


# ---- wrappers


def test_wrappers_choose_the_samples_that_kappadata_chose():
    dataset = Old()
    assert samples(kappacore.ClassFilterWrapper(dataset, valid_classes=[0, 2])) == [0, 1, 3, 4, 5]
    assert samples(kappacore.ClassFilterWrapper(dataset, invalid_classes=[0])) == [0, 2, 4]
    assert samples(kappacore.OversamplingWrapper(dataset)) == [0, 1, 2, 3, 4, 5, 2, 2]
    assert samples(kappacore.PercentFilterWrapper(dataset, 0.25)) == [1, 2, 3, 4, 5]
    assert samples(kappacore.PercentFilterWrapper(dataset, to_percent=0.75)) == [0, 1, 2, 3]
    assert samples(kappacore.PercentFilterWrapper(dataset, 0.25, 0.75)) == [1, 2, 3]
    assert samples(kappacore.RepeatWrapper(dataset, 2)) == [*range(6), *range(6)]
    assert len(kappacore.RepeatWrapper(dataset, min_size=13)) == 18
    assert samples(kappacore.ShuffleWrapper(dataset, seed=5)) == [1, 4, 2, 3, 5, 0]
    np.random.seed(1)
    assert samples(kappacore.ShuffleWrapper(dataset)) == [2, 1, 4, 0, 3, 5]


def test_where_percents_differ():
    assert len(kappacore.PercentFilterWrapper(Old(), to_percent=0)) == 0
    assert len(kappacore.PercentFilterWrapper(Old([0] * 100), to_percent=0.29)) == 29
    rounded = kappacore.PercentFilterWrapper(Old(), 0.25, ceil_from_index=True)
    assert rounded.indices.tolist() == [2, 3, 4, 5]
    assert rounded.indices.dtype == np.int64
    for reversed_or_outside in ((0.8, 0.2), (0.0, 1.2)):
        with pytest.raises(InvalidOptionError):
            kappacore.PercentFilterWrapper(Old(), *reversed_or_outside)


def test_where_classes_differ():
    kept = kappacore.ClassFilterWrapper(Old(), valid_classes=(0, 2))
    assert kept.valid_classes == [0, 2]
    with pytest.raises(InvalidOptionError, match="which is no class"):
        kappacore.ClassFilterWrapper(Old(), valid_classes=[9])
    without = kappacore.as_kd([1, 2], items=("x",), labels=[0, 1])
    assert not hasattr(without, "n_classes")
    assert len(kappacore.OversamplingWrapper(without)) == 2


def test_indices_are_arrays_and_a_repetition_has_none():
    nested = kappacore.ShuffleWrapper(kappacore.KDSubset(Old(), [5, 4]), seed=0)
    assert isinstance(nested.indices, np.ndarray)
    assert sorted(nested.root_indices.tolist()) == [4, 5]
    assert isinstance(nested.root, Old)
    assert not hasattr(kappacore.RepeatWrapper(Old(), 2), "indices")


def test_an_epoch_of_nothing_is_an_error():
    nothing = kappacore.ClassFilterWrapper(Old(), valid_classes=[])
    with pytest.raises(EmptyDatasetError):
        list(DataLoader(kappacore.ModeWrapper(nothing, "x")))


# ---- caches


def test_a_cache_above_what_is_random_is_refused():
    dataset = Old()
    dataset.is_random = True
    with pytest.raises(RandomSourceError):
        kappacore.CacheWrapper(dataset, "memory")


# ---- what an adapter over KappaData's own tests found


def test_a_concatenation_has_cumulative_sizes():
    both = kappacore.KDConcatDataset([Old(), Old([1, 2])])
    assert both.cumulative_sizes == [6, 8]
    assert type(both.cumulative_sizes[0]) is int
    assert both.root_dataset is both  # KappaData: that of the first dataset


def test_subsets_and_concatenations_are_none_of_torchs():
    assert not isinstance(kappacore.KDSubset(Old(), [0]), Subset)
    assert not isinstance(kappacore.KDConcatDataset([Old()]), ConcatDataset)
    assert not isinstance(kappacore.RepeatWrapper(Old(), repetitions=2), kappacore.KDSubset)


@pytest.mark.parametrize("labels", [LABELS, [2, -1, 1, 0, -1, 0]])
def test_samples_without_a_label_can_be_filtered_whether_there_are_any_or_not(labels):
    kept = kappacore.ClassFilterWrapper(Old(labels), invalid_classes=[-1])
    assert samples(kept) == [idx for idx, label in enumerate(labels) if label != -1]
    none = kappacore.ClassFilterWrapper(Old(labels), valid_classes=[-1])
    assert samples(none) == [idx for idx, label in enumerate(labels) if label == -1]


def test_an_empty_modewrapper_has_no_length_and_no_truth():
    empty = kappacore.ModeWrapper(kappacore.ClassFilterWrapper(Old([0]), [-1]), "x")
    with pytest.raises(EmptyDatasetError):
        len(empty)
    with pytest.raises(EmptyDatasetError):
        bool(empty)


def test_items_may_have_names_that_begin_with_a_digit():
    class Points(Old):
        def getitem_2d(self, idx, ctx=None):
            return idx, idx

    assert kappacore.ModeWrapper(Points(), "2d class")[1] == ((1, 1), 0)
    pairs = kappacore.as_kd([(1, 2)], items=("2d", "class"))
    assert kappacore.ModeWrapper(pairs, "2d")[0] == 1


def test_classes_with_fewer_samples_than_shots_are_refused():
    with pytest.raises(InvalidOptionError, match=r"^num_shots=2 is more than class 1 has"):
        kappacore.wrappers.FewshotWrapper(Old(), 2)
