"""Values: absent, exact, replaced, several at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kappacore.testing.caching.case import LENGTH
from kappacore.testing.caching.content import check_equal, random_bytes

if TYPE_CHECKING:
    from kappacore.caching.backends.base import Buffer
    from kappacore.testing.caching.case import Case

__all__ = ["ValueTests"]


class ValueTests:
    """What get and put, and their forms for batches, promise."""

    def test_a_key_that_was_never_stored_is_none(self, case: Case) -> None:
        backend = case.open()
        assert backend.get(0) is None
        assert backend.get(LENGTH - 1) is None
        assert backend.get_many(range(LENGTH)) == [None] * LENGTH

    @pytest.mark.parametrize(
        "size", [0, 1, 2**16, 2**24], ids=["0_bytes", "1_byte", "64_KiB", "16_MiB"]
    )
    def test_a_value_comes_back_exactly(self, case: Case, size: int) -> None:
        backend = case.open()
        value = random_bytes(size)
        assert backend.put(3, [value]) is True
        check_equal(backend.get(3), value)
        check_equal(backend.get_many([3])[0], value)
        assert backend.get(2) is None

    def test_every_byte_and_every_key_can_be_stored(self, case: Case) -> None:
        backend = case.open()
        for key in range(LENGTH):
            assert backend.put(key, [bytes(range(256)), bytes([key])]) is True
        for key in range(LENGTH):
            check_equal(backend.get(key), bytes(range(256)) + bytes([key]))

    def test_pieces_of_every_kind_are_joined(self, case: Case) -> None:
        backend = case.open()
        data = random_bytes(1000)
        pieces: list[Buffer] = [data[:100], b"", bytearray(data[100:200]), memoryview(data)[200:]]
        assert backend.put(0, pieces) is True
        check_equal(backend.get(0), data)
        assert backend.put(1, []) is True
        check_equal(backend.get(1), b"")

    def test_thousands_of_pieces_are_joined(self, case: Case) -> None:
        backend = case.open()
        pieces = [random_bytes(number % 7, number) for number in range(3000)]
        assert backend.put(0, pieces) is True
        check_equal(backend.get(0), b"".join(pieces))

    def test_pieces_are_copied(self, case: Case) -> None:
        backend = case.open()
        value = bytearray(random_bytes(1000))
        expected = bytes(value)
        assert backend.put(0, [value]) is True
        assert backend.put_many([(1, [memoryview(value)])]) == [True]
        value[:] = bytes(1000)
        check_equal(backend.get(0), expected)
        check_equal(backend.get(1), expected)

    @pytest.mark.parametrize(
        ("old", "new"), [(1000, 1000), (1000, 10), (10, 2**17), (10, 0)], ids=str
    )
    def test_a_value_is_replaced(self, case: Case, old: int, new: int) -> None:
        backend = case.open()
        backend.put_many([(key, [random_bytes(old, key)]) for key in (0, 1, 2)])
        assert backend.put(1, [random_bytes(new, 9)]) is True
        for key, expected in enumerate(
            [random_bytes(old, 0), random_bytes(new, 9), random_bytes(old, 2)]
        ):
            check_equal(backend.get(key), expected)

    def test_a_key_may_repeat_in_a_batch(self, case: Case) -> None:
        backend = case.open()
        assert backend.put_many([(1, [b"old"]), (2, [b"two"]), (1, [b"new"])]) == [True] * 3
        found = backend.get_many([1, 2, 1, 0, 0, 1])
        assert [_content(buffer) for buffer in found] == [
            b"new",
            b"two",
            b"new",
            None,
            None,
            b"new",
        ]

    def test_batches_and_single_calls_agree(self, case: Case) -> None:
        backend = case.open()
        values = {key: random_bytes(50 * key, key) for key in range(0, LENGTH, 2)}
        half = LENGTH // 2
        for key in range(0, half, 2):
            backend.put(key, [values[key]])
        later = [(key, [values[key][:5], values[key][5:]]) for key in range(half, LENGTH, 2)]
        assert backend.put_many(later) == [True] * len(later)
        keys = list(reversed(range(LENGTH)))
        expected = [values.get(key) for key in keys]
        assert [_content(buffer) for buffer in backend.get_many(keys)] == expected
        assert [_content(backend.get(key)) for key in keys] == expected

    def test_an_empty_batch_is_an_empty_list(self, case: Case) -> None:
        backend = case.open()
        assert backend.get_many([]) == []
        assert backend.put_many([]) == []

    def test_a_buffer_stays_as_it_is_while_somebody_holds_it(self, case: Case) -> None:
        backend = case.open()
        sizes = (1, 500, 2**16, 2**20)
        values = [random_bytes(size, key) for key, size in enumerate(sizes)]
        backend.put_many([(key, [value]) for key, value in enumerate(values)])
        held = [backend.get(key) for key in range(len(sizes))]
        held += backend.get_many(range(len(sizes)))

        def check(after: str) -> None:
            for buffer, value in zip(held, values * 2, strict=True):
                check_equal(buffer, value, f"a buffer that was held changed after {after}")

        backend.put_many([(key, [bytes(size)]) for key, size in enumerate(sizes)])
        check("put")
        if case.defines("clear"):
            backend.clear()
            check("clear")
            for key, size in enumerate(sizes):  # where the old ones may have lain
                backend.put(key, [b"\xff" * size])
            check("clear and put")
        case.close(backend)
        check("close")


def _content(buffer: Buffer | None) -> bytes | None:
    return None if buffer is None else bytes(buffer)
