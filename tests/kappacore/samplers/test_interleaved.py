from __future__ import annotations

import pickle
from itertools import chain, islice

import pytest
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import kappacore
from kappacore.errors import DatasetTypeError, InvalidOptionError, SamplerStateError
from kappacore.samplers import (
    ClassBalancedSampler,
    DistributedSampler,
    Interleaved,
    InterleavedSampler,
)
from support.labelled import Labelled
from support.numbers import Numbers

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

RUNS = {
    "epochs": {"epochs": 3},
    "updates": {"updates": 7},
    "samples": {"samples": 23},
    "all of an epoch": {"epochs": 2, "drop_last": False},
    "samples of all of an epoch": {"samples": 25, "drop_last": False},
}

INTERLEAVED = [
    Interleaved(Numbers(4), every_n_epochs=1),
    Interleaved(Numbers(3), every_n_updates=2, batch_size=1),
    Interleaved(Numbers(2), every_n_samples=7, every_n_epochs=2),
]


def make(rank=0, world_size=1, **options):
    options = {"epochs": 3, **options} if not {"updates", "samples"} & set(options) else options
    return InterleavedSampler(
        Numbers(11), 3, INTERLEAVED, rank=rank, world_size=world_size, **options
    )


def by_brute_force(rank, world_size, epochs=None, updates=None, samples=None, drop_last=True):
    """Count epochs, batches and samples one by one."""
    main = DistributedSampler(Numbers(11), rank=rank, world_size=world_size)
    batches, update, sample, epoch = [], 0, 0, 0
    while True:
        order = list(main)
        cut = [order[first : first + 3] for first in range(0, len(order), 3)]
        cut = [batch for batch in cut if len(batch) == 3 or not drop_last]
        for number, batch in enumerate(cut):
            batches.append(batch)
            before = sample
            update += 1
            sample += len(batch) * world_size
            last = number == len(cut) - 1
            epoch += last
            offset = 11
            for each in INTERLEAVED:
                due = last and each.every_n_epochs and epoch % each.every_n_epochs == 0
                due = due or (each.every_n_updates and update % each.every_n_updates == 0)
                n = each.every_n_samples
                due = due or (n and any(seen % n == 0 for seen in range(before + 1, sample + 1)))
                if due:
                    indices = list(range(len(each.dataset)))[rank::world_size]
                    size = each.batch_size or 3
                    batches += [
                        [offset + index for index in indices[first : first + size]]
                        for first in range(0, len(indices), size)
                    ]
                offset += len(each.dataset)
            if update == updates or (samples and sample >= samples):
                return batches
        if epoch == epochs:
            return batches


def test_a_run_is_pinned():
    interleaved = [
        Interleaved(Numbers(4), every_n_epochs=1),
        Interleaved(Numbers(2), every_n_updates=2, batch_size=1),
    ]
    assert list(InterleavedSampler(Numbers(10), 3, interleaved, epochs=2)) == [
        [4, 6, 2], [7, 3, 5], [14], [15], [9, 0, 8], [10, 11, 12], [13],
        [9, 1, 3], [14], [15], [8, 7, 6], [0, 4, 2], [10, 11, 12], [13], [14], [15],
    ]  # fmt: skip


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_every_rank_has_the_batches_of_a_reference(options, world_size):
    for rank in range(world_size):
        sampler = make(rank, world_size, **options)
        expected = by_brute_force(rank, world_size, **options)
        assert list(sampler) == expected
        assert len(sampler) == len(expected)


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_a_state_goes_on_in_training_and_in_an_evaluation(options):
    expected = list(make(**options))
    for done in range(len(expected)):
        sampler = make(**options)
        list(islice(sampler, done))
        resumed = make(**options)
        resumed.load_state_dict(pickle.loads(pickle.dumps(sampler.state_dict())))
        assert list(resumed) == expected[done:]
        assert list(resumed) == expected


@pytest.mark.parametrize(
    "num_workers", [0, pytest.param(2, marks=pytest.mark.slow)], ids=["here", "workers"]
)
def test_torchdatas_loader_resumes(num_workers):
    def loader():
        sampler = make()
        data = kappacore.ModeWrapper(sampler.dataset, "x source")
        context = "fork" if num_workers else None
        return StatefulDataLoader(
            data, batch_sampler=sampler, num_workers=num_workers, multiprocessing_context=context
        )

    def batches(loading):
        return [(x.tolist(), source.tolist()) for x, source in loading]

    expected = batches(loader())
    for done in (2, 5, 9):
        loading = loader()
        taken = iter(loading)
        for _ in range(done):
            next(taken)
        resumed = loader()
        resumed.load_state_dict(loading.state_dict())
        assert batches(resumed) == expected[done:]


def test_samples_name_their_dataset():
    interleaved = [Interleaved(Labelled([0] * 4), every_n_updates=1)]
    sampler = InterleavedSampler(Labelled([1] * 6), 2, interleaved, updates=2)
    data = kappacore.ModeWrapper(sampler.dataset, "class source")
    seen = [
        (label.tolist(), source.tolist())
        for label, source in DataLoader(data, batch_sampler=sampler)
    ]
    assert seen == [([1, 1], [0, 0]), ([0, 0], [1, 1]), ([0, 0], [1, 1])] * 2


def test_parts_may_be_samplers():
    train = Labelled([0, 0, 0, 0, 0, 1])
    sampler = InterleavedSampler(
        ClassBalancedSampler(train, 3),
        2,
        [Interleaved(DistributedSampler(train, shuffle=True, seed=5), every_n_epochs=1)],
        epochs=2,
    )
    batches = list(sampler)
    balanced = ClassBalancedSampler(train, 3)
    assert [*chain(*batches[:3])] == list(balanced)
    assert sorted(chain(*batches[3:6])) == list(range(6, 12))
    assert [*chain(*batches[6:9])] == list(balanced)
    assert batches[9:] != batches[3:6]


def test_it_begins_at_any_epoch():
    sampler = make(epochs=3)
    two = len(make(epochs=2))
    sampler.set_epoch(2)
    assert list(sampler) == by_brute_force(0, 1, epochs=3)[two:]


def test_another_number_of_ranks_is_refused():
    state = make(0, 2).state_dict()
    with pytest.raises(SamplerStateError, match=r"has world_size=2, this Inter.* has world_size=1"):
        make().load_state_dict(state)
    with pytest.raises(SamplerStateError, match=r"has batch_size=None"):
        make().load_state_dict({**make().state_dict(), "batch_size": None})
    with pytest.raises(SamplerStateError, match=r"the state has main="):
        make(seed=1).load_state_dict(make().state_dict())


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(InvalidOptionError, match=r"takes one of epochs=.*; got none"):
        InterleavedSampler(Numbers(3), 2)
    with pytest.raises(InvalidOptionError, match=r"got epochs= and samples="):
        InterleavedSampler(Numbers(3), 2, epochs=1, samples=1)
    with pytest.raises(InvalidOptionError, match=r"^updates=0"):
        InterleavedSampler(Numbers(3), 2, updates=0)
    with pytest.raises(InvalidOptionError, match=r"^batch_size=4 is more than the 3 samples"):
        InterleavedSampler(Numbers(3), 4, epochs=1)
    with pytest.raises(InvalidOptionError, match=r"every_n_samples=; got none"):
        Interleaved(Numbers(3), batch_size=2)
    with pytest.raises(InvalidOptionError, match=r"^every_n_epochs=0"):
        Interleaved(Numbers(3), every_n_epochs=0)
    with pytest.raises(DatasetTypeError, match=r"needs a KDDataset; got a range"):
        InterleavedSampler(range(3), 2, epochs=1)


def test_the_loader_takes_it_and_resumes():
    def loader():
        sampler = make()
        return kappacore.Loader(sampler.dataset, "x source", batch_sampler=sampler)

    def batches(loading):
        return [(x.tolist(), source.tolist()) for x, source in loading]

    sampler = make()
    data = kappacore.ModeWrapper(sampler.dataset, "x source")
    expected = batches(DataLoader(data, batch_sampler=sampler))
    with loader() as loading:
        assert len(loading) == len(expected)
        assert batches(loading) == expected
    for done in (2, 5, 9):
        with loader() as loading, loader() as resumed:
            taken = iter(loading)
            for _ in range(done):
                next(taken)
            resumed.load_state_dict(loading.state_dict())
            assert batches(resumed) == expected[done:]


def test_the_epoch_of_a_loaded_state_goes_on_where_it_was_saved():
    """Trainers set the epoch after they load the state."""

    def make():
        return InterleavedSampler(
            Numbers(16), 4, [Interleaved(Numbers(6), every_n_epochs=1)], epochs=3
        )

    whole = list(make())
    for done, epoch in ((3, 0), (5, 1), (8, 1)):  # in an epoch, in an evaluation, in an epoch
        sampler, resumed = make(), make()
        list(islice(sampler, done))
        resumed.load_state_dict(sampler.state_dict())
        resumed.set_epoch(epoch)
        assert list(resumed) == whole[done:]
