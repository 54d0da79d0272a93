"""Sharing out a dataset, or what another sampler chooses, to the ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.samplers.base import IndexSampler
from kappacore.samplers.sources import Source

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

__all__ = ["DistributedSampler"]


class DistributedSampler(IndexSampler):
    """A dataset, or the indices of any sampler, shared out to the ranks.

    A sampler is read to its end at the beginning of each epoch, with torch's, numpy's and Python's
    generators and its own seeded by ``seed`` and the epoch, so that all ranks draw the same. One of
    this package is asked for its order, which has a seed of its own.

    Args:
        source: A dataset, or a sampler that chooses for all ranks, such as torch's
            ``WeightedRandomSampler``.
        shuffle: Whether to shuffle a dataset, which is the default.
        seed: A non-negative integer.
        rank: This rank, with ``world_size``; by default that of torch.distributed, of torchrun or
            of SLURM.
        world_size: The number of ranks.
        pad: Whether all ranks get as many indices, the last ones a second time, as training needs
            it. False: every index exactly once over all ranks, as for an evaluation.

    Raises:
        InvalidOptionError: An option does not fit, or the sampler does not.
        DatasetTypeError: The dataset has no length.

    Example::

        DataLoader(test, batch_size=64, sampler=DistributedSampler(test, shuffle=False, pad=False))
    """

    def __init__(
        self,
        source: Any,
        shuffle: bool | None = None,
        *,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pad: bool = True,
    ) -> None:
        self._source = Source(source, shuffle, seed, type(self).__name__)
        super().__init__(self._source.dataset, self._source.length, seed, rank, world_size, pad)

    def order(self, epoch: int) -> IntArray:
        """Return the indices of an epoch, of all ranks.

        Args:
            epoch: From 0.
        """
        return self._source.order(epoch)

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), **self._source.facts()}
