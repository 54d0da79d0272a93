"""What a source lists: its files and folders."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Deflated", "Entry", "Extent", "Stream", "parent_of"]


class Entry(NamedTuple):
    """One file or folder of a dataset."""

    path: str  # relative, separated by "/", with surrogates for bytes that are not UTF-8
    size: int  # bytes; -1: a folder
    mtime_ns: int
    mode: int  # permission bits
    crc: int | None = None  # CRC-32 of the content, where an archive tells it
    where: Any = None  # what the source needs to find the content

    @property
    def is_folder(self) -> bool:
        return self.size < 0


class Extent(NamedTuple):
    """Content that lies as it is in an open file."""

    fd: int
    offset: int
    size: int


class Deflated(NamedTuple):
    """Content that lies deflated in an open file."""

    fd: int
    offset: int
    packed: int  # bytes in the file
    size: int


class Stream(NamedTuple):
    """Content that comes next out of a file object."""

    file: Any
    size: int


def parent_of(path: str) -> str:
    """Return the folder of a relative path; ``""`` is the top."""
    return path.rpartition("/")[0]
