"""The frame around every value: header, digests, alignment and limits."""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

from xxhash import xxh3_64, xxh3_64_intdigest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.backends.base import Buffer

#: An element of the flat structure of a value.
Operand = bool | int | float | str | None

FORMAT_VERSION = 1

#: Levels of nested containers, including the outermost; enforced by readers too.
MAX_DEPTH = 64
#: Python objects in one value. More of them belong in an array.
MAX_NODES = 1 << 20
#: The structure: all strings, numbers and short byte strings of a value together.
MAX_STRUCTURE_BYTES = 1 << 28
#: A whole value. Guards mainly against expanded and broadcast arrays.
MAX_VALUE_BYTES = 1 << 34
#: NumPy's own limit.
MAX_NDIM = 64

ALIGNMENT = 64

#: One for each byte order, because numbers in buffers have the byte order of the machine.
MAGIC = b"KAPV" if sys.byteorder == "little" else b"KAPB"
#: Magic and format version, which a reader compares as one number.
SIGNATURE = int.from_bytes(MAGIC + FORMAT_VERSION.to_bytes(4, "little"), "little")
#: signature, digest of the address, digest of the rest, total size, kind, structure size,
#: the int of a (bytes, int), size of the arrays
HEADER = struct.Struct("<QQQQIIqQ8x")
HEADER_SIZE = 64
#: The second digest covers everything after itself: the rest of the header and of the value.
DIGESTED_FROM = 24
_SEAL, _FIELDS = struct.Struct("<QQQ"), struct.Struct("<QIIqQ8x")

#: In place of the header, where values take up other machines' memory: digest of address and rest,
#: kind and fields. The lowest byte of the latter is the form's version, byte order and kind.
SHORT_HEADER = struct.Struct("<QQ")
SHORT_HEADER_SIZE = 16
SHORT_FORM = 0x10 if sys.byteorder == "little" else 0x18
_SHORT_STRUCTURE, _SHORT_ARRAYS, _SHORT_INT = 24, 32, 56  # bits
_DIGEST_SIZE = 8

#: Kinds of value: a structure with buffers, or one of the two without a structure.
TREE, BYTES, BYTES_AND_INT = range(3)

INT64_MIN, INT64_MAX, UINT64_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1

_PADDING = bytes(ALIGNMENT)


def aligned(offset: int) -> int:
    """Return the next multiple of 64."""
    return (offset + ALIGNMENT - 1) & -ALIGNMENT


def padding(offset: int) -> bytes:
    """Return the zeros from ``offset`` to the next multiple of 64."""
    return _PADDING[: -offset % ALIGNMENT]


def seal(
    kind: int,
    structure: bytes,
    buffers: Sequence[Buffer],
    key: int,
    namespace: str,
    *,
    array_bytes: int = 0,
) -> list[Buffer]:
    """Return the pieces of one value: a head (header, structure and padding) and the buffers."""
    size = HEADER_SIZE + len(structure)
    tail = padding(size) if buffers else b""
    total = size + len(tail) + sum(map(len, buffers))
    body = _FIELDS.pack(total, kind, len(structure), 0, array_bytes) + structure + tail
    digest = xxh3_64(body)
    for buffer in buffers:
        digest.update(buffer)
    address = xxh3_64_intdigest(namespace.encode(), key)
    return [_SEAL.pack(SIGNATURE, address, digest.intdigest()) + body, *buffers]


def seal_bytes(kind: int, data: bytes, key: int, namespace: str, number: int = 0) -> list[Buffer]:
    """Do the same as :func:`seal`, faster, for a value that is one byte string."""
    fields = _FIELDS.pack(HEADER_SIZE + len(data), kind, 0, number, 0)
    digest = xxh3_64(fields)
    digest.update(data)
    address = xxh3_64_intdigest(namespace.encode(), key)
    return [_SEAL.pack(SIGNATURE, address, digest.intdigest()) + fields, data]


def shorten(pieces: list[Buffer], key: int, namespace: str) -> list[Buffer]:
    """Return the pieces of a value with the short header, or as they are if they do not fit it.

    Args:
        pieces: The value, as a codec has encoded it.
        key: The key that it was encoded for.
        namespace: The namespace, likewise.
    """
    head = memoryview(pieces[0])
    if len(head) < HEADER_SIZE or HEADER.unpack_from(head)[0] != SIGNATURE:
        return pieces  # another codec's
    _, address, _, _, kind, structure_size, number, array_bytes = HEADER.unpack_from(head)
    if kind == TREE:
        fields = structure_size | array_bytes << _SHORT_STRUCTURE
        fits = structure_size >> _SHORT_STRUCTURE == 0 and array_bytes >> _SHORT_ARRAYS == 0
    else:
        fields = number & (1 << _SHORT_INT) - 1
        fits = -(1 << _SHORT_INT - 1) <= number < 1 << _SHORT_INT - 1
    if not fits or address != xxh3_64_intdigest(namespace.encode(), key):
        return pieces
    structure = head[HEADER_SIZE : HEADER_SIZE + structure_size].tobytes()
    buffers = pieces[1:]
    tail = padding(SHORT_HEADER_SIZE + structure_size) if kind == TREE and buffers else b""
    body = (fields << 8 | SHORT_FORM | kind).to_bytes(8, "little") + structure + tail
    digest = xxh3_64(body, seed=address)
    for buffer in buffers:
        digest.update(buffer)
    return [digest.intdigest().to_bytes(_DIGEST_SIZE, "little") + body, *buffers]


def read_short_header(view: memoryview, key: int, namespace: str) -> tuple[int, int, int, int]:
    """Return kind, structure size, number and size of the arrays of a value with a short header.

    Raises:
        ValueError: If it has none, is damaged, or belongs to another key or namespace.
    """
    if len(view) < SHORT_HEADER_SIZE:
        raise ValueError(f"{len(view)} bytes are shorter than a header")
    digest, word = SHORT_HEADER.unpack_from(view)
    if word & 0xF8 != SHORT_FORM:
        raise ValueError("it does not begin like a stored value")
    address = xxh3_64_intdigest(namespace.encode(), key)
    if digest != xxh3_64_intdigest(view[_DIGEST_SIZE:], address):
        raise ValueError("its digest differs, or it belongs to another key or namespace")
    kind, fields = word & 7, word >> 8
    if kind == TREE:
        return kind, fields & (1 << _SHORT_STRUCTURE) - 1, 0, fields >> _SHORT_STRUCTURE
    sign = 1 << _SHORT_INT - 1
    return kind, 0, (fields ^ sign) - sign, 0
