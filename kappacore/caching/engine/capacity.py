"""The capacity of a backend: what still fits, and what the user must know once it is full."""

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

__all__ = ["CapacityTracker"]

_REFUSALS = 3  # of samples, with none stored, before it counts as an error
_RETRY_AFTER = 5.0  # seconds until a full backend is offered values of that size again


class CapacityTracker:
    """The room left in a namespace, as far as one process knows.

    Args:
        name: The backend's name.
        length: The number of samples.
        counters: Those of the namespace; they make sure that only one process warns.
    """

    def __init__(self, name: str, length: int, counters: Counters) -> None:
        self._name = name
        self._length = length
        self._counters = counters
        self._smallest_refused = sys.maxsize
        self._refused_until = 0.0
        self._refusals = 0

    def note_refusal(self, size: int, info: BackendInfo | None, *, header: bool = False) -> None:
        """Note that the backend had no room for a value, and warn once.

        Args:
            size: The size of the value in bytes.
            info: How full the backend is; None if unknown.
            header: Whether the value is the namespace's header.

        Raises:
            SizeLimitError: If the limit is too low for any sample: the first few were all larger,
                or even the header does not fit.
        """
        self._refusals += 1
        self._smallest_refused = min(self._smallest_refused, size)
        self._refused_until = time.monotonic() + _RETRY_AFTER
        if info is None or info.capacity is None:
            return
        held = info.entries
        if not held and size > info.capacity:  # whatever has taken room, it is too large for it
            if not header and self._refusals < min(_REFUSALS, self._length):
                return  # others may be smaller
            what = "what the cache notes about itself" if header else "one sample"
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
        """Return whether a value of ``size`` bytes is worth offering to the backend."""
        return size < self._smallest_refused or time.monotonic() > self._refused_until

    @property
    def refused_lately(self) -> bool:
        """Whether a value was refused a moment ago."""
        return time.monotonic() <= self._refused_until
