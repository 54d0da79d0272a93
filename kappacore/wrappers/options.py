"""Checks of options that several wrappers share."""

from __future__ import annotations

import math
import operator
from typing import Any

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
