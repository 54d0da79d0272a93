"""Columns: arrays, tensors or lists with one entry per sample."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.errors import InvalidItemError

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

#: Attributes of datasets that may be columns; a subset picks its own entries.
ALIGNED = ("targets", "labels", "data", "samples", "imgs", "classes")

_ALWAYS = ("targets", "samples", "imgs")  # the others may be something else of any length


def column_of(dataset: Any, name: str) -> Any:
    """Return an attribute of a dataset if it has one entry per sample, else None.

    Args:
        dataset: The dataset.
        name: One of ``ALIGNED``.

    Raises:
        AttributeError: There is no such attribute.
        InvalidItemError: It is a column by its name, but has fewer or more entries.
    """
    values = getattr(dataset, name)
    if name in _ALWAYS:
        if not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
            return None  # not a column in spite of its name
        check_aligned(values, dataset, name)
        return values
    aligned = is_column(values) and len(values) == len(dataset)
    return None if not aligned or (name == "classes" and are_names(dataset)) else values


def is_column(values: Any) -> bool:
    """Return whether a value may be a column: an array, a tensor, a list or the like."""
    if isinstance(values, (str, bytes)):
        return False
    return isinstance(values, Sequence) or (
        hasattr(values, "__array__") and getattr(values, "ndim", 0) > 0
    )


def are_names(dataset: Any) -> bool:
    """Return whether ``classes`` of a dataset are names of classes, not labels of the samples.

    Labels are what repeats, or has one entry per sample: numbers of which one comes twice or that
    do not ascend, or names with one for each sample of which one comes twice. Where ``n_classes``
    is the number of entries, distinct ones are names.
    """
    while "classes" not in vars(dataset) and not hasattr(type(dataset), "classes"):
        inner = vars(dataset).get("dataset")
        if inner is None or not hasattr(inner, "__dict__"):
            break
        dataset = inner  # the one that has them: the length of a subset says nothing about them
    classes = getattr(dataset, "classes", ())
    if not is_column(classes):
        return True
    values = as_list(classes)
    per_sample = len(values) == len(dataset)
    named = getattr(dataset, "n_classes", None) == len(values)
    if values and all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        ascending = all(first < second for first, second in pairwise(values))
        return ascending and (named or not per_sample)
    if any(isinstance(value, float) for value in values):
        return False
    return named or not per_sample or len(set(map(str, values))) == len(values)


def as_list(column: Any) -> list[Any]:
    """Return the entries of a column as Python values."""
    return list(column.tolist() if hasattr(column, "tolist") else column)


def check_aligned(column: Any, dataset: Any, name: str) -> None:
    """Raise unless the column ``name`` of a dataset has one entry per sample.

    Raises:
        InvalidItemError: It has fewer or more.
    """
    if len(column) != len(dataset):
        raise InvalidItemError(
            f"{type(dataset).__name__}.{name} has {len(column)} entries for {len(dataset)} "
            f"samples; expected one per sample."
        )


def pick(column: Any, indices: IntArray) -> Any:
    """Return the entries of a column at ``indices``; arrays and tensors stay such, else a list."""
    if isinstance(column, torch.Tensor):
        return column[torch.from_numpy(indices.copy())]  # torch warns of read-only arrays
    if isinstance(column, np.ndarray):
        return column[indices]
    if hasattr(column, "iloc"):  # of pandas, where [] goes by labels
        return column.iloc[indices]
    return [column[idx] for idx in indices.tolist()]


def concatenate(columns: Sequence[Any]) -> Any:
    """Join columns; the result is a list unless all are arrays, or all tensors, that match."""
    if _match(columns, np.ndarray):
        return np.concatenate(columns)
    if _match(columns, torch.Tensor):
        return torch.cat(list(columns))
    if len(columns) == 1:
        return columns[0]
    return [value for column in columns for value in column]


def _match(columns: Sequence[Any], kind: type) -> bool:
    return (
        all(isinstance(column, kind) for column in columns)
        and len({(column.dtype, column.shape[1:]) for column in columns}) == 1
    )
