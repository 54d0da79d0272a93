from __future__ import annotations

import copy
import functools
import gc
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kappacore.caching import CacheWrapper
from kappacore.datasets import KDConcatDataset, KDSubset, KDWrapper, ModeWrapper, as_kd
from kappacore.errors import InvalidOptionError, RandomSourceError
from kappacore.wrappers import MultiViewWrapper, RepeatWrapper, ShuffleWrapper, TransformWrapper
from support.numbers import BatchNumbers, Numbers
from support.randoms import Draw, draw_one

KINDS = pytest.mark.parametrize(
    "make",
    [
        functools.partial(TransformWrapper, transform=draw_one),
        functools.partial(MultiViewWrapper, item="x", transforms=[draw_one, draw_one]),
    ],
)


def draws(dataset):
    return list(ModeWrapper(dataset, "x"))


# ---- what a sample draws


@KINDS
def test_a_sample_draws_the_same_however_it_is_read(make):
    expected = draws(make(Numbers(), seed=0))
    mode = ModeWrapper(make(BatchNumbers(), seed=0), "x")
    assert mode.__getitems__([3, 0, 9]) == [expected[3], expected[0], expected[9]]
    assert [mode[9], mode[3], mode[9]] == [expected[9], expected[3], expected[9]]


@KINDS
def test_samples_epochs_and_seeds_draw_differently(make):
    wrapper = make(Numbers(), seed=0)
    seen = [draws(wrapper), draws(make(Numbers(), seed=1))]
    wrapper.set_epoch(1)
    seen.append(draws(wrapper))
    flat = np.array(seen).ravel().tolist()
    assert len(set(flat)) == len(flat)
    wrapper.set_epoch(0)
    assert draws(wrapper) == seen[0]


def test_the_seeds_are_pinned():
    wrapper = TransformWrapper(Numbers(), draw_one, seed=0)
    mode = ModeWrapper(wrapper, "x", return_ctx=True)
    assert mode[0][1]["transform"]["seed"] == 5776873186339120334
    assert mode[1][1]["transform"]["seed"] == 1079002337719564907


def test_the_generators_of_torch_python_and_numpy_are_seeded():
    wrapper = TransformWrapper(Numbers(), Draw(), seed=7)
    first = draws(wrapper)
    assert first == draws(wrapper)
    for position in (1, 2, 3):
        assert len({sample[position] for sample in first}) == 10


def test_the_generators_go_on_as_if_nothing_had_been_drawn():
    mode = ModeWrapper(
        TransformWrapper(TransformWrapper(Numbers(), Draw(), seed=0), Draw(), seed=1), "x"
    )

    def drawn(read):
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        read()
        return Draw()(0)

    expected = drawn(lambda: None)
    assert drawn(lambda: mode[2]) == expected
    assert drawn(lambda: mode.__getitems__([1, 2, 3])) == expected


def test_the_generators_go_on_after_a_transform_has_failed():
    def fail(value):
        raise ValueError("no")

    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = Draw()(0)
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    with pytest.raises(ValueError, match=r"no"):
        TransformWrapper(Numbers(), fail, seed=0).getitem_x(0)
    assert Draw()(0) == expected


def test_a_transform_may_read_another_seeded_dataset():
    other = TransformWrapper(Numbers(), Draw(), seed=1)

    def mix(value):
        before = Draw()(value)
        return before, other.getitem_x(value // 10), Draw()(value)

    def alone(value):
        return Draw()(value), Draw()(value)

    mixed = draws(TransformWrapper(Numbers(), mix, seed=0))
    plain = draws(TransformWrapper(Numbers(), alone, seed=0))
    assert [(before, after) for before, _, after in mixed] == plain
    assert [inner for _, inner, _ in mixed] == draws(other)


def test_an_image_and_its_mask_draw_the_same_with_one_seed():
    pairs = as_kd([(idx, idx) for idx in range(5)], items=("x", "mask"))
    both = TransformWrapper(TransformWrapper(pairs, draw_one, seed=0), draw_one, "mask", seed=0)
    assert all(x == mask for x, mask in ModeWrapper(both, "x mask"))


def test_repetitions_below_draw_anew_and_those_above_the_same():
    below = draws(TransformWrapper(RepeatWrapper(Numbers(3), 2), draw_one, seed=0))
    above = draws(RepeatWrapper(TransformWrapper(Numbers(3), draw_one, seed=0), 2))
    assert len(set(below)) == 6
    assert above[:3] == above[3:]


def test_without_a_seed_the_workers_randomness_is_used():
    wrapper = TransformWrapper(Numbers(), draw_one)
    torch.manual_seed(0)
    first = draws(wrapper)
    assert draws(wrapper) != first
    torch.manual_seed(0)
    assert draws(wrapper) == first


def test_an_index_from_the_end_draws_what_the_sample_draws():
    wrapper = TransformWrapper(KDSubset(Numbers(), range(5)), draw_one, seed=0)
    assert wrapper.getitem_x(-1) == wrapper.getitem_x(4)


def test_a_name_of_the_dataset_is_not_hidden():
    dataset = Numbers()
    dataset.name = "numbers"
    assert TransformWrapper(dataset, draw_one, name="augment").name == "numbers"


# ---- the ctx


def test_what_was_drawn_comes_back_under_the_wrappers_name():
    wrapper = TransformWrapper(Numbers(), Draw(), seed=0, name="augment")
    for sample, ctx in ModeWrapper(wrapper, "x", return_ctx=True):
        assert ctx["augment"].keys() == {"seed", "drawn"}
        assert ctx["augment"]["drawn"] == sample[1]
        torch.manual_seed(ctx["augment"]["seed"])
        assert draw_one(None) == sample[1]


def test_wrappers_of_different_names_do_not_mix():
    wrapper = TransformWrapper(Numbers(), Draw(), name="first")
    wrapper = TransformWrapper(wrapper, Draw(), name="second")
    ((_, first, *_), second, *_), ctx = ModeWrapper(wrapper, "x", return_ctx=True)[0]
    assert (ctx["first"]["drawn"], ctx["second"]["drawn"]) == (first, second)


def test_without_a_name_the_transform_has_the_ctx_of_the_sample():
    wrapper = TransformWrapper(Numbers(), Draw(), seed=0)
    sample, ctx = ModeWrapper(wrapper, "x", return_ctx=True)[0]
    assert ctx["drawn"] == sample[1]
    assert ctx["transform"].keys() == {"seed"}


@pytest.mark.parametrize("options", [{"seed": 0}, {"name": "seen"}, {"seed": 0, "name": "seen"}])
def test_a_name_that_the_ctx_has_for_something_else_is_refused(options):
    name = options.get("name", "transform")

    def leave(value, ctx):
        ctx[name] = "something else"
        return value

    wrapper = TransformWrapper(TransformWrapper(Numbers(), leave), Draw(), **options)
    with pytest.raises(InvalidOptionError, match=rf"^name='{name}': .* has a (str|int) under"):
        ModeWrapper(wrapper, "x")[0]


# ---- the epoch


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_epoch_reaches_workers_that_are_already_running(method):
    wrapper = TransformWrapper(KDSubset(Numbers(), range(8)), draw_one, seed=0)
    mode = ModeWrapper(ShuffleWrapper(wrapper, seed=1), "x")
    loader = DataLoader(
        mode, batch_size=2, num_workers=2, persistent_workers=True, multiprocessing_context=method
    )
    for epoch in (0, 1, 7, 0):
        mode.set_epoch(epoch)
        from_workers = torch.cat(list(loader)).tolist()
        assert from_workers == list(mode)
        wrapper_alone = TransformWrapper(KDSubset(Numbers(), range(8)), draw_one, seed=0)
        wrapper_alone.set_epoch(epoch)
        assert sorted(from_workers) == sorted(draws(wrapper_alone))


def test_the_number_of_workers_does_not_matter():
    mode = ModeWrapper(MultiViewWrapper(Numbers(12), "x", [draw_one] * 2, seed=0), "x index")

    def read(**options):
        return [
            part.tolist()
            for (views, index) in DataLoader(mode, **options)
            for part in (*views, index)
        ]

    expected = read(batch_size=3)
    assert read(batch_size=3, num_workers=1) == expected
    assert read(batch_size=3, num_workers=2) == expected


def test_the_epoch_goes_through_everything_around():
    inner = TransformWrapper(Numbers(), draw_one, seed=0)
    other = TransformWrapper(Numbers(), draw_one, "y", seed=0)
    stack = KDWrapper(KDConcatDataset([KDSubset(inner, [1, 2]), RepeatWrapper(other, 2)]))
    mode = ModeWrapper(TransformWrapper(stack, draw_one, seed=4), "x")
    mode.set_epoch(3)
    assert (inner.epoch, other.epoch, mode.dataset.epoch) == (3, 3, 3)


def test_a_dataset_of_ones_own_hears_of_the_epoch():
    class Own(Numbers):
        def set_epoch(self, epoch):
            self.epoch_set = epoch

    own = Own()
    ModeWrapper(KDSubset(own, [0]), "x").set_epoch(5)
    assert own.epoch_set == 5


@KINDS
def test_fixed_draws_the_same_in_every_epoch(make):
    wrapper = make(Numbers(), seed=0, fixed=True)
    first = draws(wrapper)
    wrapper.set_epoch(4)
    assert draws(wrapper) == first == draws(make(Numbers(), seed=0))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))])
def test_a_copy_has_an_epoch_of_its_own_that_workers_see(copied):
    wrapper = TransformWrapper(Numbers(2), draw_one, seed=0)
    wrapper.set_epoch(2)
    other = copied(wrapper)
    assert other.epoch == 2
    other.set_epoch(5)
    assert wrapper.epoch == 2
    loader = DataLoader(ModeWrapper(other, "x"), num_workers=1, persistent_workers=True)
    assert torch.cat(list(loader)).tolist() == draws(other)
    other.set_epoch(6)
    assert torch.cat(list(loader)).tolist() == draws(other)


def test_the_epoch_has_no_name_that_could_be_left_behind():
    def named():
        return [path for path in Path("/dev/shm").iterdir() if f"_{os.getpid()}_" in path.name]

    before = named()
    wrappers = [TransformWrapper(Numbers(), draw_one, seed=0) for _ in range(5)]
    assert named() == before
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    del wrappers
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


# ---- being random


@KINDS
def test_a_cache_above_is_refused_unless_each_sample_is_fixed(make):
    assert make(Numbers(), seed=0).is_random
    with pytest.raises(RandomSourceError, match=r"is random"):
        CacheWrapper(KDSubset(make(Numbers(), seed=0), [1]), "memory")
    fixed = make(Numbers(), seed=0, fixed=True)
    assert not fixed.is_random
    with CacheWrapper(fixed, "memory") as cached:
        assert [draws(cached), draws(cached)] == [draws(fixed)] * 2


@KINDS
def test_randomness_can_be_declared(make):
    assert make(Numbers(), is_random=True).is_random
    assert not make(Numbers(), seed=0, is_random=False).is_random


@KINDS
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "^seed=-1: expected an integer of at least 0"),
        ({"seed": 0.5}, r"^seed=0\.5: expected an integer"),
        ({"fixed": True}, "^fixed=True needs a seed"),
        ({"name": ""}, "^name='': expected a word"),
        ({"name": "two words"}, "^name='two words': expected a word"),
        ({"name": 3}, "^name=3: expected a word"),
    ],
)
def test_options_that_do_not_fit_are_refused(make, options, message):
    with pytest.raises(InvalidOptionError, match=message):
        make(Numbers(), **options)


@pytest.mark.parametrize("epoch", [-1, 0.5, None])
def test_what_is_no_epoch_is_refused(epoch):
    for wrapper in (
        TransformWrapper(Numbers(), draw_one, seed=0),
        TransformWrapper(Numbers(), str),
    ):
        with pytest.raises(InvalidOptionError, match=r"^epoch=.*: expected an integer of at"):
            wrapper.set_epoch(epoch)
