"""Transforms with generators of their own: seeded as the global ones are, and noticed without."""

from __future__ import annotations

import functools
import random
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kappacore import PRIVATE
from kappacore.caching import CachedDataset
from kappacore.datasets import ModeWrapper, as_kd, own_generators
from kappacore.datasets.own_generators import find_generators
from kappacore.errors import OwnGeneratorWarning
from kappacore.wrappers import MultiViewWrapper, TransformWrapper


@pytest.fixture(autouse=True)
def _said_nothing_yet(monkeypatch):
    monkeypatch.setattr(own_generators, "_warned", set())


class Numpy:
    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, x):
        return x + self.rng.random()

    def method(self, x):
        return self(x)


class Legacy(Numpy):
    def __init__(self):
        self.R = np.random.RandomState(0)

    def __call__(self, x):
        return x + self.R.random_sample()


class Torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        return x + float(torch.rand((), generator=self.generator))


class Python(Numpy):
    def __init__(self):
        self.options = {"rng": random.Random(0)}

    def __call__(self, x):
        return x + self.options["rng"].random()


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, x):
        for transform in self.transforms:
            x = transform(x)
        return x


def closure():
    rng = np.random.default_rng(0)
    return lambda x: x + rng.random()


TRANSFORMS = {
    "numpy": Numpy,
    "numpy's old one": Legacy,
    "torch": Torch,
    "python": Python,
    "compose": lambda: Compose([float, Numpy()]),
    "nested": lambda: Compose((Compose([Torch()]), Python())),
    "sequential": lambda: torch.nn.Sequential(Torch(), Torch()),
    "partial": lambda: functools.partial(Numpy()),
    "method": lambda: Numpy().method,
    "closure": closure,
}


def floats():
    return as_kd([float(idx) for idx in range(8)], items=("x",))


def epochs(dataset, **options):
    mode = ModeWrapper(dataset, "x")
    loader = DataLoader(mode, batch_size=2, **options)
    drawn = []
    for epoch in (0, 1):
        mode.set_epoch(epoch)
        drawn.append([float(x) % 1 for batch in loader for x in batch])
    return drawn


@pytest.mark.parametrize("make", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_seed_reaches_them(make):
    def draw(indices):
        dataset = TransformWrapper(floats(), make(), seed=3)
        mode = ModeWrapper(dataset, "x")
        return {(epoch, idx): (mode.set_epoch(epoch), mode[idx])[1] for epoch, idx in indices}

    pairs = [(epoch, idx) for epoch in (0, 1) for idx in range(8)]
    drawn = draw(pairs)
    assert drawn == draw(pairs[::-1])
    assert len({round(value % 1, 9) for value in drawn.values()}) == len(pairs)


def test_in_workers_as_without():
    wrap = functools.partial(TransformWrapper, transform=Compose([Numpy(), Torch()]), seed=1)
    alone = epochs(wrap(floats()))
    assert alone == epochs(wrap(floats()), num_workers=2)
    assert len({x for drawn in alone for x in drawn}) == 16


def test_several_generators_draw_different_numbers():
    both = TransformWrapper(floats(), Compose([Numpy(), Numpy()]), seed=0)
    mode = ModeWrapper(both, "x", return_ctx=True)
    x, ctx = mode[0]
    seed = ctx["transform"]["seed"]
    first, second = (np.random.default_rng(seed + k).random() for k in (0, 1))
    assert x == 0.0 + first + second
    shared = Numpy()
    assert len(find_generators(Compose([shared, shared]))) == 1


def test_views_are_seeded_each():
    views = MultiViewWrapper(floats(), "x", [Numpy()] * 2, seed=0)
    again = MultiViewWrapper(floats(), "x", [Numpy(), Numpy()], seed=0)
    first, second = ModeWrapper(views, "x")[3]
    assert first != second
    assert ModeWrapper(again, "x")[3] == [first, second]


@pytest.mark.parametrize("make", TRANSFORMS.values(), ids=TRANSFORMS)
def test_without_a_seed_it_is_said_once_what_to_do(make):
    with pytest.warns(OwnGeneratorWarning, match=r"generator of its own .* Pass seed=0") as caught:
        TransformWrapper(floats(), make())
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TransformWrapper(floats(), make())


def test_the_generator_is_named():
    with pytest.warns(
        OwnGeneratorWarning, match=r"transform Compose .*\(transforms\[1\]\.rng, a Gen"
    ):
        MultiViewWrapper(floats(), "x", [float, Compose([float, Numpy()])])


def test_a_cache_notices_that_of_its_transform():
    with (
        pytest.warns(OwnGeneratorWarning, match=r"transform Numpy has .*TransformWrapper above"),
        CachedDataset([1.0, 2.0], "memory", transform=Numpy(), namespace=PRIVATE),
    ):
        pass


def test_nothing_is_said_of_others():
    circle = Compose([])
    circle.transforms.append(circle)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    holder = Compose([np.random, random, torch.default_generator, np.random.mtrand._rand])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for transform in (float, str.upper, circle, model, holder, len, functools.partial(int)):
            TransformWrapper(floats(), transform)
        TransformWrapper(floats(), Numpy(), seed=0)
