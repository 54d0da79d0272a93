"""``transform(batch, draw)``: whole batches, with draws that depend on seed, epoch and position."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

import kappacore
from kappacore.loading.draw import Draw
from support.loading import Photos, equal
from support.numbers import Numbers

CPU = torch.device("cpu")


def draw(positions, seed=0, epoch=0):
    return Draw(seed, epoch, np.asarray(positions), CPU)


def drawn(each):
    return each.rand(), each.randn(2, 3), each.randint(-5, 100, 4), each.rand(2)


def test_a_row_draws_by_its_position_alone():
    whole = drawn(draw(range(100, 120)))
    parts = [drawn(draw(range(first, first + 5))) for first in range(100, 120, 5)]
    assert equal(whole, [torch.cat(each) for each in zip(*parts, strict=True)])
    backwards = drawn(draw(range(119, 99, -1)))
    assert equal(whole, [each.flip(0) for each in backwards])


def test_seed_epoch_position_and_call_change_the_draws():
    first = draw([0])
    numbers = {first.rand().item() for _ in range(3)}
    for other in (draw([0], seed=1), draw([0], epoch=1), draw([1]), draw([2**40])):
        numbers.add(other.rand().item())
    assert len(numbers) == 7


@pytest.mark.slow
def test_the_draws_are_distributed_as_they_say():
    many = draw(range(20_000))
    uniform, normal, whole = many.rand(3), many.randn(3), many.randint(-2, 8, 3)
    assert (uniform.dtype, normal.dtype, whole.dtype) == (torch.float32,) * 2 + (torch.int64,)
    assert 0 <= uniform.min() < 0.001 < 0.999 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01
    assert abs(uniform.std() - 12**-0.5) < 0.01
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert torch.bincount(whole.flatten() + 2).tolist() == pytest.approx([6000] * 10, rel=0.05)
    correlations = np.corrcoef(torch.cat([uniform, normal, whole.float()], 1).T)
    assert np.abs(correlations - np.eye(9)).max() < 0.03


def test_a_span_that_is_too_wide_is_refused():
    with pytest.raises(ValueError, match=r"randint\(3, 3\)"):
        draw([0]).randint(3, 3)


def test_the_programs_generators_are_not_touched():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    drawn(draw(range(5)))
    assert torch.equal(before, torch.get_rng_state())


def test_seeded_seeds_the_global_generators_and_restores_them():
    def numbers():
        return torch.rand(()).item(), random.random(), np.random.rand()

    one, other = draw([4]), draw([4])
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    with one.seeded() as seed:
        inside = numbers()
    outside = numbers()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    assert numbers() == outside
    with other.seeded() as again:
        assert numbers() == inside
    assert seed == again
    with other.seeded() as later:
        assert later != seed


# ---- transforms


def flip(batch, draw):
    flipped = draw.rand() < 0.5
    draw.params["flipped"] = flipped
    x = torch.where(flipped[:, None, None, None], batch["x"].flip(2), batch["x"])
    return batch.replace(x=x)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_params_come_back_in_the_ctx(prefetch):
    loader = kappacore.Loader(
        Photos(12), "x index", 4, transform=flip, return_ctx=True, prefetch=prefetch
    )
    plain = kappacore.Loader(Photos(12), "x", 4)
    flips = []
    for (batch, ctx), x in zip(loader, plain, strict=True):
        assert batch.names == ("x", "index")
        flips += ctx["flipped"].tolist()
        for row, flipped in enumerate(ctx["flipped"]):
            assert torch.equal(batch["x"][row], x[row].flip(1) if flipped else x[row])
    assert 0 < sum(flips) < 12


def test_params_stand_beside_the_ctx_of_the_samples():
    def note(x, draw):
        draw.params["drawn"] = draw.rand()
        return x

    loader = kappacore.Loader(Numbers(4), "x", 4, transform=note, return_ctx=True)
    ((_, ctx),) = loader
    assert ctx["seen"].tolist() == [0, 1, 2, 3]
    assert ctx["drawn"].shape == (4,)


def test_an_epoch_draws_anew_and_the_same_when_it_comes_again():
    loader = kappacore.Loader(Numbers(4), "x", 4, transform=lambda x, draw: draw.rand())
    first, second = next(iter(loader)), next(iter(loader))
    loader.set_epoch(0)
    assert not torch.equal(first, second)
    assert torch.equal(next(iter(loader)), first)


@pytest.mark.parametrize("world_size", [2, 3])
def test_all_ranks_together_draw_what_one_does(world_size):
    def loader(rank, world_size):
        return kappacore.Loader(
            Photos(24),
            "x index",
            12 // world_size,
            shuffle=True,
            rank=rank,
            world_size=world_size,
            transform=flip,
        )

    parts = [list(loader(rank, world_size)) for rank in range(world_size)]
    for number, batch in enumerate(loader(0, 1)):
        joined = [torch.cat(each) for each in zip(*(rank[number] for rank in parts), strict=True)]
        assert equal(joined, tuple(batch))


def test_a_plain_tuple_of_as_many_items_gets_their_names():
    loader = kappacore.Loader(Numbers(4), "x y", 4, transform=lambda batch, draw: (*batch,))
    assert next(iter(loader)).names == ("x", "y")


def test_a_transform_may_return_something_else():
    loader = kappacore.Loader(Numbers(4), "x y", 4, transform=lambda batch, draw: {"z": batch[0]})
    assert next(iter(loader))["z"].tolist() == [0, 10, 20, 30]


def test_an_error_of_a_transform_comes_out_unchanged():
    def fail(x, draw):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        next(iter(kappacore.Loader(Numbers(4), "x", 4, transform=fail)))
