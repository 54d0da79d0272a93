"""Ordering samples by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.selection import SelectionWrapper, group_by_class

if TYPE_CHECKING:
    from kappacore.datasets.base import KDDataset


class SortByClassWrapper(SelectionWrapper):
    """All samples, class by class; those of one class keep their order.

    Args:
        dataset: The dataset inside.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.

    Raises:
        MissingLabelsError: The dataset has no labels, or only by reading every sample.
    """

    def __init__(self, dataset: KDDataset, *, label: str | None = None):
        self.label = label
        labels = read_labels(dataset, label, type(self).__name__)
        super().__init__(dataset, group_by_class(labels).order)
