"""Stamps: what shows that a source has changed, without listing it."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

import xxhash

from kappacore.machine.system import opened
from kappacore.staging.sources.base import visible_names

if TYPE_CHECKING:
    from pathlib import Path

_END = struct.Struct("<4s8x2LH")  # of a zip file: its mark, then size and offset of the directory
_TAIL = _END.size + 2 * (1 << 16)  # bytes that hold the end, its comment, and that of zip64
_LOCATOR_AND_END64 = 20 + 56  # bytes
_LONGEST = 1 << 24  # bytes of directory that are read at every call


def stamp_of(path: Path, kind: str) -> list[int | str]:
    """Return a list that differs once an archive, or the top of a folder, has changed.

    Of a zip file it has a digest of the directory, which contains the CRCs. A tar file has none:
    instead, the time of the last change to its inode, which nobody can set back.
    """
    found = path.stat()
    stamp: list[int | str] = [
        0 if stat.S_ISDIR(found.st_mode) else found.st_size,
        found.st_mtime_ns,
    ]
    if kind == "zips" and path.is_dir():
        for name in visible_names(path):
            stamp += stamp_of(path / name, "zip")
    elif kind == "zip":
        stamp.append(_directory_digest(path, found.st_size))
    elif kind.startswith("tar"):
        stamp.append(found.st_ctime_ns)
    return stamp


def _directory_digest(path: Path, size: int) -> str:
    """Return the digest of a zip file's directory; ``""`` if it is long, or there is none."""
    if not path.is_file():
        return ""
    with opened(path, os.O_RDONLY) as fd:
        start = max(0, size - _TAIL)
        tail = os.pread(fd, _TAIL, start)
        end = tail.rfind(b"PK\5\6")
        if end < 0 or end + _END.size > len(tail):
            return ""
        length = _END.unpack_from(tail, end)[1]
        end64 = end - _LOCATOR_AND_END64
        if end64 >= 0 and tail[end64 : end64 + 4] == b"PK\6\6":
            end, length = end64, struct.unpack_from("<Q", tail, end64 + 40)[0]
        begin = end - length
        if length > _LONGEST or start + begin < 0:
            return ""
        before = os.pread(fd, -begin, start + begin) if begin < 0 else b""
    return xxhash.xxh3_128_hexdigest(before + tail[max(0, begin) :])
