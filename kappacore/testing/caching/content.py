"""Values for tests: random ones, and sealed ones, which show whether they are whole."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kappacore.caching.backends.base import Buffer

_HEAD = struct.Struct("=QQQ")  # key, version, number of words
_WORD = struct.Struct("=LL")  # key, version: repeated through the whole value


def random_bytes(size: int, seed: int = 0) -> bytes:
    """Return incompressible bytes, the same for the same seed."""
    return random.Random(f"{size} {seed}").randbytes(size)  # noqa: S311 - not a secret


def sealed(key: int, version: int, words: int) -> list[Buffer]:
    """Return the pieces of a value in which any 8 bytes of another value would be noticed.

    Args:
        key: The key to store it under.
        version: Distinguishes values that are stored under one key in turn.
        words: The value has 24 + 8 · words bytes.
    """
    body = _WORD.pack(key, version) * words
    middle = len(body) // 2
    return [_HEAD.pack(key, version, words), body[:middle], body[middle:]]


def check_sealed(buffer: Buffer, key: int) -> None:
    """Raise AssertionError unless ``buffer`` is a whole value of ``key``."""
    data = bytes(buffer)
    assert len(data) >= _HEAD.size, f"a value of key {key} is torn: {len(data)} bytes are left"
    found, version, words = _HEAD.unpack_from(data)
    assert found == key, f"under key {key} lies a value of key {found}"
    check_equal(data, b"".join(sealed(key, version, words)), f"a value of key {key} is torn")


def check_equal(buffer: object, expected: bytes, what: str = "a value changed") -> None:
    """Raise AssertionError unless ``buffer`` is a flat buffer of exactly these bytes."""
    assert isinstance(buffer, bytes | bytearray | memoryview), (
        f"{what}: expected bytes, bytearray or memoryview, got {type(buffer).__name__}"
    )
    if isinstance(buffer, memoryview):
        assert buffer.format == "B", f"expected a memoryview of bytes, got format {buffer.format}"
        assert buffer.ndim == 1, f"expected a flat memoryview, got {buffer.ndim} dimensions"
    data = bytes(buffer)
    # Compared out here: pytest would print the difference of megabytes.
    same = data == expected
    assert same, f"{what}: expected {_shown(expected)}, got {_shown(data)}"


def _shown(data: bytes) -> str:
    return repr(data) if len(data) <= 16 else f"{len(data)} bytes {data[:8]!r}…{data[-8:]!r}"
