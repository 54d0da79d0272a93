from __future__ import annotations

import copy
import pickle

import pytest
from torch.utils.data import IterableDataset

from kappacore.datasets import (
    KDConcatDataset,
    KDDataset,
    KDSubset,
    KDWrapper,
    ModeWrapper,
    find_item,
)
from kappacore.errors import DatasetTypeError, KappaError, UnknownItemError, UseModeWrapperError
from support.numbers import BatchNumbers, Numbers, PlusOne


class Closable(Numbers):
    closed = 0

    def close(self):
        self.closed += 1


class Described(Numbers):
    classes = ("cat", "dog")
    _secret = 1

    def __getitems__(self, indices):
        raise AssertionError("a dunder was forwarded")


# ---- KDDataset


def test_indexing_a_dataset_says_to_use_a_mode_wrapper_and_names_the_items():
    with pytest.raises(
        UseModeWrapperError, match=r"Numbers is not indexed.*ModeWrapper.*\[3\].*items are: x, y\."
    ):
        Numbers()[3]


def test_iterating_a_dataset_says_to_use_a_mode_wrapper():
    with pytest.raises(UseModeWrapperError, match="ModeWrapper"):
        list(Numbers())


def test_a_dataset_without_items_says_how_to_define_one():
    class Empty(KDDataset):
        def __len__(self):
            return 1

    with pytest.raises(UnknownItemError, match="define getitem_<item> methods"):
        ModeWrapper(Empty(), "x")


def test_a_dataset_without_a_length_says_so():
    class Endless(KDDataset):
        def getitem_x(self, idx):
            return idx

    with pytest.raises(DatasetTypeError, match="Endless has no length: define __len__"):
        len(Endless())


def test_a_dataset_is_a_context_manager_that_closes_it():
    with Closable() as dataset:
        assert dataset.closed == 0
    assert dataset.closed == 1
    dataset.dispose()
    assert dataset.closed == 2


def test_closing_twice_is_no_error():
    dataset = KDWrapper(Numbers())
    dataset.close()
    dataset.close()


def test_a_dataset_offers_no_dunder_that_it_does_not_define():
    assert not hasattr(Numbers(), "__getitems__")


def test_an_attribute_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'Numbers' object has no attribute 'classes'"):
        Numbers().classes  # noqa: B018


def test_an_error_inside_a_property_is_not_hidden():
    class Broken(KDWrapper):
        @property
        def classes(self):
            return self.not_there

    with pytest.raises(AttributeError, match="not_there"):
        Broken(Described()).classes  # noqa: B018


# ---- finding items


def test_find_item_names_the_dataset_its_items_and_the_nearest_name():
    class Images(Numbers):
        def getitem_image(self, idx):
            return idx

    with pytest.raises(
        UnknownItemError,
        match=r"Images has no item 'imgae'; its items are: x, y, image\. Did you mean 'image'\?",
    ):
        find_item(Images(), "imgae")


def test_find_item_names_what_a_wrapper_is_around():
    with pytest.raises(UnknownItemError, match=r"KDWrapper \(of Numbers\) has no item 'z'"):
        find_item(KDWrapper(Numbers()), "z")


def test_find_item_refuses_what_is_no_dataset():
    with pytest.raises(DatasetTypeError, match=r"KDDataset.*got a list.*as_kd"):
        find_item([1, 2], "x")


def test_an_unknown_fingerprint_is_none_and_of_an_unknown_item_an_error():
    assert Numbers().fingerprint("x") is None
    with pytest.raises(UnknownItemError, match="no item 'z'"):
        Numbers().fingerprint("z")


# ---- KDWrapper


def test_items_that_a_wrapper_does_not_define_pass_through_as_they_are():
    inner = BatchNumbers()
    wrapper = KDWrapper(KDWrapper(inner))
    assert wrapper.getitems_x([1, 2]) == [10, 20]
    assert inner.calls == [("getitems", [1, 2])]
    assert wrapper.getall_x() == inner.getall_x()
    assert wrapper.decode_x(wrapper.getraw_x(2)) == 20
    assert wrapper.fingerprint("x", raw=True) == "numbers-10-x-True"


def test_a_wrapper_may_add_items():
    class Square(KDWrapper):
        def getitem_square(self, idx):
            return idx**2

    assert ModeWrapper(Square(Numbers()), "x square")[3] == (30, 9)
    with pytest.raises(UnknownItemError, match="its items are: x, y, square"):
        ModeWrapper(Square(Numbers()), "z")


def test_wrappers_pass_public_attributes_through():
    wrapper = KDWrapper(PlusOne(Described()))
    assert wrapper.classes == ("cat", "dog")
    assert ModeWrapper(wrapper, "x").classes == ("cat", "dog")


def test_private_names_and_dunders_are_never_passed_through():
    wrapper = KDWrapper(Described())
    for name in ("_secret", "__getitems__"):
        assert hasattr(wrapper.dataset, name)
        assert not hasattr(wrapper, name)


def test_an_attribute_that_nobody_has_is_an_attribute_error():
    assert not hasattr(KDWrapper(Numbers()), "classes")


def test_the_root_dataset_is_the_one_at_the_bottom():
    root = Numbers()
    assert root.root_dataset is root
    assert KDSubset(KDWrapper(root), [0]).root_dataset is root
    concat = KDConcatDataset([root, root])
    assert KDWrapper(concat).root_dataset is concat


def test_a_wrapper_closes_what_it_wraps():
    inner = Closable()
    KDWrapper(KDSubset(inner, [0])).close()
    assert inner.closed == 1


def test_randomness_is_seen_through_wrappers():
    class Random(Numbers):
        is_random = True

    class RandomWrapper(KDWrapper):
        is_random = True

    assert not KDWrapper(Numbers()).is_random
    assert KDWrapper(KDSubset(Random(), [0])).is_random
    assert KDWrapper(RandomWrapper(Numbers())).is_random


def test_a_wrapper_may_find_out_about_its_randomness_when_made():
    class Noise(KDWrapper):
        def __init__(self, dataset, scale):
            super().__init__(dataset)
            self.is_random = scale > 0

    assert Noise(Numbers(), 1).is_random
    assert not Noise(Numbers(), 0).is_random
    assert Noise(Noise(Numbers(), 1), 0).is_random


def test_a_wrapper_that_forgets_to_call_its_base_says_so():
    class Forgetful(KDWrapper):
        def __init__(self, dataset):
            self.inner = dataset

    with pytest.raises(
        AttributeError, match=r"Forgetful has no 'dataset'.*super\(\).__init__\(dataset\)"
    ):
        len(Forgetful(Numbers()))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), "KDWrapper cannot use Stream: an IterableDataset has no indices"),
        ([1, 2], r"KDWrapper needs a KDDataset; got a list.*as_kd\(dataset"),
        (Numbers, "KDWrapper needs a dataset; got the class Numbers"),
        (None, "KDWrapper cannot use a NoneType: it has no __len__ and no __getitem__"),
    ],
)
def test_a_wrapper_refuses_what_is_no_kd_dataset(dataset, message):
    with pytest.raises(DatasetTypeError, match=message) as caught:
        KDWrapper(dataset)
    assert isinstance(caught.value, (KappaError, TypeError))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda ds: pickle.loads(pickle.dumps(ds))])
def test_stacks_survive_copying_and_pickling(duplicate):
    stack = PlusOne(KDSubset(KDWrapper(Described()), [3, 4]))
    twin = duplicate(stack)
    assert list(ModeWrapper(twin, "x")) == [31, 41]
    assert twin.classes == ("cat", "dog")


def test_a_shallow_copy_reads_the_dataset_that_it_is_given():
    first = KDWrapper(Numbers())
    assert first.getitem_x(1) == 10
    second = copy.copy(first)
    second.dataset = PlusOne(Numbers())
    assert second.getitem_x(1) == 11
