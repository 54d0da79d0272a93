"""Another order of all samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.datasets.base import check_dataset
from kappacore.wrappers.options import permutation
from kappacore.wrappers.selection import SelectionWrapper

if TYPE_CHECKING:
    from kappacore.datasets.base import KDDataset

__all__ = ["ShuffleWrapper"]


class ShuffleWrapper(SelectionWrapper):
    """All samples in a random order, drawn once.

    The order for a seed is ``numpy.random.default_rng(seed).permutation(len(dataset))``, the same
    in every process and version.

    Args:
        dataset: The dataset inside.
        seed: An integer from 0 on. None draws from numpy's global generator: then each process
            has an order of its own, unless all call ``numpy.random.seed`` alike.

    Raises:
        InvalidOptionError: ``seed`` is no such integer.
    """

    def __init__(self, dataset: KDDataset, seed: int | None = None):
        check_dataset(dataset, type(self).__name__)
        self.seed = seed
        super().__init__(dataset, permutation(len(dataset), seed))
