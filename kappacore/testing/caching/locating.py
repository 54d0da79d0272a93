"""Where values lie in memory: what ``locate_many`` promises, for backends that define it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kappacore.testing.caching.case import LENGTH
from kappacore.testing.caching.content import check_equal, random_bytes

if TYPE_CHECKING:
    from kappacore.caching.backends.base import CacheBackend, Located
    from kappacore.testing.caching.case import Case


class LocateTests:
    """What a backend that locates values promises of them."""

    @pytest.fixture
    def locating(self, case: Case, store: CacheBackend) -> CacheBackend:
        """The backend, if it locates values."""
        case.skip_unless_defined("locate_many")
        return store

    def test_values_lie_where_they_are_located(self, locating: CacheBackend) -> None:
        values = {key: random_bytes(100 * key, key) for key in range(0, LENGTH, 3)}
        assert locating.put_many([(key, [value]) for key, value in values.items()])
        keys = np.array([3, 0, 9, 3, LENGTH - 1, 1], np.int64)
        located = _locate(locating, keys)
        for row, key in enumerate(keys.tolist()):
            if key in values:
                check_equal(_value(located, row), values[key])
            else:
                assert located.region[row] == -1, f"key {key} is absent; expected the region -1"

    def test_nothing_is_located_in_an_empty_namespace(self, locating: CacheBackend) -> None:
        located = _locate(locating, np.arange(LENGTH))
        assert (located.region == -1).all()
        assert len(_locate(locating, np.empty(0, np.int64)).region) == 0

    def test_located_memory_stays_as_it_is_while_somebody_holds_it(
        self, case: Case, locating: CacheBackend
    ) -> None:
        old = {key: random_bytes(5000, key) for key in range(LENGTH)}
        locating.put_many([(key, [value]) for key, value in old.items()])
        held = _locate(locating, np.arange(LENGTH))
        locating.put_many([(key, [random_bytes(5000, key + 100)]) for key in range(LENGTH)])
        for what in ("put", "clear", "close"):
            if what == "clear" and case.defines("clear"):
                locating.clear()
                locating.put_many([(key, [random_bytes(5000, key + 200)]) for key in old])
            elif what == "close":
                case.close(locating)
            for key, value in old.items():
                assert bytes(_value(held, key)) == value, f"located memory changed after {what}"

    def test_a_value_that_was_replaced_lies_elsewhere(self, locating: CacheBackend) -> None:
        keys = np.arange(2)
        locating.put_many([(0, [b"old" * 100]), (1, [b"one" * 100])])
        before = _locate(locating, keys)
        locating.put(0, [b"new" * 100])
        after = _locate(locating, keys)
        check_equal(_value(after, 0), b"new" * 100)
        assert _place(before, 0) != _place(after, 0), "the place of a replaced value is the same"
        assert _place(before, 1) == _place(after, 1), "a value that stayed has another place"

    def test_a_region_is_the_same_object_each_time(self, locating: CacheBackend) -> None:
        locating.put(0, [b"value"])
        keys = np.zeros(1, np.int64)
        first = _locate(locating, keys)
        locating.put(1, [b"another"])
        second = _locate(locating, keys)
        assert _region(first, 0) is _region(second, 0)
        assert memoryview(_region(first, 0)).readonly


def _locate(backend: CacheBackend, keys: np.ndarray[Any, np.dtype[np.int64]]) -> Located:
    located = backend.locate_many(keys)
    assert located is not None, "locate_many returned None; leave it out if values have no place"
    assert located.region.shape == located.offset.shape == located.sizes().shape == keys.shape
    assert len(located.filled) == len(located.regions)
    ends = located.offset + located.sizes()
    for row in np.flatnonzero(located.region >= 0).tolist():
        assert ends[row] <= located.filled[located.region.item(row)], "a value ends after filled"
    return located


def _region(located: Located, row: int) -> memoryview:
    return located.regions[located.region.item(row)]


def _value(located: Located, row: int) -> memoryview:
    start = located.offset.item(row)
    return _region(located, row)[start : start + located.sizes().item(row)]


def _place(located: Located, row: int) -> tuple[int, int]:
    return id(_region(located, row)), located.offset.item(row)
