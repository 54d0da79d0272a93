"""Sizes and durations as people write them."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from kappacore.errors import InvalidOptionError

_UNITS = {
    "": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", re.IGNORECASE)
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


def parse_size(value: float | str, total: int, name: str = "max_bytes") -> int:
    """Parse a size and return it in bytes.

    Args:
        value: Bytes as an integer, ``"64GiB"``, ``"500 MB"``, or a fraction of ``total`` as a
            float between 0 and 1.
        total: The whole of a fraction, in bytes.
        name: The option's name, for the error.

    Raises:
        InvalidOptionError: If it is none of these, or not positive.
    """
    size = -1
    if isinstance(value, float) and 0 < value <= 1:
        size = max(1, int(value * total))  # not 0 if nothing is free
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = int(Fraction(match[1]) * _UNITS[(match[2] or "").lower()])
    if size <= 0:
        raise InvalidOptionError(
            f"{name}={value!r} is not a size. Give bytes as a positive integer, a string such as "
            f"'64GiB' or '500MB', or a fraction between 0 and 1 such as 0.5."
        )
    return size


def parse_duration(value: bool | float | str, name: str = "keep") -> float:
    """Parse a duration and return it in seconds.

    Args:
        value: Seconds as a number, ``"90s"``, ``"30m"``, ``"12h"``, ``"7d"``; True means for ever
            (``inf``), False not at all (``0``).
        name: The option's name, for the error.

    Raises:
        InvalidOptionError: If it is none of these.
    """
    if isinstance(value, bool):
        return math.inf if value else 0.0
    if isinstance(value, int | float) and value >= 0:
        return float(value)
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(match[1]) * _SECONDS[match[2].lower()]
    raise InvalidOptionError(
        f"{name}={value!r} is not a duration. Give True, False, a number of seconds, or a string "
        f"such as '90s', '30m', '12h' or '7d'."
    )


def counted(number: int, noun: str) -> str:
    """Return a number of things, such as ``"1 file"`` or ``"1,000 files"``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_size(size: float) -> str:
    """Return a size in bytes as text: ``1536`` → ``'1.5 KiB'``.

    Args:
        size: In bytes.
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
