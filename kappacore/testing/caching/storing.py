"""What one process stores: values, namespaces, and instances that are opened and closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kappacore.caching.backends.base import BackendInfo
from kappacore.testing.caching.case import LENGTH
from kappacore.testing.caching.content import check_equal, random_bytes

if TYPE_CHECKING:
    from kappacore.caching.backends.base import Buffer, CacheBackend
    from kappacore.testing.caching.case import Case


class ValueTests:
    """What get and put promise, one value or a batch at a time."""

    def test_a_key_that_was_never_stored_is_none(self, store: CacheBackend) -> None:
        assert store.get(0) is None
        assert store.get(LENGTH - 1) is None
        assert store.get_many(range(LENGTH)) == [None] * LENGTH

    @pytest.mark.parametrize(
        "size", [0, 1, 2**16, 2**24], ids=["0_bytes", "1_byte", "64_KiB", "16_MiB"]
    )
    def test_a_value_comes_back_exactly(self, store: CacheBackend, size: int) -> None:
        value = random_bytes(size)
        assert store.put(3, [value]) is True
        check_equal(store.get(3), value)
        check_equal(store.get_many([3])[0], value)
        assert store.get(2) is None

    def test_every_byte_and_every_key_can_be_stored(self, store: CacheBackend) -> None:
        for key in range(LENGTH):
            assert store.put(key, [bytes(range(256)), bytes([key])]) is True
        for key in range(LENGTH):
            check_equal(store.get(key), bytes(range(256)) + bytes([key]))

    def test_pieces_of_every_kind_are_joined(self, store: CacheBackend) -> None:
        data = random_bytes(1000)
        pieces: list[Buffer] = [data[:100], b"", bytearray(data[100:200]), memoryview(data)[200:]]
        assert store.put(0, pieces) is True
        check_equal(store.get(0), data)
        assert store.put(1, []) is True
        check_equal(store.get(1), b"")

    def test_thousands_of_pieces_are_joined(self, store: CacheBackend) -> None:
        pieces = [random_bytes(number % 7, number) for number in range(3000)]
        assert store.put(0, pieces) is True
        check_equal(store.get(0), b"".join(pieces))

    def test_pieces_are_copied(self, store: CacheBackend) -> None:
        value = bytearray(random_bytes(1000))
        expected = bytes(value)
        assert store.put(0, [value]) is True
        assert store.put_many([(1, [memoryview(value)])]) == [True]
        value[:] = bytes(1000)
        check_equal(store.get(0), expected)
        check_equal(store.get(1), expected)

    @pytest.mark.parametrize(
        ("old", "new"), [(1000, 1000), (1000, 10), (10, 2**17), (10, 0)], ids=str
    )
    def test_a_value_is_replaced(self, store: CacheBackend, old: int, new: int) -> None:
        store.put_many([(key, [random_bytes(old, key)]) for key in (0, 1, 2)])
        assert store.put(1, [random_bytes(new, 9)]) is True
        for key, expected in enumerate(
            [random_bytes(old, 0), random_bytes(new, 9), random_bytes(old, 2)]
        ):
            check_equal(store.get(key), expected)

    def test_a_key_may_repeat_in_a_batch(self, store: CacheBackend) -> None:
        assert store.put_many([(1, [b"old"]), (2, [b"two"]), (1, [b"new"])]) == [True] * 3
        found = store.get_many([1, 2, 1, 0, 0, 1])
        expected = [b"new", b"two", b"new", None, None, b"new"]
        assert [_content(buffer) for buffer in found] == expected

    def test_batches_and_single_calls_agree(self, store: CacheBackend) -> None:
        values = {key: random_bytes(50 * key, key) for key in range(0, LENGTH, 2)}
        half = LENGTH // 2
        for key in range(0, half, 2):
            store.put(key, [values[key]])
        later = [(key, [values[key][:5], values[key][5:]]) for key in range(half, LENGTH, 2)]
        assert store.put_many(later) == [True] * len(later)
        keys = list(reversed(range(LENGTH)))
        expected = [values.get(key) for key in keys]
        assert [_content(buffer) for buffer in store.get_many(keys)] == expected
        assert [_content(store.get(key)) for key in keys] == expected

    def test_an_empty_batch_is_an_empty_list(self, store: CacheBackend) -> None:
        assert store.get_many([]) == []
        assert store.put_many([]) == []

    def test_a_buffer_stays_as_it_is_while_somebody_holds_it(
        self, case: Case, store: CacheBackend
    ) -> None:
        sizes = (1, 500, 2**16, 2**20)
        values = [random_bytes(size, key) for key, size in enumerate(sizes)]
        store.put_many([(key, [value]) for key, value in enumerate(values)])
        held = [store.get(key) for key in range(len(sizes))]
        held += store.get_many(range(len(sizes)))

        def check(after: str) -> None:
            for buffer, value in zip(held, values * 2, strict=True):
                check_equal(buffer, value, f"a buffer that was held changed after {after}")

        store.put_many([(key, [bytes(size)]) for key, size in enumerate(sizes)])
        check("put")
        if case.defines("clear"):
            store.clear()
            check("clear")
            for key, size in enumerate(sizes):  # where the old ones may have lain
                store.put(key, [b"\xff" * size])
            check("clear and put")
        case.close(store)
        check("close")


def _content(buffer: Buffer | None) -> bytes | None:
    return None if buffer is None else bytes(buffer)


_LIMIT, _SIZE = 2**20, 2**16  # bytes: of a small backend, of a value in it
_TOO_MANY = 8 * _LIMIT // _SIZE  # far more than fit, whatever the bookkeeping


class NamespaceTests:
    """What holds between namespaces, and for a namespace as a whole."""

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

    def test_a_cleared_namespace_can_be_filled_and_cleared_again(
        self, case: Case, store: CacheBackend
    ) -> None:
        case.skip_unless_defined("clear")
        for version in range(3):
            store.clear()
            assert store.get(0) is None
            assert store.put(0, [b"%d" % version]) is True
            check_equal(store.get(0), b"%d" % version)

    def test_what_outlives_the_process_can_be_cleared(self, case: Case) -> None:
        if case.cls.scope != "machine" or case.keeps:
            pytest.skip(f"{case.ref}: the engine does not clear it when its last user leaves")
        assert case.defines("clear"), (
            "the engine clears a backend of scope 'machine' when its last user leaves: define "
            "clear(), or take the option 'keep' and let entries go by yourself"
        )

    def test_info_says_what_is_stored(self, case: Case, store: CacheBackend) -> None:
        case.skip_unless_defined("info")
        empty = _info(store, case)
        assert (empty.entries, empty.full) == (0, False)
        for key in range(4):
            before = _info(store, case)
            store.put(key, [random_bytes(2**16, key)])
            after = _info(store, case)
            assert after.entries == key + 1
            assert after.bytes > before.bytes
        assert after.bytes - empty.bytes >= 2**17, "4 values of 64 KiB take more than half of it"
        store.put(0, [b"replaced"])
        assert _info(store, case).entries == 4
        assert not _info(store, case).full
        if case.defines("clear"):
            store.clear()
            cleared = _info(store, case)
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
            assert info.full, "a value was refused, and info() does not report full"
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
    assert info.where, "info().where is empty; it shows people where the values are"
    assert info.bytes >= 0
    assert info.capacity is None or info.bytes <= info.capacity
    return info


class LifetimeTests:
    """What holds when instances are opened and closed."""

    def test_close_may_be_called_twice(self, case: Case) -> None:
        used, unused = case.open(), case.open(f"{case.namespace}.x")
        used.put(0, [b"value"])
        for backend in (used, unused):
            backend.close()
            backend.close()

    def test_instances_of_one_process_share_and_close_apart(self, case: Case) -> None:
        case.skip_unless_shared()
        first, second = case.open(), case.open()
        first.put(0, [b"by the first"])
        check_equal(second.get(0), b"by the first", "another instance does not see it")
        case.close(first)
        check_equal(second.get(0), b"by the first", "close() took it from another instance")
        assert second.put(1, [b"by the second"]) is True
        check_equal(case.open().get(1), b"by the second", "another instance does not see it")

    def test_clear_reaches_every_instance(self, case: Case) -> None:
        case.skip_unless_shared()
        case.skip_unless_defined("clear")
        first, second = case.open(), case.open()
        first.put(0, [b"old"])
        check_equal(second.get(0), b"old")
        first.clear()
        assert second.get(0) is None, "another instance still sees what was cleared"
        assert second.put(0, [b"new"]) is True
        check_equal(first.get(0), b"new")

    def test_a_namespace_can_be_opened_again(self, case: Case) -> None:
        for value in (b"first", b"second"):
            backend = case.open()
            assert backend.put(0, [value]) is True
            check_equal(backend.get(0), value)
            case.close(backend)

    def test_entries_go_with_their_last_user(self, case: Case) -> None:
        if case.cls.scope == "network":
            pytest.skip(f"{case.ref}: nobody knows the last user of a network")
        samples = [b"a", b"b", b"c"]
        namespace = case.new_namespace()
        for opening in ("first", "second"):
            with case.dataset(samples, namespace=namespace) as dataset:
                assert list(dataset) == samples
                assert list(dataset) == samples
                reads = dataset.stats().source_reads
            assert reads == len(samples), f"{reads} samples were read at the {opening} opening"
