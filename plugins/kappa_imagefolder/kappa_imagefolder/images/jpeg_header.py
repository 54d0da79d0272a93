"""The header of a JPEG: whether its frame is of a kind that decoders can decode smaller.

Decoders believe that they can scale any JPEG, and write past their memory where that is not so, as
with lossless ones. So this reads more strictly than any of them: what one of them might read in
another way is unknown.
"""

from __future__ import annotations

from typing import Any, NamedTuple

#: Frames that are made of blocks of 8x8 frequencies: baseline, extended and progressive, with
#: Huffman or arithmetic codes.
_SCALABLE = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
#: Segments that may come before a frame: tables, restart interval, comments and applications' own.
_BEFORE = (0xC4, 0xCC, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0))


class Frame(NamedTuple):
    """What a scalable JPEG is: pixels, and how many components each has."""

    width: int
    height: int
    components: int


def scalable_frame(data: Any) -> Frame | None:
    """Return the frame of a JPEG that can be decoded at a smaller size.

    Args:
        data: The bytes of a file.

    Returns:
        None where it is lossless, hierarchical, of more than 8 bits, no JPEG, damaged or unusual.
    """
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    at, end = 2, len(data) - 3
    while at < end and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if marker in _SCALABLE:
            return _parse(bytes(data[at + 4 : at + 2 + length]))
        if marker not in _BEFORE or length < 2:
            return None
        at += 2 + length
    return None


def _parse(content: bytes) -> Frame | None:
    if len(content) < 6 or content[0] != 8 or len(content) != 6 + 3 * content[5]:
        return None
    height, width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
    return Frame(width, height, content[5]) if width and height else None
