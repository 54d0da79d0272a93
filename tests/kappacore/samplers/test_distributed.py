from __future__ import annotations

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

import kappacore
from kappacore.errors import DatasetTypeError, InvalidOptionError
from kappacore.samplers import DistributedSampler, InfiniteSampler
from support.numbers import Numbers

TORCHS = {
    "sequential": lambda: SequentialSampler(range(9)),
    "random": lambda: RandomSampler(range(9)),
    "of a generator": lambda: RandomSampler(range(9), generator=torch.Generator()),
    "subset": lambda: SubsetRandomSampler(range(0, 18, 2)),
    "weighted": lambda: WeightedRandomSampler([1.0, 2, 3], 9),
}


def test_orders_are_pinned():
    assert list(DistributedSampler(range(8))) == [2, 4, 3, 6, 5, 0, 1, 7]
    assert list(DistributedSampler(range(8), seed=1)) == [5, 0, 1, 4, 2, 6, 3, 7]
    assert list(DistributedSampler(range(4), shuffle=False)) == [0, 1, 2, 3]


@pytest.mark.parametrize("make", TORCHS.values(), ids=TORCHS)
def test_any_sampler_gives_all_ranks_the_same_order(make):
    """Each rank has generators of its own, in whatever state."""
    ranks = []
    for rank in range(2):
        torch.manual_seed(rank)
        sampler = DistributedSampler(make(), rank=rank, world_size=2, pad=False)
        sampler.set_epoch(3)
        ranks.append(list(sampler))
    torch.manual_seed(9)
    whole = DistributedSampler(make(), rank=0, world_size=1)
    whole.set_epoch(3)
    order = list(whole)
    assert ranks == [order[0::2], order[1::2]]


def test_a_sampler_leaves_the_generators_of_the_program_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(DistributedSampler(RandomSampler(range(9))))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 12])
def test_an_evaluation_sees_every_sample_once_over_all_ranks(world_size):
    seen = []
    for rank in range(world_size):
        sampler = DistributedSampler(
            Numbers(10), shuffle=False, pad=False, rank=rank, world_size=world_size
        )
        seen += list(sampler)
    assert sorted(seen) == list(range(10))


def test_it_is_a_sampler_of_torchs_loader():
    dataset = kappacore.ModeWrapper(Numbers(5), "x")
    sampler = DistributedSampler(dataset, shuffle=False, rank=1, world_size=2)
    loading = torch.utils.data.DataLoader(dataset, batch_size=2, sampler=sampler)
    assert len(loading) == 2
    assert [batch.tolist() for batch in loading] == [[10, 30], [0]]


def test_it_is_what_trainers_leave_as_it_is():
    assert isinstance(DistributedSampler(range(3)), torch.utils.data.DistributedSampler)


def test_what_it_cannot_share_out_is_refused():
    with pytest.raises(InvalidOptionError, match=r"^shuffle=False is for a dataset; a RandomSam"):
        DistributedSampler(RandomSampler(range(3)), shuffle=False)
    with pytest.raises(InvalidOptionError, match=r"a DistributedSampler of torch gives those of"):
        DistributedSampler(torch.utils.data.DistributedSampler(range(3), 2, 0))
    with pytest.raises(InvalidOptionError, match=r"a BatchSampler gives batches"):
        DistributedSampler(BatchSampler(SequentialSampler(range(3)), 2, False))
    with pytest.raises(InvalidOptionError, match=r"InfiniteSampler gives indices without end"):
        DistributedSampler(InfiniteSampler(range(3)))
    with pytest.raises(DatasetTypeError, match=r"needs a dataset that has a length; got a int"):
        DistributedSampler(3)
    with pytest.raises(InvalidOptionError, match=r"without samples"):
        DistributedSampler([])


def test_a_sampler_that_gives_another_number_than_it_says_is_refused():
    class Short(SequentialSampler):
        def __len__(self):
            return 5

    with pytest.raises(InvalidOptionError, match=r"Short has a length of 5 and gave 3 indices"):
        list(DistributedSampler(Short(range(3))))
