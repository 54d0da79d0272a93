"""What holds for every sampler: ranks, epochs, states."""

from __future__ import annotations

import pickle
from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from kappacore.errors import InvalidOptionError, LateEpochWarning, SamplerStateError
from kappacore.samplers import (
    BucketBatchSampler,
    ClassBalancedSampler,
    DistributedSampler,
    InfiniteSampler,
    WeightedSampler,
)
from support.labelled import Labelled

# torchdata calls what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

LABELS = [0, 1, 2, 1, 0, 1, -1, 1, 2, 1, 1]
DATASET = Labelled(LABELS)
NUMBERS = np.arange(1, len(LABELS) + 1)

MAKERS = {
    "weighted": lambda **o: WeightedSampler(DATASET, NUMBERS, **o),
    "without replacement": lambda **o: WeightedSampler(DATASET, NUMBERS, replacement=False, **o),
    "class balanced": lambda **o: ClassBalancedSampler(DATASET, 3, **o),
    "distributed": lambda **o: DistributedSampler(DATASET, **o),
    "of a sampler": lambda seed=0, **o: DistributedSampler(
        ClassBalancedSampler(DATASET, 3, seed=seed), seed=seed, **o
    ),
    "buckets": lambda **o: BucketBatchSampler(DATASET, NUMBERS, max_tokens=12, pool=6, **o),
}

each = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def one(make, **options):
    return make(rank=0, world_size=1, **options)


@each
@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 20])
def test_every_rank_has_every_so_manieth_entry(make, world_size):
    everything = list(one(make))
    for pad in (False, True):
        for rank in range(world_size):
            sampler = make(rank=rank, world_size=world_size, pad=pad)
            rounds = -(-len(everything) // world_size)
            places = [rank + world_size * number for number in range(rounds)]
            if not pad:
                places = [place for place in places if place < len(everything)]
            expected = [everything[place % len(everything)] for place in places]
            assert len(sampler) == len(expected)
            assert list(sampler) == expected


@each
def test_an_epoch_is_its_own_order_and_depends_on_nothing_else(make):
    sampler = one(make)
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert sampler.epoch == 1
    sampler.set_epoch(1)
    np.random.seed(5)
    assert list(sampler) == second
    assert list(one(make, seed=1)) != first


@each
@pytest.mark.parametrize("resumed_on", [1, 2, 4])
@pytest.mark.parametrize("saved_on", [1, 2, 3])
def test_a_state_goes_on_with_what_is_left_on_any_number_of_ranks(make, saved_on, resumed_on):
    samplers = [make(rank=rank, world_size=saved_on, pad=False) for rank in range(saved_on)]
    for sampler in samplers:
        sampler.set_epoch(2)
    done = [list(islice(sampler, 1)) for sampler in samplers]
    states = [pickle.loads(pickle.dumps(sampler.state_dict())) for sampler in samplers]
    assert states == [states[0]] * saved_on
    left = []
    for rank in range(resumed_on):
        sampler = make(rank=rank, world_size=resumed_on, pad=False)
        sampler.load_state_dict(states[0])
        sampler.set_epoch(2)  # as a loop over epochs does
        left.append(list(sampler))
    whole = one(make)
    whole.set_epoch(2)
    expected = list(whole)
    assert [entry for part in done for entry in part] == expected[:saved_on]
    merged = [part[number] for number in range(len(left[0])) for part in left if number < len(part)]
    assert merged == expected[saved_on:]


@each
def test_a_state_after_an_epoch_begins_the_next(make):
    sampler, other = one(make), one(make)
    list(sampler)
    other.load_state_dict(sampler.state_dict())
    assert list(other) == list(sampler)


@each
def test_an_iteration_that_was_left_is_an_epoch(make):
    sampler, other = one(make), one(make)
    next(iter(sampler))
    other.set_epoch(1)
    assert list(sampler) == list(other)


@each
def test_an_iterator_that_was_never_used_is_no_epoch(make):
    sampler = one(make)
    iter(sampler)
    assert list(sampler) == list(one(make))


@each
def test_another_seed_is_refused(make):
    with pytest.raises(SamplerStateError, match=r"the state has seed=0, this \w+ has seed=1: "):
        one(make, seed=1).load_state_dict(one(make).state_dict())


def test_the_state_of_another_sampler_or_dataset_is_refused():
    state = DistributedSampler(DATASET).state_dict()
    with pytest.raises(SamplerStateError, match=r"has length=11, this .* has length=3"):
        DistributedSampler(range(3)).load_state_dict(state)
    with pytest.raises(SamplerStateError, match=r"has sampler='DistributedSampler', this Weighted"):
        WeightedSampler(DATASET, NUMBERS).load_state_dict(state)
    with pytest.raises(SamplerStateError, match=r"has shuffle=True, this .* has shuffle=False"):
        DistributedSampler(DATASET, shuffle=False).load_state_dict(state)
    with pytest.raises(SamplerStateError, match=r"the state has weights="):
        WeightedSampler(DATASET, NUMBERS).load_state_dict(
            WeightedSampler(DATASET, NUMBERS[::-1]).state_dict()
        )
    with pytest.raises(SamplerStateError, match=r"the state has labels="):
        ClassBalancedSampler(Labelled([0, 1, 1])).load_state_dict(
            ClassBalancedSampler(Labelled([0, 0, 1])).state_dict()
        )
    with pytest.raises(SamplerStateError, match=r"the state has lengths="):
        BucketBatchSampler(DATASET, NUMBERS, 2).load_state_dict(
            BucketBatchSampler(DATASET, NUMBERS[::-1], 2).state_dict()
        )
    with pytest.raises(SamplerStateError, match=r"the state has sampler=None"):
        DistributedSampler(DATASET).load_state_dict({})


@each
def test_the_datasets_epoch_is_the_samplers(make, monkeypatch):
    told = []
    monkeypatch.setattr(DATASET, "set_epoch", told.append)
    sampler = one(make)
    iter(sampler)
    assert told == []
    list(sampler), list(sampler)
    sampler.set_epoch(7)
    next(iter(sampler))
    other = one(make)
    other.load_state_dict(sampler.state_dict())
    list(other)
    assert told == [0, 1, *[7] * 4]  # as it is set or loaded, and as an iteration begins


@each
def test_an_epoch_set_during_an_iteration_is_that_of_the_next(make):
    sampler = one(make)
    whole = {epoch: list(sampler) for epoch in range(4)}
    sampler.set_epoch(1)
    iterator = iter(sampler)
    first = next(iterator)
    sampler.set_epoch(3)
    with pytest.warns(LateEpochWarning, match=r"set_epoch\(3\) came while .* of epoch 1 runs"):
        assert [first, *iterator] == whole[1]
    assert list(sampler) == whole[3]


@each
def test_an_iterator_goes_on_where_its_state_says_though_its_epoch_is_set_again(make):
    """As Lightning does, between loading the state and the first batch."""
    sampler, other = one(make), one(make)
    whole = [list(other), list(other)]
    sampler.set_epoch(1)
    iterator = iter(sampler)
    next(iterator)
    resumed = iter(one(make))
    resumed.load_state_dict(iterator.state_dict())
    resumed._sampler.set_epoch(1)
    assert resumed.state_dict() == iterator.state_dict()
    assert list(resumed) == whole[1][1:]


@each
def test_ranks_come_from_the_environment(make, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert list(make()) == list(make(rank=1, world_size=3))


@each
@pytest.mark.parametrize(
    "options",
    [{"rank": 3, "world_size": 3}, {"rank": 0}, {"world_size": 2}, {"rank": -1, "world_size": 2}],
)
def test_ranks_that_do_not_exist_are_refused(make, options):
    with pytest.raises(InvalidOptionError, match=r"^rank=.*world_size=.*: expected both"):
        make(**options)


@each
@pytest.mark.parametrize("seed", [-1, None, 1.5])
def test_what_is_no_seed_is_refused(make, seed):
    with pytest.raises(InvalidOptionError, match=r"^seed="):
        make(seed=seed)


# ---- torchdata's loader resumes in the middle of an epoch


def loader(make, num_workers):
    sampler = one(make)
    is_batches = isinstance(sampler, BucketBatchSampler)
    options = {"batch_sampler": sampler} if is_batches else {"sampler": sampler, "batch_size": 2}
    context = "fork" if num_workers else None
    return StatefulDataLoader(
        range(len(LABELS)), num_workers=num_workers, multiprocessing_context=context, **options
    )


def batches(loading):
    return [batch.tolist() for batch in loading]


@pytest.mark.parametrize(
    "num_workers", [0, pytest.param(2, marks=pytest.mark.slow)], ids=["here", "workers"]
)
@each
def test_torchdatas_loader_resumes(make, num_workers):
    loading = loader(make, num_workers)
    expected = [batches(loading) for _ in range(3)]
    for done in (1, 2, len(expected[1])):
        loading = loader(make, num_workers)
        assert batches(loading) == expected[0]
        iterator = iter(loading)
        assert [next(iterator).tolist() for _ in range(done)] == expected[1][:done]
        state = loading.state_dict()
        del iterator
        resumed = loader(make, num_workers)
        resumed.load_state_dict(state)
        assert batches(resumed) == expected[1][done:]
        assert batches(resumed) == expected[2]


@each
def test_torchdatas_loader_resumes_after_an_epoch(make):
    loading = loader(make, 0)
    expected = [batches(loading) for _ in range(3)]
    loading = loader(make, 0)
    assert batches(loading) == expected[0]
    resumed = loader(make, 0)
    resumed.load_state_dict(loading.state_dict())
    assert [batches(resumed), batches(resumed)] == expected[1:]


# ---- without an end


def test_epochs_follow_one_another_without_a_gap():
    whole = DistributedSampler(DATASET, rank=0, world_size=1)
    stream = [index for _ in range(5) for index in whole]
    for world_size in (1, 2, 3, 20):
        number = len(stream) // world_size
        for rank in range(world_size):
            sampler = InfiniteSampler(DATASET, rank=rank, world_size=world_size)
            assert list(islice(sampler, number)) == stream[rank::world_size][:number]


@pytest.mark.parametrize("resumed_on", [1, 2, 4])
@pytest.mark.parametrize("done", [1, 5, 11, 12])
def test_a_stream_goes_on_on_any_number_of_ranks(done, resumed_on):
    stream = list(islice(InfiniteSampler(DATASET, rank=0, world_size=1), 100))
    sampler = InfiniteSampler(DATASET, rank=1, world_size=2)
    list(islice(sampler, done))
    assert sampler.epoch == done * 2 // len(LABELS)
    for rank in range(resumed_on):
        other = InfiniteSampler(DATASET, rank=rank, world_size=resumed_on)
        other.load_state_dict(sampler.state_dict())
        other.set_epoch(done * 2 // len(LABELS))
        assert list(islice(other, 9)) == stream[done * 2 + rank :: resumed_on][:9]


def test_a_stream_has_no_length_and_may_begin_at_any_epoch():
    sampler = InfiniteSampler(DATASET, rank=0, world_size=1)
    with pytest.raises(TypeError):
        len(sampler)
    sampler.set_epoch(1)
    first = DistributedSampler(DATASET, rank=0, world_size=1)
    first.set_epoch(1)
    assert list(islice(sampler, 11)) == list(first)
    assert list(islice(sampler, 11)) == list(first)


def test_a_stream_fills_batches_across_epochs_and_resumes():
    options = {"batch_size": 4, "sampler": InfiniteSampler(range(6), shuffle=False)}
    taken = islice(DataLoader(range(6), **options), 3)
    assert [batch.tolist() for batch in taken] == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]
    loading = StatefulDataLoader(range(6), batch_size=4, sampler=InfiniteSampler(range(6)))
    expected = [batch.tolist() for batch in islice(loading, 5)]
    loading = StatefulDataLoader(range(6), batch_size=4, sampler=InfiniteSampler(range(6)))
    list(islice(loading, 2))
    resumed = StatefulDataLoader(range(6), batch_size=4, sampler=InfiniteSampler(range(6)))
    resumed.load_state_dict(loading.state_dict())
    assert [batch.tolist() for batch in islice(resumed, 3)] == expected[2:]
