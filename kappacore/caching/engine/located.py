"""What a process knows about values that it has seen in a backend's memory."""

from __future__ import annotations

import operator
import threading
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from kappacore.locations import BatchLocation, Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.backends.base import Located
    from kappacore.locations import IntArray

    #: A layout; the offset of the numbers in the value, or a single number itself; their size.
    Found = tuple[Layout, int | bytes, int]

__all__ = ["Absence", "LocatedValues"]

#: A place in memory in one number: that of its region, and the offset there.
_OFFSET_BITS = 44
#: The places of what is absent, whatever its offset is, and of what was not seen.
_ABSENT, _UNSEEN = -1, -2
_NONE = np.empty(0, np.int64)
_LARGEST_NUMBER = 16  # bytes
#: More layouts than any dataset of arrays has; one of images of all sizes may.
_MOST_LAYOUTS = 1 << 20


class Absence(Enum):
    """Why a store has no sample."""

    MISSING = 0
    CORRUPT = 1


class LocatedValues:
    """Notes of the values that were checked: where each was, and where its numbers are.

    What lies at a place never changes while its region is held. So a value whose place is the one
    noted needs no second check, and a whole batch is compared at once. Regions are held until the
    backend names others.

    Args:
        length: The number of keys.
    """

    def __init__(self, length: int) -> None:
        self._lock = threading.Lock()
        # A row for each key: the place of its value, the offset and size of the numbers there in
        # bytes, the number of their layout, and the size of the whole value.
        self._notes = np.full((length, 5), _UNSEEN, np.int64)
        # Single numbers, which are stored in a form of their own: a region of this process.
        self._single = np.zeros((length, _LARGEST_NUMBER), np.uint8)
        self._single_region = self._single.reshape(-1).data.toreadonly()
        self._is_single = np.zeros(length, np.bool_)
        self._has_single = False
        self._known: list[Layout] = []
        self._numbers: dict[Layout, int] = {}
        self._regions: tuple[memoryview, ...] = ()
        self._serials = np.array([_ABSENT], np.int64)
        self._regions_seen = 0

    def locate(
        self,
        keys: IntArray,
        found: Located,
        check: Callable[[int, memoryview], Found | Absence | None],
        *,
        again: bool,
    ) -> tuple[BatchLocation, int] | None:
        """Return where the numbers of values lie; check the values that are new.

        Args:
            keys: (N,) keys.
            found: Where the backend says that their values lie.
            check: Takes a key and its value; returns the layout of its numbers, their offset and
                size; or why it has none.
            again: Whether to check known values as well.

        Returns:
            The location, and the size of all values that are there; None if the numbers of one
            cannot be located.
        """
        with self._lock:
            places = self._serials_of(found.regions).take(found.region) | found.offset
            region, missing = found.region, _NONE
            notes = self._notes.take(keys, axis=0)
            same = notes[:, 0] == places
            if again or not same.all():
                present = region >= 0
                unknown = present if again else present & ~same
                corrupt = self._check(keys, found, places, np.flatnonzero(unknown).tolist(), check)
                if corrupt is None:
                    return None
                notes = self._notes.take(keys, axis=0)
                present[corrupt] = False
                if not present.all():
                    region = np.where(present, region, -1)
                    missing = np.flatnonzero(~present)
                    notes[missing] = (-1, 0, 0, -1, 0)
            regions, filled = found.regions, found.filled
            if self._has_single:
                single = self._is_single.take(keys) & (region >= 0)
                region = np.where(single, len(regions), region)
                regions = (*regions, self._single_region)
                filled = (*filled, len(self._single_region))
            _, offset, nbytes, layout, sizes = notes.T
            location = BatchLocation(
                regions, filled, region, offset, nbytes, layout, self._known, missing
            )
            return location, int(sizes.sum())

    def _check(
        self,
        keys: IntArray,
        found: Located,
        places: IntArray,
        rows: list[int],
        check: Callable[[int, memoryview], Found | Absence | None],
    ) -> list[int] | None:
        """Check the values in ``rows``.

        Returns:
            The rows of corrupt ones; None if the numbers of one have no place.
        """
        corrupt = []
        checked: set[int] = set()
        sizes = found.sizes() if rows else _NONE
        for row in rows:
            key = keys.item(row)
            if key in checked:  # the batch has it twice
                continue
            start = found.offset.item(row)
            view = found.regions[found.region.item(row)][start : start + sizes.item(row)]
            answer = check(key, view)
            if isinstance(answer, Absence):
                self._notes[key, 0] = _UNSEEN
                corrupt.append(row)
                continue
            if answer is None or (number := self._number(answer[0])) is None:
                return None
            _, offset, size = answer
            if isinstance(offset, bytes):
                self._has_single = True
                self._single[key, :size] = np.frombuffer(offset, np.uint8)
                offset = key * _LARGEST_NUMBER
                self._is_single[key] = True
            else:
                offset += start
                self._is_single[key] = False
            self._notes[key] = places.item(row), offset, size, number, len(view)
            checked.add(key)
        return corrupt

    def _number(self, layout: Layout) -> int | None:
        number = self._numbers.get(layout)
        if number is None and len(self._known) < _MOST_LAYOUTS:
            number = self._numbers[layout] = len(self._known)
            self._known.append(layout)
        return number

    def _serials_of(self, regions: tuple[memoryview, ...]) -> IntArray:
        """Return a number for each region, in the upper bits, which no other one ever gets."""
        known = self._regions
        if len(regions) != len(known) or not all(map(operator.is_, regions, known)):
            before = dict(zip(map(id, known), self._serials.tolist(), strict=False))
            serials = []
            for region in regions:
                if id(region) not in before:
                    self._regions_seen += 1
                serials.append(before.get(id(region), self._regions_seen << _OFFSET_BITS))
            # The last one is of what is absent (-1), and no place that was noted.
            self._regions, self._serials = regions, np.array([*serials, _ABSENT], np.int64)
        return self._serials
