from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from kappacore.caching import CacheWrapper
from kappacore.datasets import ModeWrapper
from kappacore.wrappers import (
    ClassFilterWrapper,
    MultiViewWrapper,
    OneHotWrapper,
    OversamplingWrapper,
    PercentFilterWrapper,
    RemapClassesWrapper,
    RepeatWrapper,
    ShuffleWrapper,
    TransformWrapper,
)
from support.labelled import Labelled
from support.numbers import add_one
from support.randoms import draw_one
from support.workers import workers


def stack(above=lambda dataset: dataset):
    """One of each kind: choosing, ordering, repeating, relabelling, drawing."""
    dataset = Labelled([idx % 5 * idx % 4 for idx in range(40)])
    dataset = above(ClassFilterWrapper(dataset, invalid_classes=[1]))
    dataset = RepeatWrapper(OversamplingWrapper(dataset), 2)
    dataset = PercentFilterWrapper(ShuffleWrapper(dataset, seed=0), to_percent=0.5)
    dataset = OneHotWrapper(RemapClassesWrapper(dataset, {0: 0, 2: 1, 3: 2}))
    dataset = TransformWrapper(dataset, add_one)
    return ModeWrapper(MultiViewWrapper(dataset, "x", [int, draw_one], seed=0), "x class index")


def read(loader):
    return [
        [first.tolist(), second.tolist(), label.tolist(), index.tolist()]
        for (first, second), label, index in loader
    ]


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_give_what_the_main_process_gives(method):
    mode = stack()
    expected = read(DataLoader(mode, batch_size=8))
    assert read(DataLoader(mode, batch_size=8, **workers(method))) == expected


def test_workers_read_through_a_shared_cache():
    mode = stack(lambda dataset: CacheWrapper(dataset, "shared", max_bytes="16MiB"))
    expected = read(DataLoader(stack(), batch_size=8))
    assert read(DataLoader(mode, batch_size=8, num_workers=2)) == expected
    mode.close()


def test_ranks_share_an_epoch():
    mode = stack()
    seen = []
    for rank in range(2):
        sampler = DistributedSampler(mode, num_replicas=2, rank=rank, seed=3, drop_last=True)
        sampler.set_epoch(1)
        mode.set_epoch(1)
        assert len(sampler) == len(mode) // 2
        for _, _, label, index in read(DataLoader(mode, batch_size=4, sampler=sampler)):
            seen += index
            assert label == [mode[idx][1].tolist() for idx in index]
    assert len(seen) == len(set(seen)) == len(mode) // 2 * 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata's use of it
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumed_in_its_middle_gives_the_samples_that_were_left(workers):
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")

    def loader():
        mode = stack()
        mode.set_epoch(2)
        return torchdata.StatefulDataLoader(
            mode,
            batch_size=4,
            shuffle=True,
            num_workers=workers,
            generator=torch.Generator().manual_seed(0),
        )

    expected = read(loader())
    first = loader()
    batches = iter(first)
    for _ in range(3):
        next(batches)
    state = first.state_dict()
    assert len(read(batches)) == len(expected) - 3

    resumed = loader()
    resumed.load_state_dict(state)
    assert read(resumed) == expected[3:]
