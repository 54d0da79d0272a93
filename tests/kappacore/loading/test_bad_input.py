"""Options that do not fit, with messages that say what to do."""

from __future__ import annotations

import re

import pytest
import torch

import kappacore
from kappacore.errors import (
    DatasetTypeError,
    EmptyDatasetError,
    InvalidOptionError,
    LoadingError,
    ModeError,
    NotUniformError,
    UnknownItemError,
    UnknownOptionError,
)
from support.loading import Photos
from support.numbers import Numbers


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"mode": "z"}, UnknownItemError, "no item 'z'; its items are: x, y"),
        ({"mode": ""}, ModeError, "names no item"),
        ({"batch_size": 0}, InvalidOptionError, "batch_size=0: expected an integer of at least 1"),
        ({"batch_size": None}, InvalidOptionError, "batch_size=None"),
        ({"seed": -1}, InvalidOptionError, "seed=-1"),
        ({"prefetch": -1}, InvalidOptionError, "prefetch=-1"),
        ({"workers": 1.5}, InvalidOptionError, "workers=1.5"),
        ({"sampler": [0], "shuffle": True}, InvalidOptionError, "Give one of them"),
        ({"batch_sampler": [[0]], "shuffle": True}, InvalidOptionError, "so does shuffle"),
        (
            {"batch_sampler": [[0]], "batch_size": 2, "drop_last": True},
            InvalidOptionError,
            "so does batch_size, drop_last",
        ),
        ({"rank": 1}, InvalidOptionError, "rank=1, world_size=None: expected both"),
        ({"rank": 2, "world_size": 2}, InvalidOptionError, "rank=2, world_size=2"),
        ({"rank": 0, "world_size": "2"}, InvalidOptionError, "expected both"),
        ({"transform": 3}, InvalidOptionError, "transform=3 cannot be called"),
        ({"collate_fn": 3}, InvalidOptionError, "collate_fn=3 cannot be called"),
        ({"buffers": "few"}, InvalidOptionError, "expected 'fresh' .* or 'ring'"),
        ({"resident": ["z"]}, UnknownItemError, "names no item 'z'"),
        ({"resident": "y", "collate_fn": list}, InvalidOptionError, "makes the whole batch"),
        ({"items": 3}, InvalidOptionError, "expected options for each item"),
        ({"items": {"z": {}}}, UnknownItemError, "items= has options for 'z'"),
        ({"items": {"x": 3}}, InvalidOptionError, "expected a dict of options"),
        ({"items": {"x": {"layuot": 1}}}, UnknownOptionError, "Did you mean 'layout'?"),
        ({"items": {"x": {"layout": "last"}}}, InvalidOptionError, "'channels_last' or"),
        ({"items": {"x": {"resize": 3}}}, InvalidOptionError, r"\(height, width\)"),
        ({"items": {"x": {"resize": (0, 3)}}}, InvalidOptionError, r"\(height, width\)"),
        ({"items": {"x": {"dtype": "float"}}}, InvalidOptionError, r"torch\.float32"),
        ({"items": {"x": {"std": 0}}}, InvalidOptionError, "one number, or one for each channel"),
        ({"items": {"x": {"mean": "a"}}}, InvalidOptionError, "one number, or one for each"),
        (
            {"items": {"x": {"mean": 0, "dtype": torch.int8}}},
            InvalidOptionError,
            r"torch\.int8 cannot hold",
        ),
        ({"items": {"x": {"ragged": "pad", "crop": (1, 1)}}}, InvalidOptionError, "Give one"),
    ],
)
def test_what_does_not_fit_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        kappacore.Loader(Numbers(4), **{"mode": "x y", **options})


def test_a_foreign_dataset_is_refused_with_what_to_do():
    with pytest.raises(DatasetTypeError, match="as_kd"):
        kappacore.Loader([1, 2], "x")


def test_a_selection_of_nothing_is_an_error_and_an_empty_list_is_not():
    none = kappacore.ClassFilterWrapper(Photos(4), invalid_classes=[0, 1, 2])
    with pytest.raises(EmptyDatasetError):
        iter(kappacore.Loader(none, "x"))
    assert list(kappacore.Loader(kappacore.KDSubset(Numbers(4), []), "x")) == []


@pytest.mark.parametrize("mode", ["boxes", "mixed"])
def test_samples_of_several_shapes_are_named(mode):
    with pytest.raises(NotUniformError) as caught:
        list(kappacore.Loader(Photos(4), mode, 4))
    shapes = {"boxes": ("(0, 4)", "(1, 4)"), "mixed": ("(4, 6, 3)", "(5, 6, 3)")}[mode]
    text = str(caught.value)
    for part in (*shapes, "sample 0", "sample 1", "'resize'", "'ragged': 'jagged'", "'pad'"):
        assert part in text


def test_what_cannot_be_collated_is_named():
    class Odd(Numbers):
        def getitem_x(self, idx):
            return object()

    with pytest.raises(LoadingError, match=r"item 'x' of samples 0, 1 .* collate_fn="):
        list(kappacore.Loader(Odd(2), "x", 2))


def test_ctxs_of_different_keys_are_named():
    class Odd(Numbers):
        def getitem_x(self, idx, ctx=None):
            if idx == 0:
                ctx["only"] = 0
            return idx

    with pytest.raises(LoadingError, match=r"the ctx of samples \[0, 1\] .* same keys"):
        list(kappacore.Loader(Odd(2), "x", 2, return_ctx=True))


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, "returned None"),
        (torch.zeros(3), "a batch of 2 rows and returned one item of 3 rows"),
        (torch.zeros(()), "one item of no rows at all"),
        ((torch.zeros(2), torch.zeros(1)), "one item of 1 rows"),
        ({"x": torch.zeros(4)}, "one item of 4 rows"),
    ],
)
def test_a_transform_that_changes_the_rows_is_refused(result, says):
    loader = kappacore.Loader(Numbers(4), "x", 2, transform=lambda x, draw: result)
    with pytest.raises(LoadingError, match=re.escape(says)):
        next(iter(loader))


def test_a_random_item_cannot_be_resident():
    drawn = kappacore.TransformWrapper(Numbers(4), float, seed=0)
    with pytest.raises(InvalidOptionError, match="draws random numbers"):
        iter(kappacore.Loader(drawn, "x", resident=["x"]))


def test_names_cannot_be_resident():
    with pytest.raises(InvalidOptionError, match="expected numbers or arrays of one shape"):
        iter(kappacore.Loader(Photos(4), "name", resident=["name"]))
