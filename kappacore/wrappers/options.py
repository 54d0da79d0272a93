"""Checks of options that several wrappers share."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from kappacore.datasets.items import as_array
from kappacore.errors import InvalidOptionError

_LIMIT = 2**63


def as_integer(value: Any, option: str, least: int) -> int:
    """Return an option's value as an integer.

    Args:
        value: The value given, such as an integer of Python, numpy or torch.
        option: The option's name, for the error message.
        least: The smallest value allowed; the largest is below 2**63.

    Raises:
        InvalidOptionError: ``value`` is no such integer.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not least <= number < _LIMIT:
        raise InvalidOptionError(
            f"{option}={value!r}: expected an integer of at least {least} and below 2**63."
        )
    return number


def as_fraction(value: Any, option: str) -> float:
    """Return an option's value as a number from 0 to 1.

    Args:
        value: The value given.
        option: The option's name, for the error message.

    Raises:
        InvalidOptionError: ``value`` is no such number.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, (bool, str)) or not 0 <= number <= 1:
        hint = f" Did you mean {number / 100:g}?" if 1 < number <= 100 else ""
        raise InvalidOptionError(f"{option}={value!r}: expected a fraction from 0 to 1.{hint}")
    return number


def as_weights(weights: Any, number: int, owner: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return weights as a new array of floats.

    Args:
        weights: A list, an array or a tensor of numbers.
        number: How many are expected.
        owner: The class that needs them, for the error message.

    Raises:
        InvalidOptionError: They are negative, not finite, all zero, or of another number.
    """
    try:
        array = as_array(weights).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidOptionError(f"{owner} cannot use weights={weights!r}: {error}") from error
    if array.shape != (number,):
        raise InvalidOptionError(
            f"weights= of {owner} has the shape {array.shape}; expected one for each of {number}: "
            f"({number},)."
        )
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        first = int(wrong.argmax())
        raise InvalidOptionError(
            f"weights= of {owner} has {array[first]} at {first}; expected finite numbers from 0 on."
        )
    if not np.isfinite(total := array.sum()) or not total:
        raise InvalidOptionError(
            f"weights= of {owner} sum to {total}; expected at least one above 0, and a finite sum."
        )
    return array
