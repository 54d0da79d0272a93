from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from torch.utils.data import DataLoader

import kappacore
from kappacore.errors import InvalidOptionError, OwnGeneratorWarning
from kappacore.wrappers import Compose, TransformWrapper, seed_worker
from support.numbers import Numbers, add_one


def note(value, ctx):
    ctx["noted"] = value
    return value * 2


class Draw:
    """Draws from a generator of its own, as KappaData's transforms do."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __call__(self, value):
        return value + self.rng.random()


def test_the_ctx_reaches_every_transform_that_takes_it():
    transform = Compose([add_one, note, Compose([add_one])])
    data = kappacore.ModeWrapper(TransformWrapper(Numbers(), transform), "x ctx.noted")
    assert data[2] == (43, 21)
    assert Compose([add_one, note])(1, ctx={}) == 4
    assert Compose([add_one, add_one])(1) == 3
    assert pickle.loads(pickle.dumps(Compose([add_one])))(1) == 2


def test_it_is_random_if_one_of_them_is():
    class Random:
        is_random = True

        def __call__(self, value):
            return value

    assert Compose([add_one, Compose([Random()])]).is_random
    assert not Compose([add_one]).is_random
    assert TransformWrapper(Numbers(), Compose([Random()])).is_random


def test_generators_within_are_seeded():
    data = kappacore.ModeWrapper(TransformWrapper(Numbers(), Compose([Draw()]), seed=3), "x")
    assert data[1] == data[1]


@pytest.mark.parametrize("transforms", [[3], add_one, None])
def test_what_cannot_be_called_is_refused(transforms):
    with pytest.raises(InvalidOptionError, match=r"Compose takes a list of transforms"):
        Compose(transforms)


@pytest.mark.slow
def test_every_worker_and_epoch_draws_from_generators_in_another_state():
    def epoch(worker_init_fn):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OwnGeneratorWarning)
            wrapped = TransformWrapper(Numbers(4), Compose([Draw()]))
        loader = DataLoader(
            kappacore.ModeWrapper(wrapped, "x index"),
            num_workers=2,
            worker_init_fn=worker_init_fn,
            multiprocessing_context="fork",
        )
        return [[float(x) - 10 * int(index) for x, index in loader] for _ in range(2)]

    same = epoch(None)
    assert same[0] == pytest.approx(same[1])
    assert same[0][0] == pytest.approx(same[0][1])  # each worker begins with the same copy
    first, second = epoch(seed_worker)
    assert len({round(value, 9) for value in [*first, *second]}) == 8
    plain = DataLoader(
        range(4), num_workers=1, worker_init_fn=seed_worker, multiprocessing_context="fork"
    )
    assert len(list(plain)) == 4


def test_only_workers_are_seeded():
    with pytest.raises(InvalidOptionError, match=r"^seed_worker\(0\) was called in a process"):
        seed_worker(0)
