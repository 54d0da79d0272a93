"""``workers=N``: processes that load what cannot be gathered."""

from __future__ import annotations

import multiprocessing

import pytest
import torch
from torch.utils.data import DataLoader

import kappacore
from support.loading import Photos, equal, expected
from support.numbers import Numbers


def children():
    return multiprocessing.active_children()


def test_workers_give_the_same_batches():
    mode = "x class name parts"
    alone = list(kappacore.Loader(Photos(20), mode, 4, shuffle=True))
    loader = kappacore.Loader(Photos(20), mode, 4, shuffle=True, workers=2)
    assert equal(list(loader), alone)
    assert children() == []


def test_the_ctx_comes_along():
    loader = kappacore.Loader(Numbers(6), "x", 4, workers=2, return_ctx=True)
    assert [ctx["seen"].tolist() for _, ctx in loader] == [[0, 1, 2, 3], [4, 5]]


def test_collate_fn_is_called_on_what_they_read():
    loader = kappacore.Loader(Numbers(6), "x y", 4, workers=1, collate_fn=list)
    assert list(loader) == [[(0, 0), (10, 1), (20, 2), (30, 3)], [(40, 4), (50, 5)]]


def test_seeded_transforms_draw_the_same_in_workers():
    drawn = kappacore.TransformWrapper(Numbers(20), lambda x: x + torch.rand(()), seed=0)
    for epoch in range(2):
        drawn.set_epoch(epoch)
        wanted = list(DataLoader(kappacore.ModeWrapper(drawn, "x"), 4))
        for workers in (0, 2):
            loader = kappacore.Loader(drawn, "x", 4, workers=workers)
            loader.set_epoch(epoch)
            assert equal(list(loader), wanted)


def test_starting_workers_leaves_the_programs_generator_as_it_is():
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    for _ in kappacore.Loader(Numbers(4), "x", 2, workers=1):
        pass
    assert torch.equal(torch.rand(3), wanted)


def test_workers_end_with_the_loop():
    loader = kappacore.Loader(Numbers(400), "x", 2, workers=2)
    for _ in loader:
        assert len(children()) == 2
        break
    assert children() == []


class Failing(Numbers):
    def getitem_x(self, idx):
        if idx == 5:
            raise FileNotFoundError("no such photo")
        return idx


def test_an_error_in_a_worker_names_sample_and_item():
    iterator = iter(kappacore.Loader(Failing(10), "x", 2, workers=2))
    assert [next(iterator).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(FileNotFoundError, match=r"item 'x' of sample 5: .*no such photo"):
        next(iterator)
    assert children() == []


@pytest.mark.parametrize("start_method", ["spawn"])
def test_workers_can_be_spawned(start_method):
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(start_method, force=True)
    try:
        (batch,) = kappacore.Loader(Photos(4), "x class", 4, workers=1)
    finally:
        multiprocessing.set_start_method(before, force=True)
    assert equal(batch, expected(Photos(4), "x class", range(4)))
