from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from kappacore.datasets import ModeWrapper, as_kd
from kappacore.errors import InvalidOptionError, UnknownItemError
from kappacore.wrappers import MultiViewWrapper
from support.numbers import BatchNumbers, Numbers, add_one
from support.randoms import Draw, draw_one


def test_each_transform_makes_a_view():
    mode = ModeWrapper(MultiViewWrapper(Numbers(), "x", [add_one, str]), "x y")
    assert mode[3] == ([31, "30"], 3)
    assert mode.__getitems__([3, 4]) == [([31, "30"], 3), ([41, "40"], 4)]


def test_the_item_is_read_once_and_a_batch_at_once():
    dataset = BatchNumbers()
    ModeWrapper(MultiViewWrapper(dataset, "x", [add_one] * 3), "x").__getitems__([3, 4])
    assert dataset.calls == [("getitems", [3, 4])]


def test_a_batch_is_a_list_of_views():
    mode = ModeWrapper(MultiViewWrapper(Numbers(), "x", [add_one, int]), "x")
    (views,) = DataLoader(mode, batch_size=10)
    assert [view.tolist() for view in views] == [list(range(1, 101, 10)), list(range(0, 100, 10))]


@pytest.mark.parametrize(
    ("value", "change"),
    [
        (torch.zeros(2), lambda v: v.add_(1)),
        (np.zeros(2), lambda v: np.add(v, 1, out=v)),
        (Image.new("L", (2, 1)), lambda v: v.putpixel((0, 0), v.getpixel((0, 0)) + 1) or v),
        ([0.0, 0.0], lambda v: v.append(1.0) or v),
    ],
)
def test_views_do_not_see_what_others_change_in_place(value, change):
    mode = ModeWrapper(MultiViewWrapper(as_kd([value], ["x"]), "x", [change, change]), "x")
    first, second = mode[0]
    assert _as_list(first) == _as_list(second)


def _as_list(value):
    return np.asarray(value).tolist()


def test_each_view_has_a_seed_and_a_part_of_the_ctx_of_its_own():
    wrapper = MultiViewWrapper(Numbers(), "x", [Draw(), draw_one, Draw()], seed=0)
    (first, second, third), ctx = ModeWrapper(wrapper, "x", return_ctx=True)[3]
    parts = ctx["multi_view"]
    assert [part.get("drawn") for part in parts] == [first[1], None, third[1]]
    for view, part in zip((first[1], second, third[1]), parts, strict=True):
        torch.manual_seed(part["seed"])
        assert draw_one(None) == view
    assert len({part["seed"] for part in parts}) == 3


def test_the_ctx_is_collated_under_the_wrappers_name():
    wrapper = MultiViewWrapper(Numbers(4), "x", [Draw()] * 2, name="views")
    (((first, second), ctx),) = DataLoader(ModeWrapper(wrapper, "x", return_ctx=True), batch_size=4)
    assert torch.equal(ctx["views"][0]["drawn"], first[1])
    assert torch.equal(ctx["views"][1]["drawn"], second[1])


def test_nothing_is_left_in_the_ctx_where_nothing_is_drawn():
    wrapper = MultiViewWrapper(as_kd([1, 2], ["x"]), "x", [add_one])
    assert ModeWrapper(wrapper, "x", return_ctx=True)[0] == ([2], {})


def test_randomness_is_what_the_transforms_say():
    random = functools.partial(add_one)
    random.is_random = True
    assert MultiViewWrapper(Numbers(), "x", [add_one, random]).is_random
    assert not MultiViewWrapper(Numbers(), "x", [add_one]).is_random


def test_what_was_known_of_the_item_no_longer_is():
    wrapper = MultiViewWrapper(BatchNumbers(), "x", [add_one])
    assert wrapper.fingerprint("x") is None
    assert not hasattr(wrapper, "getall_x")
    assert not hasattr(wrapper, "getraw_x")


@pytest.mark.parametrize("transforms", [[], (), add_one, None, "ab", {add_one}])
def test_transforms_are_a_list(transforms):
    with pytest.raises(InvalidOptionError, match=r"^transforms=.*: expected a list of transforms"):
        MultiViewWrapper(Numbers(), "x", transforms)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(InvalidOptionError, match=r"^transforms= has 'flip' at position 1, which"):
        MultiViewWrapper(Numbers(), "x", [add_one, "flip"])


def test_an_unknown_item_is_refused():
    with pytest.raises(UnknownItemError, match=r"has no item 'image'"):
        MultiViewWrapper(Numbers(), "image", [add_one])
