"""Keeping a part of a dataset, given as shares of its length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kappacore.datasets.base import check_dataset
from kappacore.wrappers.options import as_range, share_of
from kappacore.wrappers.selection import SelectionWrapper

if TYPE_CHECKING:
    from kappacore.datasets.base import KDDataset

__all__ = ["PercentFilterWrapper"]


class PercentFilterWrapper(SelectionWrapper):
    """The samples from one share of the dataset's length to another.

    Parts that meet (``to_percent=0.3`` and ``from_percent=0.3``) share no sample and leave out
    none, if both round the same way.

    Args:
        dataset: The dataset inside.
        from_percent: Where the part begins, from 0 to 1; default 0.
        to_percent: Where it ends, from 0 to 1; default 1.
        ceil_from_index: Whether the first index is rounded up instead of down.
        ceil_to_index: Whether the last one (exclusive) is.

    Attributes:
        from_index: The first index.
        to_index: The index after the last.

    Raises:
        InvalidOptionError: A share is outside 0 to 1, or they are reversed.
    """

    def __init__(
        self,
        dataset: KDDataset,
        from_percent: float | None = None,
        to_percent: float | None = None,
        ceil_from_index: bool = False,
        ceil_to_index: bool = False,
    ):
        check_dataset(dataset, type(self).__name__)
        self.from_percent, self.to_percent = as_range(from_percent, to_percent)
        self.ceil_from_index = ceil_from_index
        self.ceil_to_index = ceil_to_index
        self.from_index = int(share_of(self.from_percent, len(dataset), up=ceil_from_index))
        self.to_index = int(share_of(self.to_percent, len(dataset), up=ceil_to_index))
        super().__init__(dataset, np.arange(self.from_index, self.to_index))
