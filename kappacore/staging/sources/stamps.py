"""Stamps: what shows that a source has changed, without listing it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import xxhash

from kappacore.machine.system import opened
from kappacore.staging.sources.base import visible_names
from kappacore.staging.sources.zip_end import END, END64, LOCATOR64, find_end

if TYPE_CHECKING:
    from pathlib import Path

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
        end = find_end(fd, size)
        if end is None:
            return ""
        length = END.unpack(os.pread(fd, END.size, end))[5]
        end64 = max(0, end - LOCATOR64.size - END64.size)
        found64 = os.pread(fd, END64.size, end64)
        if found64[:4] == b"PK\6\6":
            end, length = end64, END64.unpack(found64)[8]
        if length > min(_LONGEST, end):
            return ""
        directory = os.pread(fd, size - (end - length), end - length)
    return xxhash.xxh3_128_hexdigest(directory)
