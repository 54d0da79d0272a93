"""Checks of indices: one, or many at once."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch

from kappacore.errors import IndexOutOfRangeError, InvalidIndexError
from kappacore.locations import IntArray as IntArray  # noqa: TC001 - for those who check indices

_ALLOWED = "integers, slices or sequences of integers"


def check_index(index: Any, length: int, owner: str, allowed: str = _ALLOWED) -> int:
    """Return ``index`` as an integer in ``0..length-1``; negative ones count from the end.

    Args:
        index: An integer of Python, numpy, or a torch tensor without dimensions.
        length: The number of samples.
        owner: The class that is indexed, for the error message.
        allowed: What it can be indexed by, for the error message.

    Raises:
        InvalidIndexError: ``index`` is not an integer.
        IndexOutOfRangeError: There is no such sample.
    """
    idx = index if type(index) is int else _as_int(index, owner, allowed)
    if not -length <= idx < length:
        raise IndexOutOfRangeError(_out_of_range(idx, length, owner))
    return idx + length if idx < 0 else idx


def check_batch(indices: Any, length: int, owner: str) -> list[int]:
    """Return ``indices`` as a list of integers in ``0..length-1``; like :func:`check_indices`.

    Args:
        indices: A sequence or an array of integers; negative ones count from the end.
        length: The number of samples.
        owner: Whose indices they are, for messages.

    Raises:
        IndexOutOfRangeError: An index is past the end.
        InvalidIndexError: They are not integers.
    """
    if (
        type(indices) is list
        and set(map(type, indices)) == {int}
        and min(indices) >= 0
        and max(indices) < length
    ):
        return indices
    result: list[int] = check_indices(indices, length, owner).tolist()
    return result


def check_indices(indices: Any, length: int, owner: str) -> IntArray:
    """Return a sequence of indices as a new int64 array of values in ``0..length-1``.

    Args:
        indices: A list, tuple, range, numpy array or torch tensor of integers, of one dimension;
            may be empty, may repeat, negative ones count from the end.
        length: The number of samples.
        owner: The class that is indexed, for the error message.

    Raises:
        InvalidIndexError: ``indices`` is something else, such as a boolean mask.
        IndexOutOfRangeError: An index has no sample; the message names the first.
    """
    array = _as_array(indices, owner)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.min() < -length or array.max() >= length:
        bad = array[(array < -length) | (array >= length)][0]
        raise IndexOutOfRangeError(_out_of_range(int(bad), length, owner))
    array = array.astype(np.int64)  # always a copy: the caller's may change
    array[array < 0] += length
    return array


def check_slice(index: slice, length: int, owner: str) -> list[int]:
    """Return the indices that a slice selects.

    Args:
        index: The slice.
        length: The number of samples.
        owner: The class that is indexed, for the error message.

    Raises:
        InvalidIndexError: The slice's bounds are not integers.
    """
    try:
        return list(range(*index.indices(length)))
    except TypeError:
        raise InvalidIndexError(f"{owner} takes slices of integers; got {index}.") from None


def is_sequence(index: Any) -> bool:
    """Return whether ``index`` stands for several indices."""
    return isinstance(index, (list, tuple, range)) or getattr(index, "ndim", 0) > 0


def _as_int(index: Any, owner: str, allowed: str = _ALLOWED) -> int:
    is_bool = isinstance(index, bool) or getattr(index, "dtype", None) in (np.bool_, torch.bool)
    if not is_bool and getattr(index, "ndim", 0) == 0:
        try:
            return operator.index(index)
        except TypeError:
            pass
    raise InvalidIndexError(f"{owner} is indexed by {allowed}; got {_describe(index)}.")


def _as_array(indices: Any, owner: str) -> np.ndarray[Any, Any]:
    if isinstance(indices, torch.Tensor):
        indices = indices.detach().cpu().numpy()
    if isinstance(indices, range):
        return np.arange(indices.start, indices.stop, indices.step)
    if isinstance(indices, (list, tuple)):
        if indices and all(kind in (bool, np.bool_) for kind in set(map(type, indices))):
            raise InvalidIndexError(_mask(owner))
        if set(map(type, indices)) != {int}:
            indices = [_as_int(index, owner) for index in indices]
        array = np.array(indices)  # integers beyond 64 bits make an object array, and are refused
    elif hasattr(indices, "__array__"):
        array = np.asarray(indices)
    else:
        raise InvalidIndexError(
            f"{owner} takes a list, tuple, range, numpy array or tensor of integers; "
            f"got {_describe(indices)}."
        )
    if array.ndim != 1:
        raise InvalidIndexError(
            f"{owner} takes indices of one dimension; got an array of shape {array.shape}."
        )
    if array.dtype.kind == "b":
        raise InvalidIndexError(_mask(owner))
    if array.size and array.dtype.kind not in "iuO":
        raise InvalidIndexError(f"{owner} takes integers; got an array of {array.dtype}.")
    return array


def _mask(owner: str) -> str:
    return (
        f"{owner} takes indices, not a boolean mask: "
        f"convert it with np.flatnonzero(mask) (or mask.nonzero().flatten() of a tensor)."
    )


def _describe(value: Any) -> str:
    kind = type(value).__name__
    text = repr(value)
    return f"{text} ({kind})" if len(text) < 60 else f"a {kind}"


def _out_of_range(idx: int, length: int, owner: str) -> str:
    if length == 0:
        return f"index {idx} is out of range: {owner} is empty."
    return f"index {idx} is out of range for {owner} of {length} samples (0 to {length - 1})."
