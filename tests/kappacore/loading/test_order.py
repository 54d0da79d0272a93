"""Order, ranks and states: the global batch is drawn once, each rank takes its rows."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SubsetRandomSampler

import kappacore
from kappacore.errors import InvalidOptionError, LateEpochWarning, LoaderStateError
from kappacore.samplers import DistributedSampler
from support.loading import Photos
from support.numbers import Numbers


def loaders(world_size, batch_size, length=50, **options):
    return [
        kappacore.Loader(
            Numbers(length), "index", batch_size, rank=rank, world_size=world_size, **options
        )
        for rank in range(world_size)
    ]


def global_batches(ranks):
    """Return the global batches of the Loaders of all ranks, each joined in the ranks' order."""
    return [torch.cat(parts).tolist() for parts in zip(*ranks, strict=True)]


def test_without_shuffle_the_order_is_the_datasets():
    assert global_batches(loaders(1, 20)) == [[*range(20)], [*range(20, 40)], [*range(40, 50)]]


def test_an_epoch_is_shuffled_and_each_in_its_own_order():
    loader = kappacore.Loader(Numbers(50), "index", 50, shuffle=True)
    first, second = next(iter(loader)).tolist(), next(iter(loader)).tolist()
    assert first != second
    assert sorted(first) == sorted(second) == [*range(50)]
    loader.set_epoch(0)
    assert next(iter(loader)).tolist() == first
    other = kappacore.Loader(Numbers(50), "index", 50, shuffle=True, seed=1)
    assert next(iter(other)).tolist() != first


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_global_batch_is_the_same_on_any_number_of_ranks(shuffle, drop_last):
    options = {"length": 56, "shuffle": shuffle, "drop_last": drop_last}
    eight, four, one = (
        global_batches(loaders(ranks, 16 // ranks, **options)) for ranks in (8, 4, 1)
    )
    assert eight == four == one
    assert len(eight) == (3 if drop_last else 4)


@pytest.mark.parametrize("length", [1, 7, 16, 17, 31, 50])
@pytest.mark.parametrize("world_size", [1, 3, 4])
def test_padding_gives_all_ranks_as_many_rows(world_size, length):
    ranks = loaders(world_size, 5, length)
    batches = [[len(batch) for batch in loader] for loader in ranks]
    assert all(each == batches[0] for each in batches)
    assert [len(loader) for loader in ranks] == [len(batches[0])] * world_size
    read = [idx for batch in global_batches(ranks) for idx in batch]
    assert read[:length] == [*range(length)]
    assert len(read) - length < world_size
    assert read[length:] == [k % length for k in range(len(read) - length)]


@pytest.mark.parametrize("length", [0, 1, 7, 16, 17, 31, 50])
@pytest.mark.parametrize("world_size", [1, 3, 4])
def test_without_padding_each_sample_comes_exactly_once(world_size, length):
    ranks = loaders(world_size, 5, length, pad=False, shuffle=True)
    batches = [[batch.tolist() for batch in loader] for loader in ranks]
    assert sorted(idx for rank in batches for batch in rank for idx in batch) == [*range(length)]
    assert [len(loader) for loader in ranks] == [len(each) for each in batches]
    counts = [sum(map(len, each)) for each in batches]
    assert max(counts) - min(counts) <= 1 or length % (5 * world_size) == 0


def test_the_rank_is_torchruns(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    loader = kappacore.Loader(Numbers(8), "index", 2)
    assert [batch.tolist() for batch in loader] == [[2, 3], [6, 7]]
    assert len(loader) == 2


def test_the_rank_is_looked_up_when_an_iteration_begins(monkeypatch):
    loader = kappacore.Loader(Numbers(8), "index", 2)
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert [batch.tolist() for batch in loader] == [[2, 3]]


def test_several_ranks_of_which_none_is_known_are_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InvalidOptionError, match=r"WORLD_SIZE=2 .* pass rank= and world_size="):
        iter(kappacore.Loader(Numbers(8), "index", 2))


# ---- samplers


def test_a_sampler_is_used_as_it_is():
    sampler = SubsetRandomSampler([3, 5, 7, 9, 11])
    ranks = [
        kappacore.Loader(Numbers(20), "index", 2, sampler=sampler, rank=rank, world_size=2)
        for rank in range(2)
    ]
    for loader in ranks:
        assert sorted(torch.cat(list(loader)).tolist()) == [3, 5, 7, 9, 11]
        assert len(loader) == 3
    dropping = kappacore.Loader(Numbers(20), "index", 2, sampler=sampler, drop_last=True)
    assert [len(batch) for batch in dropping] == [2, 2]
    assert len(dropping) == 2


def test_a_batch_sampler_is_used_as_it_is():
    chosen = BatchSampler(range(10, 15), batch_size=2, drop_last=False)
    loader = kappacore.Loader(Numbers(20), "index", batch_sampler=chosen)
    assert [batch.tolist() for batch in loader] == [[10, 11], [12, 13], [14]]
    assert len(loader) == 3


def test_a_samplers_epoch_is_set():
    class Sampler(RandomSampler):
        epoch = None

        def set_epoch(self, epoch):
            self.epoch = epoch

    sampler = Sampler(range(4))
    loader = kappacore.Loader(Numbers(4), "index", 2, sampler=sampler)
    loader.set_epoch(5)
    list(loader)
    assert sampler.epoch == 5


def test_draws_of_a_samplers_rows_differ_between_ranks():
    def drawn(rank):
        loader = kappacore.Loader(
            Numbers(8),
            "index",
            2,
            sampler=range(4),
            rank=rank,
            world_size=2,
            transform=lambda index, draw: draw.rand(),
        )
        return torch.cat(list(loader))

    assert len({*drawn(0).tolist(), *drawn(1).tolist()}) == 8


# ---- epochs


def test_two_iterations_at_once_are_two_iterators():
    loader = kappacore.Loader(Numbers(6), "index", 2, shuffle=True)
    pairs = list(zip(loader, loader, strict=True))
    assert len(pairs) == 3
    assert all(torch.equal(one, other) for one, other in pairs)
    assert loader.epoch == 1


def test_an_epoch_that_was_left_is_over():
    loader = kappacore.Loader(Numbers(50), "index", 5, shuffle=True)
    epochs = []
    for _ in range(2):
        for batch in loader:
            epochs.append(batch.tolist())
            break
    assert epochs[0] != epochs[1]
    loader.set_epoch(1)
    assert next(iter(loader)).tolist() == epochs[1]


def test_an_iteration_is_over_though_it_is_held():
    """Lightning and others take as many batches as there are, and keep the iterator."""
    loader = kappacore.Loader(Numbers(50), "index", 25, shuffle=True)
    held, epochs = [], []
    for number in (2, 1, 2):
        held.append(iter(loader))
        epochs.append(next(held[-1]).tolist())
        assert len([*islice(held[-1], number - 1)]) == number - 1
    assert len({tuple(epoch) for epoch in epochs}) == 3
    loader.set_epoch(2)
    assert next(iter(loader)).tolist() == epochs[2]


def test_the_datasets_epoch_is_the_loaders():
    drawn = kappacore.TransformWrapper(Numbers(4), lambda x: x + torch.rand(()), seed=0)
    loader = kappacore.Loader(drawn, "x", 4)
    epochs = [next(iter(loader)) for _ in range(2)]
    assert not torch.equal(*epochs)
    loader.set_epoch(0)
    assert torch.equal(next(iter(loader)), epochs[0])


def test_reading_ahead_keeps_the_seeds_of_the_samples():
    """Whatever the loop draws meanwhile, as dropout does on the CPU."""
    drawn = kappacore.TransformWrapper(Numbers(40), lambda x: x + torch.rand(()), seed=0)
    torch.manual_seed(0)
    alone = [torch.rand(3) for _ in range(20)]
    expected = list(DataLoader(kappacore.ModeWrapper(drawn, "x"), batch_size=2))
    torch.manual_seed(0)
    found = []
    for batch, mine in zip(kappacore.Loader(drawn, "x", 2, prefetch=8), alone, strict=True):
        found.append(batch)
        assert torch.equal(torch.rand(3), mine)
    assert all(map(torch.equal, found, expected))


def test_iterators_that_wait_keep_their_epoch_with_a_sampler_too():
    sampler = DistributedSampler(range(8), rank=0, world_size=1)
    loader = kappacore.Loader(Numbers(8), "index", 4, sampler=sampler, prefetch=0)
    both = [iter(loader), iter(loader)]  # of epoch 0, as none has begun
    for each in both:
        assert torch.cat(list(each)).tolist() == sampler.indices(0).tolist()


def test_an_epoch_set_during_an_iteration_is_that_of_the_next():
    loader = kappacore.Loader(Numbers(8), "index", 2, shuffle=True)
    whole = [torch.cat(list(loader)).tolist() for _ in range(4)]
    loader.set_epoch(1)
    iterator = iter(loader)
    found = [next(iterator)]
    loader.set_epoch(3)
    with pytest.warns(LateEpochWarning, match=r"set_epoch\(3\) came while .* of epoch 1 runs"):
        found.append(next(iterator))
    assert torch.cat([*found, *iterator]).tolist() == whole[1]  # said once
    assert torch.cat(list(loader)).tolist() == whole[3]


def test_an_epoch_set_after_the_last_batch_or_before_another_iteration_is_not_late():
    loader = kappacore.Loader(Numbers(4), "index", 2)
    for epoch in range(1, 3):
        for position, _ in enumerate(loader):
            if position == 1:
                loader.set_epoch(epoch)
    held = iter(loader)
    next(held)
    loader.set_epoch(7)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3]]
    assert next(held).tolist() == [2, 3]  # the loop knows that there are two


@pytest.mark.parametrize("options", [{}, {"prefetch": 0}, {"buffers": "ring"}], ids=str)
def test_an_iterator_that_waits_is_of_the_epoch_that_is_set(options):
    """Lightning makes the iterator, and then tells the epoch, as if the Loader had a sampler."""

    def make():
        drawn = kappacore.TransformWrapper(Numbers(8), lambda x: x + torch.rand(()), seed=0)
        return kappacore.Loader(
            drawn,
            "index x",
            2,
            shuffle=True,
            transform=lambda b, draw: (*b, draw.rand()),
            **options,
        )

    def seen(batches):
        return [[part.tolist() for part in batch] for batch in batches]

    whole = make()
    expected = [seen(whole) for _ in range(3)]
    loader = make()
    waiting = iter(loader)
    loader.sampler.set_epoch(2)
    assert (loader.epoch, loader.state_dict()["epoch"]) == (2, 2)
    assert seen(waiting) == expected[2]
    assert [stats.epoch for stats in loader.stats()] == [2]
    loader.set_epoch(0)
    next(iter(loader))
    state = loader.state_dict()
    for epoch, left in ((0, expected[0][1:]), (1, expected[1])):
        loader.load_state_dict(state)
        waiting = iter(loader)
        loader.set_epoch(epoch)
        assert seen(waiting) == left
    iter(loader).close()
    loader.set_epoch(1)
    assert seen(loader) == expected[1]


def test_trainers_tell_the_epoch_of_a_loader_with_a_sampler_too():
    sampler = DistributedSampler(range(8), rank=0, world_size=1)
    loader = kappacore.Loader(Numbers(8), "index", 4, sampler=sampler)
    waiting = iter(loader)
    loader.sampler.set_epoch(3)
    assert torch.cat(list(waiting)).tolist() == sampler.indices(3).tolist()


# ---- states


@pytest.mark.parametrize("rank", range(4))
def test_a_rank_begins_the_next_epoch_where_a_state_leaves_it_no_rows(rank):
    """Without padding, ranks have a batch more or less; a trainer counts each rank's own."""
    options = {"length": 9, "pad": False, "shuffle": True}
    ranks = loaders(4, 2, **options)
    whole = [[torch.cat(list(loader)).tolist() for _ in range(2)] for loader in ranks]
    for loader in ranks:
        loader.set_epoch(0)
        next(iter(loader))
    states = [loader.state_dict() for loader in ranks]
    assert states == [states[0]] * 4
    resumed = loaders(4, 2, **options)[rank]
    resumed.load_state_dict(states[rank])
    left = whole[rank][0][2:]
    assert resumed.epoch == (not left)
    assert torch.cat(list(resumed)).tolist() == (left or whole[rank][1])
    resumed.load_state_dict(states[rank])
    resumed.set_epoch(0)  # as a loop over epochs does
    assert [batch.tolist() for batch in resumed] == ([left] if left else [])
    assert torch.cat(list(resumed)).tolist() == whole[rank][1]


def test_a_rank_without_rows_goes_on_from_epoch_to_epoch():
    loader = loaders(2, 2, length=1, pad=False)[0]
    for epoch in range(3):
        assert (loader.epoch, loader.state_dict()["epoch"]) == (epoch, epoch)
        assert list(loader) == []
    fresh = loaders(2, 2, length=1, pad=False)
    fresh[0].load_state_dict(fresh[1].state_dict())
    assert fresh[0].epoch == 0  # nothing was read
    next(iter(fresh[1]))
    fresh[0].load_state_dict(fresh[1].state_dict())
    assert fresh[0].epoch == 1


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_state_goes_on_with_another_number_of_ranks(shuffle, drop_last):
    options = {"length": 70, "shuffle": shuffle, "drop_last": drop_last}
    eight = loaders(8, 2, **options)
    whole = global_batches(eight)
    for loader in eight:
        loader.set_epoch(0)
    iterators = [iter(loader) for loader in eight]
    for _ in range(2):
        for iterator in iterators:
            next(iterator)
    states = [loader.state_dict() for loader in eight]
    assert all(state == states[0] for state in states)
    assert states[0]["position"] == 32
    four = loaders(4, 4, **options)
    for loader in four:
        loader.load_state_dict(states[0])
        loader.set_epoch(0)
    assert [batch[:6] for batch in global_batches(four)] == [batch[:6] for batch in whole[2:]]
    assert all(loader.epoch == 1 for loader in four)


def test_the_draws_go_on_as_well():
    def loader(world_size, rank):
        return kappacore.Loader(
            Photos(24),
            "index",
            12 // world_size,
            shuffle=True,
            rank=rank,
            world_size=world_size,
            transform=lambda index, draw: (index, draw.randn(2)),
        )

    one = loader(1, 0)
    _, (index, drawn) = one
    one.set_epoch(0)
    next(iter(one))
    parts = []
    for rank in range(3):
        third = loader(3, rank)
        third.load_state_dict({**one.state_dict()})
        parts += list(third)
    assert torch.equal(torch.cat([part[0] for part in parts]), index)
    assert torch.equal(torch.cat([part[1] for part in parts]), drawn)


def test_a_state_before_and_after_an_epoch():
    loader = kappacore.Loader(Numbers(6), "index", 2)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 0)
    list(loader)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (1, 0)


@pytest.mark.parametrize("length", [8, 9])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 2},
        {"batch_size": 2, "drop_last": True},
        {"batch_size": 2, "sampler": True},
        {"batch_sampler": True},
    ],
    ids=str,
)
def test_the_state_after_the_last_batch_of_an_epoch_begins_the_next(length, options):
    """A trainer that counts batches never asks for the one that is not there."""

    def make():
        sampler = DistributedSampler(range(length), rank=0, world_size=1)
        given = {"sampler": sampler, "batch_sampler": BatchSampler(sampler, 2, False)}
        chosen = {name: given.get(name, value) for name, value in options.items()}
        order = {} if "sampler" in options or "batch_sampler" in options else {"shuffle": True}
        return kappacore.Loader(Numbers(length), "index", **order, **chosen)

    loader = make()
    epochs = [torch.cat(list(loader)).tolist() for _ in range(2)]
    loader.set_epoch(0)
    held = iter(loader)
    list(islice(held, len(loader)))
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    assert resumed.state_dict() == loader.state_dict()
    assert resumed.epoch == 1
    assert torch.cat(list(resumed)).tolist() == epochs[1]
    resumed.load_state_dict(loader.state_dict())
    resumed.set_epoch(0)  # as a loop over epochs does
    assert list(resumed) == []
    assert torch.cat(list(resumed)).tolist() == epochs[1]


def test_a_sampler_goes_on_too():
    loader = kappacore.Loader(Numbers(9), "index", 2, sampler=range(9))
    iterator = iter(loader)
    next(iterator)
    other = kappacore.Loader(Numbers(9), "index", 2, sampler=range(9))
    other.load_state_dict(loader.state_dict())
    assert torch.cat(list(other)).tolist() == [*range(2, 9)]


def test_a_samplers_own_state_does_not_skip_a_second_time():
    def make():
        sampler = DistributedSampler(range(8), rank=0, world_size=1)
        return sampler, kappacore.Loader(Numbers(8), "index", 2, sampler=sampler)

    sampler, loader = make()
    iterator = iter(loader)
    next(iterator)
    states = sampler.state_dict(), loader.state_dict()
    rest = torch.cat(list(iterator)).tolist()
    sampler, loader = make()
    sampler.load_state_dict(states[0])
    loader.load_state_dict(states[1])
    assert torch.cat(list(loader)).tolist() == rest


def test_an_iterator_that_gave_nothing_does_not_lose_the_place():
    def make():
        return kappacore.Loader(Numbers(8), "index", 2, shuffle=True)

    first = make()
    iterator = iter(first)
    next(iterator)
    resumed = make()
    resumed.load_state_dict(first.state_dict())
    waiting = iter(resumed)
    resumed.set_epoch(0)
    assert next(iter(resumed)).tolist() == next(iterator).tolist()
    resumed.load_state_dict({**first.state_dict(), "position": 2})
    waiting = iter(resumed)
    resumed.set_epoch(0)
    next(waiting)
    assert resumed.state_dict()["position"] == 4


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda: kappacore.Loader(Numbers(11), "index"), "samples=10, and this Loader samples=11"),
        (lambda: kappacore.Loader(Numbers(10), "index", seed=1), "seed=0, and this Loader seed=1"),
        (
            lambda: kappacore.Loader(Numbers(10), "index", shuffle=True),
            "order='sequential', and this Loader order='shuffled'",
        ),
        (lambda: kappacore.Loader(Numbers(10), "x"), "and this Loader dataset="),
    ],
)
def test_a_state_of_something_else_is_refused(other, named):
    state = kappacore.Loader(Numbers(10), "index").state_dict()
    with pytest.raises(LoaderStateError, match=f"the state has .*{named}"):
        other().load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"version": 99, "epoch": 0, "position": 0}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(LoaderStateError, match="no state of a Loader"):
        kappacore.Loader(Numbers(10), "x").load_state_dict(state)
