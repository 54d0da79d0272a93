"""Keeping the same part of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.selection import FractionWrapper, group_by_class, sort_distinct

if TYPE_CHECKING:
    from kappacore.datasets.base import KDDataset
    from kappacore.datasets.indexing import IntArray


class ClasswisePercentWrapper(FractionWrapper):
    """The samples of each class from one fraction of them to another, in the dataset's order.

    Args:
        dataset: The dataset inside.
        from_fraction: Where the part of each class begins, from 0 to 1; default 0.
        to_fraction: Where it ends, from 0 to 1; default 1.
        ceil_from_index: Whether to round the first index in each class up instead of down.
        ceil_to_index: Whether to round the last index (exclusive) up, so that no class is left
            without a sample.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.
        from_percent: As for :class:`PercentFilterWrapper`, another name of ``from_fraction``.
        to_percent: Another name of ``to_fraction``.

    Raises:
        InvalidOptionError: A fraction is outside 0 to 1, the range is reversed, or a fraction is
            given by both names.
        MissingLabelsError: The dataset has no labels, or only by reading every sample.

    Example::

        ClasswisePercentWrapper(ShuffleWrapper(dataset, seed=0), to_fraction=0.1)
    """

    def __init__(
        self,
        dataset: KDDataset,
        from_fraction: float | None = None,
        to_fraction: float | None = None,
        ceil_from_index: bool = False,
        ceil_to_index: bool = False,
        *,
        label: str | None = None,
        from_percent: float | None = None,
        to_percent: float | None = None,
    ):
        self.label = label
        super().__init__(
            dataset,
            from_fraction,
            to_fraction,
            ceil_from_index,
            ceil_to_index,
            from_percent=from_percent,
            to_percent=to_percent,
        )

    def _select(self, dataset: KDDataset) -> IntArray:
        groups = group_by_class(read_labels(dataset, self.label, type(self).__name__))
        first, last = self._bounds(groups.counts)
        return sort_distinct(groups.take(first, last.clip(min=first)), len(dataset))
