"""Namespaces: apart from each other, cleared, counted, limited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kappacore.caching.backends.base import BackendInfo
from kappacore.testing.caching.case import LENGTH
from kappacore.testing.caching.content import check_equal, random_bytes

if TYPE_CHECKING:
    from kappacore.caching.backends.base import CacheBackend
    from kappacore.testing.caching.case import Case

__all__ = ["NamespaceTests"]

_LIMIT, _SIZE = 2**20, 2**16  # bytes: of a small backend, of a value in it
_TOO_MANY = 8 * _LIMIT // _SIZE  # far more than fit, whatever the bookkeeping


class NamespaceTests:
    """What holds between namespaces and for one as a whole."""

    def test_namespaces_do_not_see_each_other(self, case: Case) -> None:
        first = case.namespace
        others = [f"{first}.x", f"{first}-0", f"{first}_", first[:-1], first.ljust(100, "z")]
        opened = [case.open(name) for name in (first, *others)]
        for number, backend in enumerate(opened):
            assert backend.get_many(range(3)) == [None] * 3
            assert backend.put_many([(0, [b"%d" % number]), (number, [b"own"])]) == [True] * 2
        for number, backend in enumerate(opened[1:], start=1):
            check_equal(backend.get(0), b"%d" % number)
            check_equal(backend.get(number), b"own")
            assert sum(buffer is not None for buffer in backend.get_many(range(LENGTH))) == 2

    def test_clear_removes_all_of_its_namespace_and_nothing_else(self, case: Case) -> None:
        case.skip_unless_defined("clear")
        cleared, other = case.open(), case.open(f"{case.namespace}.x")
        for backend in (cleared, other):
            backend.put_many([(key, [random_bytes(100, key)]) for key in range(LENGTH)])
        cleared.clear()
        assert cleared.get_many(range(LENGTH)) == [None] * LENGTH
        for key in range(LENGTH):
            check_equal(other.get(key), random_bytes(100, key), "another namespace was changed")

    def test_a_cleared_namespace_can_be_filled_and_cleared_again(self, case: Case) -> None:
        case.skip_unless_defined("clear")
        backend = case.open()
        for version in range(3):
            backend.clear()
            assert backend.get(0) is None
            assert backend.put(0, [b"%d" % version]) is True
            check_equal(backend.get(0), b"%d" % version)

    def test_what_outlives_the_process_can_be_cleared(self, case: Case) -> None:
        if case.cls.scope != "machine" or case.keeps:
            pytest.skip(f"{case.ref}: the engine does not clear it when its last user leaves")
        assert case.defines("clear"), (
            "the engine clears a backend of scope 'machine' when its last user leaves: define "
            "clear(), or take the option 'keep' and let entries go by yourself"
        )

    def test_info_says_what_is_stored(self, case: Case) -> None:
        case.skip_unless_defined("info")
        backend = case.open()
        empty = _info(backend, case)
        assert (empty.entries, empty.full) == (0, False)
        for key in range(4):
            before = _info(backend, case)
            backend.put(key, [random_bytes(2**16, key)])
            after = _info(backend, case)
            assert after.entries == key + 1
            assert after.bytes > before.bytes
        assert after.bytes - empty.bytes >= 2**17, "4 values of 64 KiB take more than half of it"
        backend.put(0, [b"replaced"])
        assert _info(backend, case).entries == 4
        assert not _info(backend, case).full
        if case.defines("clear"):
            backend.clear()
            cleared = _info(backend, case)
            assert (cleared.entries, cleared.full) == (0, False)
            assert cleared.bytes < after.bytes

    def test_a_full_backend_refuses_and_raises_nothing(self, case: Case) -> None:
        case.skip_unless_limited()
        backend = case.open(length=_TOO_MANY, limit=_LIMIT)
        stored = 0
        while stored < _TOO_MANY and backend.put(stored, [random_bytes(_SIZE, stored)]):
            stored += 1
        assert 0 < stored < _TOO_MANY, (
            f"with {case.limit_option}={_LIMIT}, {stored} values of {_SIZE} bytes were stored"
        )
        keys = range(stored, stored + 3)
        if stored + 3 <= _TOO_MANY:
            refused = backend.put_many([(key, [random_bytes(_SIZE, key)]) for key in keys])
            assert refused == [False] * 3
        assert backend.get(stored) is None, "a value was refused, and stored nevertheless"
        for key in range(stored):
            check_equal(backend.get(key), random_bytes(_SIZE, key), "a full backend lost a value")
        if case.defines("info"):
            info = _info(backend, case)
            assert info.full, "a value was refused, and info() does not say full"
            assert info.entries == stored

    def test_a_value_beyond_the_limit_is_refused(self, case: Case) -> None:
        case.skip_unless_limited()
        backend = case.open(limit=_LIMIT)
        assert backend.put(0, [bytes(4 * _LIMIT)]) is False
        assert backend.get(0) is None
        assert backend.put(0, [b"small"]) is True
        assert backend.put(0, [bytes(4 * _LIMIT)]) is False
        left = backend.get(0)
        assert left is None or bytes(left) == b"small", "what was refused tore what was there"


def _info(backend: CacheBackend, case: Case) -> BackendInfo:
    info = backend.info()
    assert isinstance(info, BackendInfo)
    assert info.namespace == case.namespace
    assert info.where, "info().where tells people where the values are"
    assert info.bytes >= 0
    assert info.capacity is None or info.bytes <= info.capacity
    return info
