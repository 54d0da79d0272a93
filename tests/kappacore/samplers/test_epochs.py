"""A sample is drawn in the epoch of the sampler that chose it, whatever else reads its dataset."""

from __future__ import annotations

import copy
import gc
import pickle
from itertools import islice

import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from torchdata.stateful_dataloader import StatefulDataLoader

import kappacore
from kappacore.datasets.epochs import EpochIndex
from kappacore.errors import LostStateWarning
from kappacore.samplers import (
    BucketBatchSampler,
    DistributedSampler,
    InfiniteSampler,
    Interleaved,
    InterleavedSampler,
)
from support.drawn import Epochs, draw, epochs_of
from support.labelled import Labelled

# torchdata calls what torch deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

LENGTH = 6


def stack():
    return kappacore.ModeWrapper(draw(Labelled(range(LENGTH))), "index x")


def in_order(dataset, **options):
    return DistributedSampler(dataset, shuffle=False, rank=0, world_size=1, **options)


def loading(data, sampler, **options):
    return DataLoader(data, batch_size=2, sampler=sampler, **options)


def test_an_index_is_an_integer_that_knows_its_epoch():
    sampler = in_order(range(3))
    sampler.set_epoch(4)
    indices = list(sampler)
    assert indices == [0, 1, 2]
    assert [repr(index) for index in indices] == ["0", "1", "2"]
    assert [pickle.loads(pickle.dumps(index)).epoch for index in indices] == [4, 4, 4]
    assert [copy.deepcopy(index).epoch for index in indices] == [4, 4, 4]


def test_epochs_that_are_over_leave_nothing_behind():
    held = next(iter(in_order(range(3))))
    stream = InfiniteSampler(range(2), rank=0, world_size=1)
    assert [index.epoch for index in islice(stream, 600)][-1] == 299
    gc.collect()
    assert len(EpochIndex.__subclasses__()) < 100
    assert pickle.loads(pickle.dumps(held)).epoch == 0


def test_two_loaders_in_turns_draw_in_their_own_epochs():
    data = stack()
    first, second = in_order(data), in_order(data)
    second.set_epoch(7)
    for mine, other in zip(loading(data, first), loading(data, second), strict=True):
        assert epochs_of(mine) == {0}
        assert epochs_of(other) == {7}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_draw_in_the_epoch_of_their_loader(method):
    data = stack()
    options = {"num_workers": 1, "multiprocessing_context": method, "persistent_workers": True}
    loader = loading(data, in_order(data), **options)
    for epoch in range(2):
        batches = iter(loader)
        found = [next(batches)]
        data.set_epoch(9)  # as another loader does
        found += batches
        assert [epochs_of(batch) for batch in found] == [{epoch}] * 3


def test_an_evaluation_in_the_middle_of_an_epoch_leaves_it_as_it_was():
    data = stack()
    train = iter(loading(data, in_order(data)))
    next(train)
    for batch in kappacore.Loader(data.dataset, "index x", 2, seed=1):
        assert epochs_of(batch) == {0}
    data.set_epoch(5)
    assert [epochs_of(batch) for batch in train] == [{0}, {0}]


def test_indices_one_by_one_and_in_lists_carry_their_epoch_too():
    data, sampler = stack(), in_order(stack())
    sampler.set_epoch(3)
    for index, x in DataLoader(data, batch_size=None, sampler=sampler):
        assert epochs_of(([index], [x])) == {3}
    sampler.set_epoch(3)
    batches = torch.utils.data.BatchSampler(sampler, 4, False)
    for batch in DataLoader(data, batch_size=None, sampler=batches):
        assert epochs_of(zip(*batch, strict=True)) == {3}


def test_a_mode_of_ones_own_reads_in_the_epoch_too():
    class Doubled(kappacore.ModeWrapper):
        def __getitem__(self, index):
            assert type(index) is int
            return super().__getitem__(index)

    data = Doubled(draw(Labelled(range(LENGTH))), "index x")
    sampler = in_order(data)
    sampler.set_epoch(3)
    iterator = iter(loading(data, sampler))
    first = next(iterator)
    data.set_epoch(1)
    assert [epochs_of(batch) for batch in (first, *iterator)] == [{3}] * 3


def test_batches_by_length_carry_their_epoch():
    data = stack()
    sampler = BucketBatchSampler(data, [1] * LENGTH, 2, rank=0, world_size=1)
    sampler.set_epoch(3)
    iterator = iter(DataLoader(data, batch_sampler=sampler))
    first = next(iterator)
    data.set_epoch(1)
    assert [epochs_of(batch) for batch in (first, *iterator)] == [{3}] * 3


@pytest.mark.parametrize("read", ["torch", "kappacore"])
def test_a_batch_across_the_border_of_epochs_is_of_both(read):
    data = stack()
    sampler = InfiniteSampler(data, shuffle=False, rank=0, world_size=1)
    if read == "torch":
        loader = DataLoader(data, batch_size=4, sampler=sampler)
    else:
        loader = kappacore.Loader(data.dataset, "index x", 4, sampler=sampler)
    found = [
        (int(index), *epochs_of(([index], [x])))
        for batch in islice(loader, 4)
        for index, x in zip(*batch, strict=True)
    ]
    assert found == [(k % LENGTH, k // LENGTH) for k in range(16)]


@pytest.mark.parametrize("read", ["torch", "kappacore"])
def test_a_stream_of_training_and_evaluations_is_of_the_epochs_of_training(read):
    train, test = draw(Labelled(range(4))), draw(Labelled(range(4)))
    sampler = InterleavedSampler(
        DistributedSampler(train, shuffle=False),
        2,
        [Interleaved(test, every_n_epochs=1)],
        epochs=2,
        rank=0,
        world_size=1,
    )
    data = kappacore.ModeWrapper(sampler.dataset, "index x")
    if read == "torch":
        loader = DataLoader(data, batch_sampler=sampler)
    else:
        loader = kappacore.Loader(sampler.dataset, "index x", batch_sampler=sampler)
    found = [epochs_of((index % 4, x)) for index, x in loader]
    assert found == [{0}] * 4 + [{1}] * 4


@pytest.mark.parametrize(
    "around", [lambda data: Subset(data, range(4)), lambda d: ConcatDataset([d])]
)
def test_the_epoch_is_set_through_datasets_of_torch(around):
    data = around(stack())
    sampler = in_order(data)
    for epoch in range(2):
        for batch in loading(data, sampler):
            assert epochs_of(batch) == {epoch}


# ---- datasets that remember their epoch themselves


@pytest.mark.parametrize(
    "workers",
    [0, pytest.param(1, marks=pytest.mark.slow)],
)
def test_a_dataset_that_remembers_its_epoch_is_told_before_it_is_read(workers):
    data = kappacore.ModeWrapper(Epochs(LENGTH), "x")
    for options in ({}, {"persistent_workers": True})[: 1 + workers]:
        sampler = in_order(data)
        loader = loading(data, sampler, num_workers=workers, **options)
        assert [batch.tolist() for batch in loader] == [[0, 0]] * 3
        assert [batch.tolist() for batch in loader] == [[1, 1]] * 3
        sampler.set_epoch(5)
        assert [batch.tolist() for batch in loader] == [[5, 5]] * 3


def test_a_dataset_that_remembers_its_epoch_is_told_as_its_readers_take_turns():
    root = Epochs(LENGTH)
    data, around = kappacore.ModeWrapper(root, "x"), kappacore.ModeWrapper(draw(root), "x")
    first, second = in_order(data), in_order(around)
    second.set_epoch(3)
    pairs = zip(loading(data, first), DataLoader(around, 2, sampler=second), strict=True)
    assert [(mine.tolist(), len(other)) for mine, other in pairs] == [([0, 0], 2)] * 3
    for _ in range(3):
        loaders = [kappacore.Loader(root, "x", 2) for _ in range(2)]
        loaders[1].set_epoch(3)
        for mine, other in zip(*loaders, strict=True):
            assert (mine.tolist(), other.tolist()) == ([0, 0], [3, 3])


def test_a_dataset_that_is_told_by_hand_in_between_is_told_again():
    data = kappacore.ModeWrapper(Epochs(LENGTH), "x")
    batches = iter(loading(data, in_order(data)))
    next(batches)
    data.dataset.set_epoch(9)
    assert next(batches).tolist() == [0, 0]


def test_it_is_told_once_an_epoch():
    class Told(Epochs):
        def set_epoch(self, epoch):
            super().set_epoch(epoch)
            told.append(epoch)

    told = []
    data = kappacore.ModeWrapper(Told(LENGTH), "x")
    loader = loading(data, in_order(data))
    list(loader), list(loader)
    assert told == [0, 1]


@pytest.mark.slow
def test_set_epoch_reaches_a_dataset_of_torch_before_workers_start():
    class Plain(Dataset):
        epoch = 0

        def __len__(self):
            return LENGTH

        def __getitem__(self, index):
            return self.epoch, index.epoch

        def set_epoch(self, epoch):
            self.epoch = epoch

    data = Plain()
    sampler = in_order(data)
    for loader in (
        loading(data, sampler, num_workers=1),
        StatefulDataLoader(data, 2, sampler=sampler, num_workers=1),
    ):
        for epoch in (3, 5):
            sampler.set_epoch(epoch)
            for batch in loader:
                assert [each.tolist() for each in batch] == [[epoch] * 2] * 2


# ---- a loaded state


def states():
    train = Labelled(range(LENGTH))
    yield in_order(train)
    yield InfiniteSampler(train, rank=0, world_size=1)
    yield InterleavedSampler(train, 2, epochs=9, rank=0, world_size=1)


@pytest.mark.parametrize("sampler", [*states()], ids=lambda sampler: type(sampler).__name__)
def test_set_epoch_says_that_it_drops_a_loaded_state(sampler):
    """As Lightning's Fabric does, which counts from 0 in every run."""
    sampler.set_epoch(3)
    next(iter(sampler))
    sampler.load_state_dict(sampler.state_dict())
    with pytest.warns(LostStateWarning, match=r"set_epoch\(0\) .* of epoch 3, which is dropped"):
        sampler.set_epoch(0)
    sampler.load_state_dict({**sampler.state_dict()})
    sampler.set_epoch(0)
    sampler.restart(2)  # says so itself
    sampler.set_epoch(4)
