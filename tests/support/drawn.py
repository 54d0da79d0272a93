"""Datasets whose samples show the epoch that they were drawn in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

import kappacore
from kappacore.wrappers.randomness import SampleSeeds

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST = 20  # epochs


def draw(dataset: kappacore.KDDataset) -> kappacore.TransformWrapper:
    """Return a dataset whose ``x`` is a random number for each sample and epoch."""
    return kappacore.TransformWrapper(dataset, _rand, seed=0)


def epochs_of(batch: Iterable[Any]) -> set[int]:
    """Return the epochs in which the samples of a batch of ``"index x"`` were drawn."""
    indices, values = batch
    return {_epoch(int(index), float(value)) for index, value in zip(indices, values, strict=True)}


class Epochs(kappacore.KDDataset):
    """A dataset of one's own: its ``x`` is the epoch, which it remembers as a plain attribute."""

    is_random = False

    def __init__(self, length: int):
        self.length = length
        self.epoch = -1

    def __len__(self) -> int:
        return self.length

    def getitem_x(self, idx: int) -> int:
        return self.epoch

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def _rand(_: Any) -> torch.Tensor:
    return torch.rand((), dtype=torch.float64)


def _epoch(index: int, value: float) -> int:
    seeds = SampleSeeds(0, 1 << 30, fixed=False)
    for epoch in range(MOST):
        seeds.epoch = epoch
        generator = torch.Generator().manual_seed(seeds.of(index))
        if float(torch.rand((), dtype=torch.float64, generator=generator)) == value:
            return epoch
    raise AssertionError(f"sample {index} was drawn in no epoch")
