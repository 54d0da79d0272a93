"""A part of a dataset: by indices, by a mask, from a start to an end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kappacore.datasets.base import KDDataset, check_dataset
from kappacore.errors import InvalidOptionError
from kappacore.wrappers.selection import SelectionWrapper


class SubsetWrapper(SelectionWrapper):
    """The samples at given indices, where a mask is true, or from a start to an end.

    Args:
        dataset: The dataset inside.
        indices: Integers, as for :class:`kappacore.KDSubset`; or a boolean mask of shape ``(N,)``
            with one entry per sample.
        start: The first index, as in a slice: a negative one counts from the end.
        end: The index after the last, as in a slice: one beyond the end is allowed.

    Raises:
        InvalidOptionError: Both indices and a start or end are given, or none of them, or the
            mask's length is not that of the dataset.
        InvalidIndexError: An index is no integer.
        IndexOutOfRangeError: An index has no sample.

    Example::

        SubsetWrapper(dataset, [3, 1, 4])
        SubsetWrapper(dataset, scores > 0.5)
        SubsetWrapper(dataset, end=1000)
    """

    def __init__(
        self,
        dataset: KDDataset,
        indices: Any = None,
        *,
        start: int | None = None,
        end: int | None = None,
    ):
        check_dataset(dataset, type(self).__name__)
        ranged = start is not None or end is not None
        if (indices is None) != ranged:
            given = "both" if ranged else "neither"
            raise InvalidOptionError(
                f"SubsetWrapper takes indices=, or start= and end=; got {given}."
            )
        if ranged:
            self.start, self.end = start, end
            try:
                indices = np.arange(*slice(start, end).indices(len(dataset)))
            except TypeError:
                raise InvalidOptionError(
                    f"SubsetWrapper takes integers for start and end; got {start!r} and {end!r}."
                ) from None
        super().__init__(dataset, _from_mask(indices, len(dataset)))


def _from_mask(indices: Any, length: int) -> Any:
    """Return the indices where a mask is true; return anything else unchanged."""
    mask = indices
    if isinstance(mask, torch.Tensor):
        mask = mask.detach().cpu().numpy()
    elif isinstance(mask, (list, tuple)) and mask and set(map(type, mask)) <= {bool, np.bool_}:
        mask = np.array(mask)
    if getattr(mask, "dtype", None) != np.bool_:
        return indices
    if mask.shape != (length,):
        raise InvalidOptionError(
            f"indices= is a mask of shape {mask.shape} for a dataset of {length} samples; "
            f"expected one entry per sample."
        )
    return np.flatnonzero(mask)
