"""Balancing classes by repeating the samples of the smaller ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kappacore.errors import InvalidOptionError
from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.selection import SelectionWrapper, group_by_class

if TYPE_CHECKING:
    from kappacore.datasets.base import KDDataset

_STRATEGIES = ("multiply", "exact")


class OversamplingWrapper(SelectionWrapper):
    """All samples, then those of smaller classes again until the classes are balanced.

    The samples come first, in their order, followed by the repeated ones class by class. Samples
    with a negative label, which have none, are kept once.

    Args:
        dataset: The dataset inside.
        strategy: ``"multiply"`` repeats each class as often as it fits into the largest one, so a
            class of 300 becomes 900 beside one of 1000. ``"exact"`` makes every class as large as
            the largest; some of its samples then occur once more than others. Empty classes stay
            empty.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.

    Raises:
        InvalidOptionError: ``strategy`` is unknown.
        MissingLabelsError: The dataset has no labels, or only by reading every sample.
    """

    def __init__(self, dataset: KDDataset, strategy: str = "multiply", *, label: str | None = None):
        if strategy not in _STRATEGIES:
            raise InvalidOptionError(
                f"strategy={strategy!r} is unknown; expected 'multiply' or 'exact'."
            )
        self.strategy = strategy
        self.label = label
        groups = group_by_class(read_labels(dataset, label, type(self).__name__))
        counts, labelled = groups.counts, groups.classes >= 0
        goals = np.full_like(counts, counts[labelled].max(initial=0))
        if strategy == "multiply":
            goals = goals // counts * counts
        goals = np.where(labelled, goals, counts)
        more = groups.take(counts, goals)
        super().__init__(dataset, np.concatenate([np.arange(len(dataset)), more]))
