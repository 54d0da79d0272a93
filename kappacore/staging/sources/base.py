"""The interface of sources, and what they list."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kappacore.staging.target.paths import is_bookkeeping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import AbstractContextManager
    from pathlib import Path


DEEPEST = 200  # levels of folders; no dataset has more, and Python calls itself 1000 times at most

_IS_UTF8 = sys.getfilesystemencoding() == "utf-8"


class Entry(NamedTuple):
    """One file or folder of a dataset."""

    path: str  # relative, separated by "/", with surrogates for bytes that are not UTF-8
    size: int  # bytes; -1: a folder
    mtime_ns: int
    mode: int  # permission bits
    crc: int | None = None  # CRC-32 of the content, if the archive stores it
    where: Any = None  # what the source needs to find the content
    packing: str | None = None  # how the archive compresses the content by itself, or "sparse"
    data: int | None = None  # bytes that are not in holes; None: all, there are none

    @property
    def is_folder(self) -> bool:
        return self.size < 0

    @property
    def room(self) -> int:
        """The bytes that it takes on a disk, but for what the file system adds."""
        return self.size if self.data is None else self.data


class Extent(NamedTuple):
    """Content stored as it is in an open file."""

    fd: int
    offset: int
    size: int
    sparse: bool = False  # whether it has holes


class Packed(NamedTuple):
    """Content stored compressed in an open file."""

    fd: int
    offset: int
    packed: int  # bytes in the file
    size: int
    packing: str  # "deflate", "bz2", "lzma" or "zst"


class Stream(NamedTuple):
    """Content that is next in a file object."""

    file: Any
    size: int


class Pieces(NamedTuple):
    """Content with holes, whose data are stored one after another, without the holes."""

    data: Extent | Stream
    places: Sequence[tuple[int, int]]  # offset in the content, and bytes, of each piece of data
    size: int


Content = Extent | Packed | Stream | Pieces


class Lister(Protocol):
    """Lists plain folders quickly: :class:`kappacore.staging.copying.processes.Workers`."""

    def look(self, folders: Sequence[str], skipped: Iterable[str]) -> Iterator[tuple[int, Any]]:
        """Yield the number of each folder with what is in it."""


class Source(ABC):
    """What a dataset is staged from.

    Attributes:
        kind: ``"folder"``, ``"zip"``, ``"tar"``, ``"tar.gz"`` (``.bz2``, ``.xz``, ``.zst``), or
            ``"zips"`` for a folder of zip files.
        path: The folder or archive.
        mode: Permission bits of the folder that the dataset is copied to.
        folder: The folder whose listing the source is, name by name, if nothing is excluded.
        ordered: Whether contents must be opened one at a time, in the order of :meth:`scan`.
        pool: Threads that have waited for its storage.
    """

    kind: str
    path: Path
    mode: int
    folder: str | None = None
    ordered = False
    pool: ThreadPoolExecutor | None = None

    @property
    def waits(self) -> bool:
        """Whether whoever listed it was seen to wait for its storage."""
        return False

    @abstractmethod
    def scan(self, lister: Lister | None = None) -> list[Entry]:
        """List all files and folders; each folder precedes its contents.

        Args:
            lister: What may list folders, if there are many files.
        """

    @abstractmethod
    def outline(self, levels: int) -> Iterator[str]:
        """Yield names of files and folders from the top down, as far as they are quickly read.

        Args:
            levels: How many names such a path has at most.
        """

    @abstractmethod
    def open(self, entry: Entry) -> AbstractContextManager[Content]:
        """Open the content of a file."""

    def place(self, entry: Entry) -> tuple[str | int, Any] | None:  # noqa: ARG002
        """Return where a worker process finds the content of a file; None: only this one can.

        That is the folder that its path begins at, and None; or the descriptor of an archive, and
        what :mod:`kappacore.staging.copying.worker` says of a ``place`` in it.
        """
        return None

    @abstractmethod
    def changes(self, entries: list[Entry]) -> list[str]:
        """List what has changed since :meth:`scan` returned ``entries``."""

    @abstractmethod
    def close(self) -> None:
        """Close the source."""


def native(name: str) -> str:
    """Return a name whose bytes on the disk are UTF-8, whatever the locale, as in the archive.

    Args:
        name: The name, with surrogates for bytes that are not UTF-8.
    """
    if _IS_UTF8:
        return name
    return os.fsdecode(name.encode("utf-8", "surrogateescape"))


def parent_of(path: str) -> str:
    """Return the folder of a relative path; ``""`` is the top."""
    return path.rpartition("/")[0]


def visible_names(folder: Path) -> list[str]:
    """Return the names in a folder that are neither hidden nor the disk's, sorted."""
    names = os.listdir(folder)  # noqa: PTH208
    return sorted(name for name in names if not (name.startswith(".") or is_bookkeeping(name)))
