"""CRCs and digests of contents, which can be computed from the chunks of a file in any order."""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from kappacore.staging.copying.worker import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK = 1 << 26  # bytes; part of the format, since digests depend on it
_ZEROS = memoryview(bytes(1 << 20))


class Sums(NamedTuple):
    """What was computed of a content; None where it was not asked for."""

    crc: int | None = None
    digest: bytes | None = None

    def text(self) -> str | None:
        """Return them as manifests store them: "crc32:…", "xxh3:…", or both, with a space."""
        return text_of(self.crc, self.digest)


def sums_in(text: str | None) -> Sums:
    """Return the sums that a manifest stores; of text that is no sum, none."""
    crc = digest = None
    with suppress(ValueError):
        for part in (text or "").split():
            name, _, value = part.partition(":")
            if name == "crc32":
                crc = int(value, 16)
            elif name == "xxh3":
                digest = bytes.fromhex(value)
    return Sums(crc, digest)


def zeros(count: int) -> Iterator[memoryview]:
    """Yield so many bytes of zero, in blocks."""
    while count:
        block = _ZEROS[:count]
        yield block
        count -= len(block)


class SumsOfContent:
    """Computes CRC-32 and digest of a content.

    The digest is the XXH3-128 of the content; of more than one chunk, the XXH3-128 of the chunks'
    digests in order.

    Args:
        with_crc: Whether to compute the CRC.
        with_digest: Whether to compute the digest.
    """

    def __init__(self, *, with_crc: bool, with_digest: bool):
        self._crc = 0 if with_crc else None
        self._with_digest = with_digest
        self._done: list[bytes] = []
        self._hasher = xxhash.xxh3_128()
        self._room = CHUNK

    @property
    def wanted(self) -> bool:
        """Whether anything is computed."""
        return self._with_digest or self._crc is not None

    def update_zeros(self, count: int) -> None:
        """Add bytes of zero."""
        if self.wanted:
            for block in zeros(count):
                self.update(block)

    def update(self, data: bytes | memoryview) -> None:
        """Add the next bytes."""
        if self._crc is not None:
            self._crc = zlib.crc32(data, self._crc)
        view = memoryview(data)
        while self._with_digest and len(view):
            if not self._room:
                self._done.append(self._hasher.digest())
                self._hasher = xxhash.xxh3_128()
                self._room = CHUNK
            part = view[: self._room]
            self._hasher.update(part)
            self._room -= len(part)
            view = view[len(part) :]

    def value(self) -> Sums:
        """Return the sums of all bytes so far."""
        chunks = [*self._done, self._hasher.digest()]
        return Sums(self._crc, combine_digests(chunks) if self._with_digest else None)


def combine_digests(chunks: list[bytes]) -> bytes:
    """Return the digest of a content from those of its chunks."""
    return chunks[0] if len(chunks) == 1 else xxhash.xxh3_128_digest(b"".join(chunks))


def combine_crcs(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-32 of a content from (CRC-32, number of bytes) of its parts."""
    crc = 0
    for part, size in parts:
        crc = _times(_power(8 * size), crc) ^ part
    return crc


# A CRC is a polynomial over GF(2) modulo that of CRC-32, its highest power in the lowest bit.
# Appending n bits multiplies it by x**n. zlib has this as crc32_combine, which Python's module
# lacks before 3.15.


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
