"""The end of a zip file, which says where its directory is.

A comment follows it, and may contain anything: also the mark of an end, or a whole zip file.
"""

from __future__ import annotations

import os
import struct

END = struct.Struct("<4s4H2LH")
LOCATOR64 = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")
_MARK = b"PK\5\6"
_LONGEST = END.size + (1 << 16)  # bytes, with its comment


def find_end(fd: int, size: int) -> int | None:
    """Return the offset of a zip file's end; None if it has none.

    Args:
        fd: A descriptor of the file.
        size: Its bytes.
    """
    before = max(0, size - _LONGEST)
    tail = os.pread(fd, _LONGEST, before)
    best, offset = -1, None
    at = tail.rfind(_MARK)
    while at >= 0 and best < 3:
        if at + END.size <= len(tail):
            *_, length, start, comment = END.unpack_from(tail, at)
            is_last = at + END.size + comment == len(tail)
            fit = 2 * _follows_directory(fd, before + at, length, start) + is_last
            if fit > best:
                best, offset = fit, before + at
        at = tail.rfind(_MARK, 0, at)
    return offset


def _follows_directory(fd: int, end: int, length: int, start: int) -> bool:
    """Return whether there is a directory of that length before an end."""
    if LOCATOR64.size <= end and os.pread(fd, 4, end - LOCATOR64.size) == b"PK\6\7":
        return True
    if not length:
        return start == end
    return length <= end and os.pread(fd, 4, end - length) == b"PK\1\2"
