"""Samples grouped by class, without a loop over samples or classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

__all__ = ["Groups", "chosen", "group_by_class"]

_WIDEST = 1 << 16


class Groups(NamedTuple):
    """The samples of each class.

    Attributes:
        classes: The labels that occur, ascending; shape ``(C,)``.
        order: The samples, sorted by class, in their order within each; shape ``(N,)``.
        starts: Where each class starts in ``order``; shape ``(C,)``.
        counts: How many samples each class has, none of them 0; shape ``(C,)``.
    """

    classes: IntArray
    order: IntArray
    starts: IntArray
    counts: IntArray

    def take(self, first: IntArray, last: IntArray) -> IntArray:
        """Return the samples ``first`` to ``last`` (exclusive) of each class, by class.

        Past the end of a class it goes on from its beginning.
        """
        wanted = last - first
        group = np.repeat(np.arange(len(self.counts)), wanted)
        within = np.arange(wanted.sum()) - np.repeat(np.cumsum(wanted) - wanted - first, wanted)
        samples: IntArray = self.order[self.starts[group] + within % self.counts[group]]
        return samples


def group_by_class(labels: IntArray) -> Groups:
    """Group the samples by their labels.

    Args:
        labels: Integers of shape ``(N,)``; any, also negative ones.
    """
    if not len(labels):
        none = np.empty(0, np.int64)
        return Groups(none, none, none, none)
    lowest = int(labels.min())
    span = int(labels.max()) - lowest + 1
    if span <= _WIDEST:
        narrow = np.min_scalar_type(span - 1)  # numpy sorts it by radix, several times as fast
        codes: np.ndarray[Any, Any] = (labels - lowest).astype(narrow)
        counts = np.bincount(codes, minlength=span)
        classes = np.flatnonzero(counts)
        counts = counts[classes]
        classes = classes + lowest
    else:
        codes = labels
        classes, counts = np.unique(labels, return_counts=True)
    order = np.argsort(codes, kind="stable")
    return Groups(classes, order, np.cumsum(counts) - counts, counts)


def chosen(samples: IntArray, length: int) -> IntArray:
    """Return distinct samples in ascending order, faster than by sorting them."""
    mask = np.zeros(length, dtype=bool)
    mask[samples] = True
    return np.flatnonzero(mask)
