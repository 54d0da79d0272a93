"""Digests of contents, which may be computed of the pieces of a large file in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CHUNK", "ContentDigest", "combine_crcs", "combine_digests", "crc_text", "digest_text"]

CHUNK = 1 << 26  # bytes; part of the format, since digests depend on it


class ContentDigest:
    """XXH3-128 of content; of more than one chunk: XXH3-128 of the chunks' digests in order."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._hasher = xxhash.xxh3_128()
        self._room = CHUNK

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        while len(view):
            if not self._room:
                self._done.append(self._hasher.digest())
                self._hasher = xxhash.xxh3_128()
                self._room = CHUNK
            part = view[: self._room]
            self._hasher.update(part)
            self._room -= len(part)
            view = view[len(part) :]

    def value(self) -> bytes:
        """Return the digest of all bytes so far."""
        return combine_digests([*self._done, self._hasher.digest()])


def combine_digests(chunks: list[bytes]) -> bytes:
    """Return the digest of content out of those of its chunks."""
    return chunks[0] if len(chunks) == 1 else xxhash.xxh3_128_digest(b"".join(chunks))


def combine_crcs(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32 of content out of (CRC-32, number of bytes) of its parts."""
    crc = 0
    for part, size in parts:
        crc = _times(_power(8 * size), crc) ^ part
    return crc


def digest_text(digest: bytes) -> str:
    """Return a digest as manifests have it."""
    return f"xxh3:{digest.hex()}"


def crc_text(crc: int) -> str:
    """Return a CRC-32 as manifests have it."""
    return f"crc32:{crc:08x}"


# A CRC is a polynomial over GF(2) modulo that of CRC-32, its highest power in the lowest bit. To
# append n bits is to multiply by x**n; zlib does the same in crc32_combine, which Python lacks.


def _times(a: int, b: int) -> int:
    product = 0
    bit = 1 << 31
    while bit:
        if a & bit:
            product ^= b
        bit >>= 1
        b = b >> 1 ^ 0xEDB88320 if b & 1 else b >> 1
    return product


def _power(bits: int) -> int:
    """Return x**bits."""
    result, square = 1 << 31, 1 << 30
    while bits:
        if bits & 1:
            result = _times(square, result)
        square = _times(square, square)
        bits >>= 1
    return result
