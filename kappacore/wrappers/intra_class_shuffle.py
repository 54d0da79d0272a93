"""Shuffling samples within their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.selection import SelectionWrapper, group_by_class, permutation

if TYPE_CHECKING:
    from kappacore.datasets.base import KDDataset


class IntraClassShuffleWrapper(SelectionWrapper):
    """All samples, shuffled within their classes: the sequence of labels does not change.

    Every sample occurs exactly once.

    Args:
        dataset: The dataset inside.
        seed: See :class:`ShuffleWrapper`.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.

    Raises:
        InvalidOptionError: ``seed`` is neither None nor a non-negative integer.
        MissingLabelsError: The dataset has no labels, or only by reading every sample.
    """

    def __init__(self, dataset: KDDataset, seed: int | None = None, *, label: str | None = None):
        self.seed = seed
        self.label = label
        labels = read_labels(dataset, label, type(self).__name__)
        shuffled = permutation(len(labels), seed)
        indices = np.empty_like(shuffled)
        indices[group_by_class(labels).order] = shuffled[group_by_class(labels[shuffled]).order]
        super().__init__(dataset, indices)
