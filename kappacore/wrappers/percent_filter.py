"""Keeping a part of a dataset, given as fractions of its length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kappacore.datasets.base import KDDataset, check_dataset
from kappacore.wrappers.selection import FractionWrapper

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray


class PercentFilterWrapper(FractionWrapper):
    """The samples from one fraction of the dataset's length to another.

    Adjacent parts (``to_fraction=0.3`` and ``from_fraction=0.3``) have no sample in common and
    leave none out, if both round the same way.

    Args:
        dataset: The dataset inside.
        from_fraction: Where the part begins, from 0 to 1; default 0.
        to_fraction: Where it ends, from 0 to 1; default 1.
        ceil_from_index: Whether to round the first index up instead of down.
        ceil_to_index: Whether to round the last index (exclusive) up instead of down.
        from_percent: KappaData's name of ``from_fraction``; from 0 to 1 as well.
        to_percent: KappaData's name of ``to_fraction``.

    Attributes:
        from_index: The first index.
        to_index: The index after the last.

    Raises:
        InvalidOptionError: A fraction is outside 0 to 1, the range is reversed, or a fraction is
            given by both names.
    """

    def _select(self, dataset: KDDataset) -> IntArray:
        check_dataset(dataset, type(self).__name__)
        self.from_index, self.to_index = map(int, self._bounds(len(dataset)))
        return np.arange(self.from_index, self.to_index)
