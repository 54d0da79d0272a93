from __future__ import annotations

import copy
import functools
import pickle

import pytest
from torch import nn

from kappacore.datasets import takes_ctx
from kappacore.datasets.ctx import SampleCtx


class Callable:
    def __call__(self, value, ctx=None):
        return value

    def method(self, value, *, ctx):
        return value

    @staticmethod
    def static(value, ctx=None):
        return value


class Module(nn.Module):
    def forward(self, value, ctx=None):
        return value


def decorated(fn):
    @functools.wraps(fn)
    def inner(*args, **kwargs):
        return fn(*args, **kwargs)

    return inner


def with_ctx(value, ctx=None):
    return value


def without_ctx(value, **kwargs):
    ctx = {"a": value}
    return {**ctx, **kwargs}


@pytest.mark.parametrize(
    "fn",
    [
        with_ctx,
        decorated(with_ctx),
        functools.partial(with_ctx, 1),
        Callable(),
        Callable().method,
        Callable.static,
        Module(),
        functools.partial(Module(), 1),
        lambda value, ctx: value,
    ],
)
def test_a_parameter_named_ctx_is_found(fn):
    assert takes_ctx(fn)


@pytest.mark.parametrize(
    "fn",
    [
        without_ctx,
        decorated(without_ctx),
        functools.partial(with_ctx, ctx={}),
        functools.partial(with_ctx, 1, {}),
        functools.partial(Module(), ctx={}),
        nn.Identity(),
        lambda ctx, /: ctx,
        lambda *ctx: ctx,
        lambda **ctx: ctx,
        min,
        None,
        "no callable",
    ],
)
def test_nothing_else_counts_as_a_parameter_named_ctx(fn):
    assert not takes_ctx(fn)


def test_another_name_can_be_asked_for():
    assert takes_ctx(lambda indices, ctxs=None: indices, "ctxs")
    assert not takes_ctx(lambda indices, ctx=None: indices, "ctxs")


@pytest.mark.parametrize("duplicate", [copy.copy, lambda ctx: pickle.loads(pickle.dumps(ctx))])
def test_a_copied_or_pickled_ctx_is_a_plain_dict_without_what_was_read(duplicate):
    ctx = SampleCtx(crop=(1, 2))
    ctx.reads = {("dataset", 0): "a large sample"}
    assert duplicate(ctx) == {"crop": (1, 2)}
    assert type(duplicate(ctx)) is dict
