"""As many samples of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.errors import InvalidOptionError
from kappacore.samplers.base import IndexSampler, digest_of, epoch_generator, length_of
from kappacore.samplers.sources import samples_of
from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.options import as_integer
from kappacore.wrappers.selection import group_by_class

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

__all__ = ["ClassBalancedSampler"]


class ClassBalancedSampler(IndexSampler):
    """The same number of samples of every class in each epoch, in a random order.

    A class that has fewer is repeated, each of its samples as often as any other or once more;
    which ones, and which samples of a class that has more, is drawn anew for each epoch. Samples
    with a negative label, which have none, are left out.

    Args:
        dataset: The dataset, or a ``ModeWrapper`` of it.
        samples_per_class: The number of samples of each class that occurs, of all ranks; by default
            that of the largest.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.
        seed: A non-negative integer.
        rank: This rank, with ``world_size``; by default that of torch.distributed, of torchrun or
            of SLURM.
        world_size: The number of ranks.
        pad: Whether all ranks get as many samples, the last ones a second time.

    Raises:
        InvalidOptionError: An option does not fit, or no sample has a label.
        MissingLabelsError: The dataset has no labels, or only by reading every sample.
    """

    def __init__(
        self,
        dataset: Any,
        samples_per_class: int | None = None,
        *,
        label: str | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pad: bool = True,
    ) -> None:
        owner = type(self).__name__
        length_of(dataset, owner)
        self._labels = read_labels(samples_of(dataset), label, owner)
        groups = group_by_class(self._labels)
        counts = groups.counts[groups.classes >= 0]
        if not len(counts):
            raise InvalidOptionError(f"{owner}: no sample has a label; all are negative.")
        if samples_per_class is None:
            samples_per_class = int(counts.max())
        self.samples_per_class = as_integer(samples_per_class, "samples_per_class", least=1)
        length = len(counts) * self.samples_per_class
        super().__init__(dataset, length, seed, rank, world_size, pad)
        self._digest = digest_of(self._labels)

    def order(self, epoch: int) -> IntArray:
        """Return the indices of an epoch, of all ranks.

        Args:
            epoch: From 0.
        """
        generator = epoch_generator(self.seed, epoch)
        shuffled = generator.permutation(len(self._labels))
        groups = group_by_class(self._labels[shuffled])
        wanted = np.where(groups.classes >= 0, self.samples_per_class, 0)
        return generator.permutation(shuffled[groups.take(np.zeros_like(wanted), wanted)])

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "labels": self._digest}
