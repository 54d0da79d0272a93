"""Samplers give `kappacore.Loader` the batches that they give a DataLoader."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

import kappacore
from kappacore.samplers import (
    BucketBatchSampler,
    ClassBalancedSampler,
    DistributedSampler,
    WeightedSampler,
)
from support.labelled import Labelled

DATASET = Labelled([0, 1, 2, 1, 0, 1, 1, 1, 2, 1, 1])
NUMBERS = list(range(1, len(DATASET) + 1))


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"sampler": WeightedSampler(DATASET, NUMBERS)},
        lambda: {"sampler": ClassBalancedSampler(DATASET, 3)},
        lambda: {"sampler": DistributedSampler(DATASET, shuffle=True, rank=1, world_size=2)},
        lambda: {"batch_sampler": BucketBatchSampler(DATASET, NUMBERS, max_tokens=12)},
    ],
    ids=["weighted", "class balanced", "distributed", "buckets"],
)
def test_the_loader_takes_a_sampler(make):
    def epochs(loading):
        return [[batch.tolist() for batch in loading] for _ in range(2)]

    chosen = make()
    size = {} if "batch_sampler" in chosen else {"batch_size": 3}
    expected = epochs(DataLoader(kappacore.ModeWrapper(DATASET, "class"), **size, **chosen))
    with kappacore.Loader(DATASET, "class", **size, **make()) as loader:
        assert epochs(loader) == expected
