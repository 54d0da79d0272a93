"""Splitting a dataset into parts: at random, by class, by group, in folds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.datasets.base import KDDataset, check_dataset
from kappacore.datasets.items import as_array, find_item, read_one_by_one
from kappacore.errors import InvalidOptionError, MissingLabelsError
from kappacore.wrappers.labels import read_labels
from kappacore.wrappers.options import as_fraction, as_integer
from kappacore.wrappers.selection import apportion, group_by_class, permutation
from kappacore.wrappers.subset import SubsetWrapper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
        sizes = apportion(groups.counts * fraction, size)
        samples = shuffled[groups.take(np.zeros_like(sizes), sizes)]
    else:
        samples = shuffled[:size]
    mask = np.zeros(length, dtype=bool)
    mask[samples] = True
    return SubsetWrapper(dataset, mask), SubsetWrapper(dataset, ~mask)


def split(
    dataset: KDDataset,
    fractions: Sequence[float] | Any,
    *,
    stratified: bool = False,
    groups: str | Sequence[Any] | None = None,
    seed: int | None = 0,
    label: str | None = None,
) -> list[Any]:
    """Split a dataset at random into parts, or as a splitter of scikit-learn does.

    All parts keep the dataset's order; together they have every sample once. The same seed gives
    the same parts in every process and version. Without ``groups``, each part has its fraction of
    the samples to within one; ``split(ds, [0.8, 0.2])`` has the parts of
    ``train_test_split(ds, 0.8)``. With them, the groups come in a random order, and each goes whole
    to the part that lacks most of what it should have.

    Args:
        dataset: The dataset.
        fractions: The fraction of each part; they sum to 1. Or a splitter of scikit-learn, made
            with its own options, such as ``StratifiedGroupKFold(5)``: it gets the labels, if there
            are any, and the groups.
        stratified: Whether each part has its fraction of every class; with groups, as nearly as
            they allow.
        groups: What must not be torn apart, such as the patient of an image: the name of an item,
            or one value for each sample.
        seed: A non-negative integer, or None as for :class:`ShuffleWrapper`; a splitter has its
            own.
        label: The item that is the label; by default ``class`` if there is one, else ``y``.

    Returns:
        The parts, in the order of the fractions; of a splitter, a pair (train, test) for each fold.

    Raises:
        InvalidOptionError: The fractions do not sum to 1; a sample has no group.
        MissingLabelsError: ``stratified`` is True, and the dataset has no labels; or its groups are
            known only by reading every sample.
        UnknownItemError: The dataset has no item ``groups``.

    Example::

        train, val, test = split(dataset, [0.8, 0.1, 0.1], groups="patient")
        for train, val in split(dataset, StratifiedGroupKFold(5), groups="patient"):
            ...
    """
    check_dataset(dataset, "split")
    if callable(getattr(fractions, "split", None)) and not isinstance(fractions, str):
        return _split_by(fractions, dataset, stratified, groups, label)
    shares = _check_fractions(fractions)
    parts = _assign(dataset, shares, stratified, groups, seed, label, "split")
    return [SubsetWrapper(dataset, parts == part) for part in range(len(shares))]


def k_fold(
    dataset: KDDataset,
    k: int = 5,
    *,
    stratified: bool = False,
    groups: str | Sequence[Any] | None = None,
    seed: int | None = 0,
    label: str | None = None,
) -> list[tuple[SubsetWrapper, SubsetWrapper]]:
    """Split a dataset into ``k`` parts of which each is left out once, for cross-validation.

    Args:
        dataset: The dataset.
        k: The number of folds, from 2 to the number of samples, or of groups.
        stratified: See :func:`split`.
        groups: See :func:`split`.
        seed: See :func:`split`.
        label: See :func:`split`.

    Returns:
        ``k`` pairs (the other parts, the part left out). Each sample is left out once.

    Raises:
        InvalidOptionError: There are fewer samples or groups than folds; as for :func:`split`.
        MissingLabelsError: As for :func:`split`.

    Example::

        for train, val in k_fold(dataset, 5, stratified=True):
            ...
    """
    check_dataset(dataset, "k_fold")
    k = as_integer(k, "k", least=2)
    codes = None if groups is None else _read_groups(dataset, groups, "k_fold")
    units = len(dataset) if codes is None else len(np.unique(codes))
    if k > units:
        kind = "samples" if groups is None else "groups"
        raise InvalidOptionError(f"k={k} folds of {units} {kind}; expected at most one each.")
    parts = _assign(dataset, np.full(k, 1 / k), stratified, codes, seed, label, "k_fold")
    return [_pair(dataset, parts == part) for part in range(k)]


def leave_one_group_out(
    dataset: KDDataset, groups: str | Sequence[Any]
) -> Iterator[tuple[SubsetWrapper, SubsetWrapper]]:
    """Yield a pair (all other groups, one group) for each group, in ascending order.

    Args:
        dataset: The dataset.
        groups: See :func:`split`; at least two different ones.

    Returns:
        An iterator: each pair is made when it is asked for.

    Raises:
        InvalidOptionError: All samples are of one group, or a sample has none.
        MissingLabelsError: The groups are known only by reading every sample.
    """
    check_dataset(dataset, "leave_one_group_out")
    codes = _read_groups(dataset, groups, "leave_one_group_out")
    number = int(codes.max(initial=-1)) + 1
    if number < 2:
        raise InvalidOptionError(
            f"leave_one_group_out needs at least two groups; the {len(codes)} samples are of "
            f"{number}."
        )
    return (_pair(dataset, codes == group) for group in range(number))


def _pair(dataset: KDDataset, left_out: Any) -> tuple[SubsetWrapper, SubsetWrapper]:
    return SubsetWrapper(dataset, ~left_out), SubsetWrapper(dataset, left_out)


def _split_by(
    splitter: Any, dataset: KDDataset, stratified: bool, groups: Any, label: str | None
) -> list[tuple[SubsetWrapper, SubsetWrapper]]:
    if stratified:
        raise InvalidOptionError(
            f"stratified=True is for fractions; a {type(splitter).__name__} decides it by itself. "
            f"Leave it out, or choose a splitter that is stratified."
        )
    codes = None if groups is None else _read_groups(dataset, groups, "split")
    try:
        labels = read_labels(dataset, label, "split")
    except MissingLabelsError:
        if label is not None:
            raise
        labels = None  # many splitters need none; those that do say so
    folds = splitter.split(np.zeros((len(dataset), 1)), labels, codes)
    return [(SubsetWrapper(dataset, train), SubsetWrapper(dataset, test)) for train, test in folds]


def _check_fractions(fractions: Any) -> Any:
    given = list(fractions) if np.iterable(fractions) and not isinstance(fractions, str) else []
    shares = np.array([as_fraction(each, "fractions") for each in given])
    if not len(shares) or abs(shares.sum() - 1) > 1e-6:
        total = f", which sum to {shares.sum():g}" if len(shares) else ""
        raise InvalidOptionError(
            f"fractions={fractions!r}{total}; expected fractions that sum to 1, such as "
            f"[0.8, 0.1, 0.1]."
        )
    return shares


def _read_groups(dataset: KDDataset, groups: Any, owner: str) -> IntArray:
    """Return the number of each sample's group, counted from 0 in ascending order of groups."""
    if isinstance(groups, str):
        item = find_item(dataset, groups)
        column = item.get_all()
        if column is None and item.reads_samples:
            raise MissingLabelsError(
                f"{owner} needs the groups of all samples, and item {groups!r} is known only by "
                f"reading each of the {len(dataset)} samples whole. Pass them as an array: "
                f"groups=[…]."
            )
        values = read_one_by_one(item, groups, len(dataset)) if column is None else column
    else:
        values = groups
    array = as_array(values)
    if array.shape != (len(dataset),):
        raise InvalidOptionError(
            f"groups= of {owner} has the shape {array.shape}; expected one group for each of "
            f"{len(dataset)} samples: ({len(dataset)},)."
        )
    missing = array != array  # NaN and NaT, in arrays of objects too
    if array.dtype == object:
        missing |= array == None  # noqa: E711 - of each entry
    if missing.any():
        raise InvalidOptionError(
            f"groups= of {owner}: sample {int(missing.argmax())} has none "
            f"({array[missing.argmax()]!r}). Give it one, or leave it out with SubsetWrapper."
        )
    try:
        codes: IntArray = np.unique(array, return_inverse=True)[1]
    except TypeError as error:
        raise InvalidOptionError(
            f"groups= of {owner} are of types that do not compare: {error}. Use strings or "
            f"integers alone."
        ) from error
    return codes


def _assign(
    dataset: KDDataset,
    shares: Any,
    stratified: bool,
    groups: Any,
    seed: int | None,
    label: str | None,
    owner: str,
) -> IntArray:
    """Return the part that each sample belongs to."""
    labels = read_labels(dataset, label, owner) if stratified else None
    if groups is not None:
        return _assign_groups(_read_groups(dataset, groups, owner), labels, shares, seed)
    number = len(dataset)
    sizes = apportion(shares * number, number)
    shuffled = permutation(number, seed)
    parts = np.empty(number, np.int64)
    if labels is None:
        parts[shuffled] = np.repeat(np.arange(len(sizes)), sizes)
        return parts
    classes = group_by_class(labels[shuffled])
    first = np.zeros_like(classes.counts)
    for part, size in enumerate(sizes):
        left = classes.counts - first
        last = first + apportion(left * (size / max(left.sum(), 1)), size)
        parts[shuffled[classes.take(first, last)]] = part
        first = last
    return parts


def _assign_groups(groups: IntArray, labels: Any, shares: Any, seed: int | None) -> IntArray:
    """Return the part of each sample, none of the groups torn apart.

    What a part lacks of each class and of all samples counts as a fraction of these, so that rare
    classes weigh as much as frequent ones.
    """
    number = int(groups.max(initial=-1)) + 1
    classes = np.zeros_like(groups) if labels is None else np.unique(labels, return_inverse=True)[1]
    width = int(classes.max(initial=0)) + 2  # the last column counts all samples
    pairs, counts = np.unique(groups * width + classes, return_counts=True)
    sizes = np.bincount(groups, minlength=number)
    totals = np.append(np.bincount(classes, minlength=width - 1), len(groups))
    lacks = np.outer(shares, totals)
    starts = np.searchsorted(pairs, np.arange(number + 1) * width)
    chosen = np.empty(number, np.int64)
    for group in permutation(number, seed).tolist():
        inside = slice(starts[group], starts[group + 1])
        columns = np.append(pairs[inside] % width, width - 1)
        has = np.append(counts[inside], sizes[group])
        part = (lacks[:, columns] @ (has / totals[columns] ** 2)).argmax()
        lacks[part, columns] -= has
        chosen[group] = part
    return chosen[groups]
