"""A backend that has no room left: what still fits, and what the user is told."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from kappacore._warn import warn
from kappacore.errors import CacheWarning, SizeLimitError
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from kappacore.caching.backends.base import BackendInfo
    from kappacore.caching.stats import Counters

__all__ = ["Fullness"]

_REFUSALS = 3  # of samples, with none stored, until it is taken for an error
_RETRY_AFTER = 5.0  # seconds that a full backend is not asked again for what is no smaller


class Fullness:
    """What one process knows of the room that a namespace has left.

    Args:
        name: the backend's.
        length: number of samples.
        counters: of the namespace; they see to it that one process warns.
    """

    def __init__(self, name: str, length: int, counters: Counters) -> None:
        self._name = name
        self._length = length
        self._counters = counters
        self._smallest_refused = sys.maxsize
        self._refused_until = 0.0
        self._refusals = 0

    def note(self, size: int, info: BackendInfo | None, *, record: bool = False) -> None:
        """Take note that a value of ``size`` bytes found no room; warn once.

        Args:
            size: in bytes.
            info: how full the backend is; None if it cannot say.
            record: whether it was the record.

        Raises:
            SizeLimitError: if the limit is below a sample: the first few were all larger, or even
                the record does not fit.
        """
        self._refusals += 1
        self._smallest_refused = min(self._smallest_refused, size)
        self._refused_until = time.monotonic() + _RETRY_AFTER
        if info is None or info.capacity is None:
            return
        held = info.entries
        if not held and size > info.capacity - info.bytes:
            if not record and self._refusals < min(_REFUSALS, self._length):
                return  # others may be smaller
            what = "what the cache notes about itself" if record else "one sample"
            raise SizeLimitError(
                f"The cache {self._name!r} may take {info.capacity} bytes "
                f"({format_size(info.capacity)}), but {what} needs {size} bytes "
                f"({format_size(size)}), so nothing would ever be cached. Raise max_bytes, or "
                f"cache a smaller form of the samples."
            )
        if self._counters.first_to("report-full"):
            share = held / self._length
            needed = max(info.bytes / held, size) * self._length if held else 0
            text = format_size(needed).replace(" ", "")
            hint = f" All of them would need about max_bytes='{text}'." if held else ""
            limit = f"into {format_size(info.capacity)}"
            if size <= info.capacity - info.bytes:  # the limit is not what was reached
                limit = f"where it lies ({info.where}), which has no room left"
            warn(
                f"The cache {self._name!r} is full: {held} of {self._length} samples "
                f"({share:.0%}) fit {limit}; the others are read from the source in every "
                f"epoch.{hint}",
                CacheWarning,
            )

    def has_room_for(self, size: int) -> bool:
        """Return whether it is worth trying to store so many bytes."""
        return size < self._smallest_refused or time.monotonic() > self._refused_until

    @property
    def lately(self) -> bool:
        """Whether a value found no room a moment ago."""
        return time.monotonic() <= self._refused_until
