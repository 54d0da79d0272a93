"""Splitting a dataset in two."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kappacore.datasets.base import KDDataset, check_dataset
from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.options import as_fraction
from kappacore.wrappers.selection import group_by_class, permutation
from kappacore.wrappers.subset import SubsetWrapper

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray


def train_test_split(
    dataset: KDDataset,
    fraction: float = 0.8,
    stratified: bool = False,
    seed: int | None = 0,
    *,
    label: str | None = None,
) -> tuple[SubsetWrapper, SubsetWrapper]:
    """Split a dataset at random into a part for training and the rest.

    Both parts keep the dataset's order; together they have every sample once. The same seed gives
    the same split in every process and version: the first samples (of each class, if stratified)
    in the permutation that :class:`ShuffleWrapper` documents are for training.

    Args:
        dataset: The dataset.
        fraction: The fraction of the samples for training, from 0 to 1; their number is rounded.
        stratified: Whether to split each class by this fraction. If that gives no whole numbers,
            the classes with the largest remainders get one sample more.
        seed: A non-negative integer, or None as for :class:`ShuffleWrapper`.
        label: The item that is the label, if stratified; by default ``class`` if there is one,
            else ``y``.

    Returns:
        The part for training, and the rest.

    Raises:
        InvalidOptionError: ``fraction`` is outside 0 to 1.
        MissingLabelsError: ``stratified`` is True, and the dataset has no labels.

    Example::

        train, val = train_test_split(dataset, 0.9, stratified=True, seed=0)
    """
    check_dataset(dataset, "train_test_split")
    fraction = as_fraction(fraction, "fraction")
    length = len(dataset)
    size = int(np.floor(np.round(fraction * length, 6) + 0.5))
    shuffled = permutation(length, seed)
    if stratified:
        labels = read_labels(dataset, label, "train_test_split")
        groups = group_by_class(labels[shuffled])
        sizes = _apportion(groups.counts, fraction, size)
        samples = shuffled[groups.take(np.zeros_like(sizes), sizes)]
    else:
        samples = shuffled[:size]
    mask = np.zeros(length, dtype=bool)
    mask[samples] = True
    return SubsetWrapper(dataset, mask), SubsetWrapper(dataset, ~mask)


def _apportion(counts: IntArray, fraction: float, size: int) -> IntArray:
    """Return about ``fraction`` of each count, by largest remainder, summing to ``size``."""
    exact = np.round(counts * fraction, 6)
    parts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(parts - exact, kind="stable")
    parts[by_remainder[: size - parts.sum()]] += 1
    return parts
