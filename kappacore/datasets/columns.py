"""Columns: arrays, tensors or lists with one entry per sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kappacore.errors import InvalidItemError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray

__all__ = ["ALIGNED", "check_aligned", "concatenate", "pick"]

#: Attributes of datasets that are columns; a subset picks its own entries.
ALIGNED = ("targets", "samples", "imgs")


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
