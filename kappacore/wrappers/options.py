"""Checking the options that several wrappers share."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from kappacore.datasets.indexing import IntArray

__all__ = ["as_range", "as_share", "as_whole", "permutation", "share_of"]

_LARGEST = 2**63


def as_whole(value: Any, option: str, least: int) -> int:
    """Return an integer from ``least`` on, below 2**63.

    Raises:
        InvalidOptionError: ``value`` is none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not least <= number < _LARGEST:
        raise InvalidOptionError(
            f"{option}={value!r}: expected an integer from {least} on, below 2**63."
        )
    return number


def as_share(value: Any, option: str) -> float:
    """Return a number from 0 to 1.

    Raises:
        InvalidOptionError: ``value`` is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, (bool, str)) or not 0 <= number <= 1:
        hint = f" Did you mean {number / 100:g}?" if 1 < number <= 100 else ""
        raise InvalidOptionError(
            f"{option}={value!r}: expected a share, a number from 0 to 1.{hint}"
        )
    return number


def share_of(share: float, counts: Any, up: bool = False) -> Any:
    """Return ``share * counts``, rounded down or up; 0.29 of 100 are 29, whatever floats say.

    Args:
        share: From 0 to 1.
        counts: Numbers of samples, an integer or an array of them.
        up: Whether to round up.
    """
    products = np.round(np.multiply(share, counts), 6)
    return (np.ceil if up else np.floor)(products).astype(np.int64)


def as_range(from_percent: Any, to_percent: Any) -> tuple[float, float]:
    """Return two shares, the first not above the second; None is 0 and 1.

    Raises:
        InvalidOptionError: One is no share, or they are reversed.
    """
    first = 0.0 if from_percent is None else as_share(from_percent, "from_percent")
    last = 1.0 if to_percent is None else as_share(to_percent, "to_percent")
    if first > last:
        raise InvalidOptionError(
            f"from_percent={from_percent!r} is above to_percent={to_percent!r}; expected a part "
            f"that begins before it ends."
        )
    return first, last


def permutation(length: int, seed: int | None) -> IntArray:
    """Return a random order of ``length`` samples; see :class:`ShuffleWrapper`.

    Raises:
        InvalidOptionError: ``seed`` is neither None nor an integer from 0 on.
    """
    if seed is None:
        return np.random.permutation(length)
    generator = np.random.default_rng(as_whole(seed, "seed", least=0))
    return generator.permutation(length)
