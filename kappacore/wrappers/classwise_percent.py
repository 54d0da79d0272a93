"""Keeping the same part of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.wrappers.options import as_range, share_of
from kappacore.wrappers._groups import chosen, group_by_class
from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.selection import SelectionWrapper

if TYPE_CHECKING:
    from kappacore.datasets.base import KDDataset

__all__ = ["ClasswisePercentWrapper"]


class ClasswisePercentWrapper(SelectionWrapper):
    """Of each class, the samples from one share of its number to another, in the dataset's order.

    Args:
        dataset: The dataset inside.
        from_percent: Where the part of each class begins, from 0 to 1; default 0.
        to_percent: Where it ends, from 0 to 1; default 1.
        ceil_from_index: Whether the first index in each class is rounded up instead of down.
        ceil_to_index: Whether the last one (exclusive) is; so no class is left without a sample.
        label: The item that is the label; by default ``class`` where there is one, else ``y``.

    Raises:
        InvalidOptionError: A share is outside 0 to 1, or they are reversed.
        MissingLabelsError: The dataset has no labels, or only by reading every sample.

    Example::

        ClasswisePercentWrapper(ShuffleWrapper(dataset, seed=0), to_percent=0.1)
    """

    def __init__(
        self,
        dataset: KDDataset,
        from_percent: float | None = None,
        to_percent: float | None = None,
        ceil_from_index: bool = False,
        ceil_to_index: bool = False,
        *,
        label: str | None = None,
    ):
        self.from_percent, self.to_percent = as_range(from_percent, to_percent)
        self.ceil_from_index = ceil_from_index
        self.ceil_to_index = ceil_to_index
        self.label = label
        groups = group_by_class(read_labels(dataset, label, type(self).__name__))
        first = share_of(self.from_percent, groups.counts, up=ceil_from_index)
        last = share_of(self.to_percent, groups.counts, up=ceil_to_index)
        samples = groups.take(first, last.clip(min=first))
        super().__init__(dataset, chosen(samples, len(dataset)))
