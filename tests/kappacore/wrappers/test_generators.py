"""The global random generators, seeded for a while: of nobody else's concern."""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import kappacore
from kappacore.caching import CacheWrapper
from kappacore.datasets import ModeWrapper
from kappacore.wrappers import MultiViewWrapper, TransformWrapper, randomness
from kappacore.wrappers.randomness import random_states_kept, seed_generators
from support.numbers import Numbers
from support.randoms import Draw


def slow_draws(value):
    """Draw, let other threads run, and draw again."""
    first = Draw()(value)
    time.sleep(0.0002)
    return first, Draw()(value)


def drawn_in_pairs(read):
    """Return normal numbers, of which each generator draws two at once, with a read between."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    first = random.gauss(0, 1), np.random.randn(), torch.randn(()).item()
    read()
    return [*first, random.gauss(0, 1), *np.random.randn(3), *torch.randn(3).tolist()]


@pytest.mark.parametrize("number", [0, 1])
def test_the_second_of_a_pair_of_normal_numbers_still_comes(number):
    def read():
        if number:
            TransformWrapper(Numbers(), Draw(), seed=0).getitem_x(0)

    assert drawn_in_pairs(read) == drawn_in_pairs(lambda: None)


def test_a_block_leaves_nothing_behind_wherever_the_generators_are():
    for skipped in (0, 1, 310, 311, 312, 700):  # of 624 words
        random.seed(skipped)
        np.random.seed(skipped)
        for _ in range(skipped):
            random.random()
            np.random.random()
        state, numpys = random.getstate(), np.random.get_state()[1:]
        with random_states_kept():
            seed_generators(5)
            Draw()(0)
            random.gauss(0, 1)
        assert random.getstate() == state
        assert all(map(np.array_equal, np.random.get_state()[1:], numpys))


def test_another_generator_of_numpy_is_put_back():
    before = np.random.get_bit_generator()
    try:
        for seed in (0, 1):
            np.random.set_bit_generator(np.random.PCG64(seed))
            expected = np.random.randn(4).tolist()
            np.random.set_bit_generator(np.random.PCG64(seed))
            got = [np.random.randn()]
            TransformWrapper(Numbers(), Draw(), seed=0).getitem_x(0)
            assert got + np.random.randn(3).tolist() == expected
    finally:
        np.random.set_bit_generator(before)


@pytest.mark.parametrize(
    "make",
    [
        lambda ds: TransformWrapper(ds, slow_draws, seed=0),
        lambda ds: MultiViewWrapper(ds, "x", [slow_draws] * 2, seed=0),
    ],
)
def test_threads_draw_what_the_samples_draw(make):
    mode = ModeWrapper(make(Numbers(40)), "x")
    expected, generator = list(mode), np.random.get_bit_generator()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(mode.__getitem__, range(40))) == expected
        batches = list(pool.map(mode.__getitems__, np.split(np.arange(40), 10)))
    assert [sample for batch in batches for sample in batch] == expected
    assert np.random.get_bit_generator() is generator


def test_a_cache_filled_by_threads_holds_what_the_samples_draw():
    fixed = TransformWrapper(Numbers(40), slow_draws, seed=0, fixed=True)
    expected = list(ModeWrapper(fixed, "x"))
    with CacheWrapper(fixed, "memory", namespace=kappacore.PRIVATE) as cached:
        cached.prefill(progress=False, threads=4)
        assert list(ModeWrapper(cached, "x")) == expected


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of Python 3.12
def test_a_process_forked_while_a_thread_draws_does_not_wait_for_it():
    inside, done = threading.Event(), threading.Event()

    def hold():
        with random_states_kept():
            inside.set()
            done.wait(100)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(100)
    child = os.fork()
    if not child:
        free = randomness._one_at_a_time.acquire(timeout=60)
        os._exit(0 if free else 1)
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    assert status == 0
