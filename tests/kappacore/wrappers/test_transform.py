from __future__ import annotations

import functools
import operator
import pickle

import pytest
import torch
from torch import nn

from kappacore.datasets import KDSubset, ModeWrapper, find_item
from kappacore.errors import DatasetTypeError, InvalidOptionError, UnknownItemError
from kappacore.wrappers import TransformWrapper
from support.numbers import BatchNumbers, Numbers, add_one


class Shift(nn.Module):
    """Adds to x, and leaves in the ctx what it has added."""

    def forward(self, value, ctx=None):
        if ctx is not None:
            ctx["shift"] = 5
        return value + 5


class RandomShift(Shift):
    is_random = True


def test_the_item_is_transformed_and_others_are_not():
    mode = ModeWrapper(TransformWrapper(Numbers(), add_one), "x y")
    assert mode[3] == (31, 3)
    assert mode.__getitems__([3, 4]) == [(31, 3), (41, 4)]


def test_any_item_can_be_transformed():
    assert ModeWrapper(TransformWrapper(Numbers(), add_one, item="y"), "x y")[3] == (30, 4)


def test_a_batch_is_still_read_at_once():
    dataset = BatchNumbers()
    wrapper = KDSubset(TransformWrapper(dataset, add_one), [5, 6])
    assert ModeWrapper(wrapper, "x").__getitems__([1, 0]) == [61, 51]
    assert dataset.calls == [("getitems", [6, 5])]


@pytest.mark.parametrize("transform", [Shift(), Shift().forward, functools.partial(Shift())])
def test_a_transform_that_takes_the_ctx_gets_the_samples(transform):
    mode = ModeWrapper(TransformWrapper(Numbers(), transform), "x ctx.shift ctx.seen")
    assert mode[3] == (35, 5, 3)
    assert mode.__getitems__([3, 4]) == [(35, 5, 3), (45, 5, 4)]


def test_without_a_mode_wrapper_the_ctx_is_none():
    wrapper = TransformWrapper(Numbers(), Shift())
    assert wrapper.getitem_x(3) == 35
    assert wrapper.getitems_x([3, 4]) == [35, 45]


def test_transforms_follow_one_another():
    twice = TransformWrapper(TransformWrapper(Numbers(), str), "<{}>".format)
    assert ModeWrapper(twice, "x")[3] == "<30>"


def test_what_was_known_of_the_item_no_longer_is():
    dataset = BatchNumbers()
    wrapper = TransformWrapper(dataset, add_one)
    item = find_item(wrapper, "x")
    assert item.get_all() is None
    assert not item.has_raw
    assert wrapper.fingerprint("x") is None
    assert not hasattr(wrapper, "getall_x")
    assert not hasattr(wrapper, "getraw_x")
    assert wrapper.fingerprint("y") == dataset.fingerprint("y")


def test_a_subclass_may_define_the_item_itself():
    class Fixed(TransformWrapper):
        def getitem_x(self, idx, ctx=None):
            return "fixed"

    assert ModeWrapper(Fixed(Numbers(), add_one), "x y")[3] == ("fixed", 3)


def test_randomness_is_what_the_transform_or_the_caller_says():
    assert not TransformWrapper(Numbers(), add_one).is_random
    assert TransformWrapper(Numbers(), add_one, is_random=True).is_random
    assert TransformWrapper(Numbers(), RandomShift()).is_random
    assert not TransformWrapper(Numbers(), RandomShift(), is_random=False).is_random


def test_randomness_below_remains():
    inner = TransformWrapper(Numbers(), RandomShift())
    assert TransformWrapper(inner, add_one, is_random=False).is_random


def test_it_pickles():
    wrapper = pickle.loads(pickle.dumps(TransformWrapper(Numbers(), Shift())))
    assert ModeWrapper(wrapper, "x")[3] == 35
    assert isinstance(wrapper.transform, Shift)
    assert wrapper.item == "x"


def test_tensors_are_transformed_as_they_are():
    class Tensors(Numbers):
        def getitem_x(self, idx):
            return torch.full((2,), idx)

    value = ModeWrapper(TransformWrapper(Tensors(), Shift()), "x")[1]
    assert torch.equal(value, torch.tensor([6, 6]))


def test_an_unknown_item_is_refused_at_construction():
    with pytest.raises(UnknownItemError, match=r"Numbers has no item 'image'; its items are: x, y"):
        TransformWrapper(Numbers(), add_one, item="image")


@pytest.mark.parametrize("transform", [None, "flip", 3])
def test_a_transform_that_cannot_be_called_is_refused(transform):
    with pytest.raises(
        InvalidOptionError, match=rf"can be called.*item 'x'; got a {type(transform).__name__}"
    ):
        TransformWrapper(Numbers(), transform)


def test_a_plain_dataset_is_refused():
    with pytest.raises(DatasetTypeError, match=r"TransformWrapper needs a KDDataset; got a list"):
        TransformWrapper([1, 2], add_one)


class AnyInputs(nn.Module):
    """Takes what torchvision's transforms of version 2 take."""

    def forward(self, *inputs):
        (value,) = inputs
        return value + 1


class Callable:
    """Takes what torchvision's transforms of version 1 take."""

    def __call__(self, img):
        return img + 1


@pytest.mark.parametrize(
    "transform",
    [
        AnyInputs(),
        nn.Sequential(AnyInputs()),
        Callable(),
        functools.partial(max, 31),
        functools.partial(operator.add, 1),
    ],
)
def test_anything_that_can_be_called_is_a_transform(transform):
    mode = ModeWrapper(TransformWrapper(Numbers(), transform), "x", return_ctx=True)
    assert mode[3] == (31, {"seen": 3})


def test_whether_a_transform_takes_the_ctx_is_found_out_once(monkeypatch):
    asked = []

    def noted(transform):
        asked.append(transform)
        return True

    monkeypatch.setattr("kappacore.wrappers.transform.takes_ctx", noted)
    shift = Shift()
    mode = ModeWrapper(KDSubset(TransformWrapper(Numbers(), shift), [1, 2]), "x")
    assert list(mode) == [15, 25]
    assert pickle.loads(pickle.dumps(mode))[0] == 15
    assert asked == [shift]
