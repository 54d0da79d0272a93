"""Public attributes of a dataset, seen through what is wrapped around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.datasets.indexing import IntArray

__all__ = ["ALIGNED", "PassThrough", "concatenate", "pick"]

#: Attributes with one entry per sample, which a subset maps through its indices.
ALIGNED = ("targets", "samples", "imgs")


class PassThrough:
    """Forwards public attributes that it does not have itself to ``self.dataset``.

    Names with a leading underscore are never forwarded: a dunder such as ``__getitems__`` of the
    dataset below would have the DataLoader skip what is wrapped around it.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or hasattr(type(self), name):
            return object.__getattribute__(self, name)  # raises as if nothing were forwarded
        try:
            dataset = self.__dict__["dataset"]
        except KeyError:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}, and no dataset yet to look in: "
                f"call super().__init__(dataset) first."
            ) from None
        return getattr(dataset, name)


def pick(values: Any, indices: IntArray) -> Any:
    """Return the entries of a column at ``indices``: an array or tensor as such, else a list."""
    if isinstance(values, torch.Tensor):
        return values[torch.from_numpy(indices.copy())]  # torch warns of read-only arrays
    if isinstance(values, np.ndarray):
        return values[indices]
    return [values[idx] for idx in indices.tolist()]


def concatenate(columns: Sequence[Any]) -> Any:
    """Return one column of several; a list where they are not arrays (or tensors) of one type."""
    first = columns[0]
    if _same(columns, np.ndarray):
        return np.concatenate(columns)
    if _same(columns, torch.Tensor):
        return torch.cat(list(columns))
    if len(columns) == 1:
        return first
    return [value for column in columns for value in column]


def _same(columns: Sequence[Any], kind: type) -> bool:
    if not all(isinstance(column, kind) for column in columns):
        return False
    dtypes = {column.dtype for column in columns}
    return len(dtypes) == 1 and len({column.shape[1:] for column in columns}) == 1
