"""A few samples of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kappacore.errors import InvalidOptionError
from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.options import as_integer
from kappacore.wrappers.selection import (
    SelectionWrapper,
    group_by_class,
    permutation,
    sort_distinct,
)

if TYPE_CHECKING:
    from kappacore.datasets.base import KDDataset


class FewshotWrapper(SelectionWrapper):
    """The same number of samples of every class, drawn at random, in the dataset's order.

    These are the first ``num_shots`` of each class in the permutation that :class:`ShuffleWrapper`
    documents, so with the same seed fewer shots are a subset of more shots.

    Args:
        dataset: The dataset inside.
        num_shots: The number of samples of each class that occurs.
        seed: A non-negative integer; the same seed draws the same samples in every process.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.

    Raises:
        InvalidOptionError: ``num_shots`` is less than 1, or a class has fewer samples.
        MissingLabelsError: The dataset has no labels, or only by reading every sample.
    """

    def __init__(
        self, dataset: KDDataset, num_shots: int, seed: int | None = 0, *, label: str | None = None
    ):
        self.num_shots = as_integer(num_shots, "num_shots", least=1)
        self.seed = seed
        self.label = label
        labels = read_labels(dataset, label, type(self).__name__)
        shuffled = permutation(len(labels), seed)
        groups = group_by_class(labels[shuffled])
        if len(groups.counts) and groups.counts.min() < self.num_shots:
            scarcest = groups.counts.argmin()
            raise InvalidOptionError(
                f"num_shots={num_shots} is more than class {groups.classes[scarcest]} has: "
                f"{groups.counts[scarcest]} samples. Leave out such classes with "
                f"ClassFilterWrapper, or use fewer shots."
            )
        shots = np.full_like(groups.counts, self.num_shots)
        samples = shuffled[groups.take(np.zeros_like(shots), shots)]
        super().__init__(dataset, sort_distinct(samples, len(labels)))
