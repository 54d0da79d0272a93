"""Samples drawn by weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.errors import InvalidOptionError
from kappacore.samplers.base import IndexSampler, digest_of, epoch_generator, length_of
from kappacore.samplers.sources import samples_of
from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.options import as_integer, as_weights
from kappacore.wrappers.selection import group_by_class

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

    FloatArray = np.ndarray[Any, np.dtype[np.float64]]

__all__ = ["WeightedSampler"]


class WeightedSampler(IndexSampler):
    """Samples drawn at random, each with a probability in proportion to its weight.

    Args:
        dataset: The dataset, or a ``ModeWrapper`` of it.
        weights: One number for each sample, from 0 on; they need not sum to 1.
        by: The item that is the label, such as ``"class"``, instead of weights: every class is
            then drawn as often as any other. Samples with a negative label, which have none, are
            left out.
        num_samples: The number of samples of an epoch, of all ranks; by default all of the dataset.
        replacement: Whether a sample may be drawn several times in an epoch.
        seed: A non-negative integer.
        rank: This rank, with ``world_size``; by default that of torch.distributed, of torchrun or
            of SLURM.
        world_size: The number of ranks.
        pad: Whether all ranks get as many samples, the last ones a second time.

    Raises:
        InvalidOptionError: The weights are negative, not finite, all zero or of another number than
            the samples; both or neither of ``weights`` and ``by`` are given; without replacement
            there are fewer samples of a weight above 0 than ``num_samples``.
        MissingLabelsError: The dataset has no labels, or only by reading every sample.

    Example::

        DataLoader(train, batch_size=64, sampler=WeightedSampler(train, by="class"))
    """

    def __init__(
        self,
        dataset: Any,
        weights: Any = None,
        *,
        by: str | None = None,
        num_samples: int | None = None,
        replacement: bool = True,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        pad: bool = True,
    ) -> None:
        owner = type(self).__name__
        samples = length_of(dataset, owner)
        if (weights is None) == (by is None):
            given = "neither" if by is None else "both"
            raise InvalidOptionError(f"{owner} takes weights= or by=; got {given}.")
        if by is not None:
            weights = _balancing(read_labels(samples_of(dataset), _label(by), owner))
        array = as_weights(weights, samples, owner)
        length = samples if num_samples is None else as_integer(num_samples, "num_samples", least=1)
        drawable = np.count_nonzero(array)
        if not replacement and length > drawable:
            raise InvalidOptionError(
                f"num_samples={length} without replacement, but {drawable} of {samples} samples "
                f"have a weight above 0. Pass num_samples={drawable}, or replacement=True."
            )
        super().__init__(dataset, length, seed, rank, world_size, pad)
        self.replacement = bool(replacement)
        if replacement:
            np.cumsum(array, out=array)
            array /= array[-1]
        self._numbers = array  # cumulated, with replacement
        self._digest = digest_of(array)

    def order(self, epoch: int) -> IntArray:
        """Return the indices of an epoch, of all ranks.

        Args:
            epoch: From 0.
        """
        generator = epoch_generator(self.seed, epoch)
        if self.replacement:
            # Sorted numbers are found several times as fast; then they are brought into disorder.
            numbers = np.sort(generator.random(self.length))
            drawn = np.searchsorted(self._numbers, numbers, side="right")
            return generator.permutation(drawn)
        # Efraimidis and Spirakis, "Weighted random sampling with a reservoir" (2006).
        keys = -np.log1p(-generator.random(len(self._numbers)))
        with np.errstate(divide="ignore", invalid="ignore"):
            keys = np.where(self._numbers > 0, keys / self._numbers, np.inf)
        return np.argsort(keys, kind="stable")[: self.length]

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "replacement": self.replacement, "weights": self._digest}


def _balancing(labels: IntArray) -> FloatArray:
    """Return weights by which each class has the same sum; of negative labels, 0."""
    groups = group_by_class(labels)
    weights = np.empty(len(labels))
    weights[groups.order] = np.repeat((groups.classes >= 0) / groups.counts, groups.counts)
    return weights


def _label(by: str) -> str | None:
    """Return the label's item; of ``class``, what the wrappers take too: ``class``, else ``y``."""
    return None if by == "class" else by
