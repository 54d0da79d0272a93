"""Shuffling all samples."""

from __future__ import annotations

from kappacore.datasets.base import KDDataset, check_dataset
from kappacore.wrappers.selection import SelectionWrapper, permutation


class ShuffleWrapper(SelectionWrapper):
    """All samples in a random order, drawn once.

    The order for a seed is ``numpy.random.default_rng(seed).permutation(len(dataset))``, the same
    in every process and version.

    Args:
        dataset: The dataset inside.
        seed: A non-negative integer. None draws from numpy's global generator: each process then
            has its own order, unless all call ``numpy.random.seed`` with the same number.

    Raises:
        InvalidOptionError: ``seed`` is neither None nor a non-negative integer.
    """

    def __init__(self, dataset: KDDataset, seed: int | None = None):
        check_dataset(dataset, type(self).__name__)
        self.seed = seed
        super().__init__(dataset, permutation(len(dataset), seed))
