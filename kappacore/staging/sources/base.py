"""The interface of sources, and what they list."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, repeat
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from kappacore.staging.target.paths import is_bookkeeping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path


BATCH_BYTES = 1 << 23  # what is copied at a time
DEEPEST = 200  # levels of folders; no dataset has more, and Python calls itself 1000 times at most

_IS_UTF8 = sys.getfilesystemencoding() == "utf-8"


class Entry(NamedTuple):
    """One file of a dataset, or one folder in an archive."""

    path: str  # relative, separated by "/", with surrogates for bytes that are not UTF-8
    size: int  # bytes; -1: a folder
    mtime_ns: int
    mode: int  # permission bits
    crc: int | None = None  # CRC-32 of the content, if the archive stores it
    where: Any = None  # what the source needs to find the content
    packing: str | None = None  # how the archive compresses the content by itself, or "sparse"
    data: int | None = None  # bytes that are not in holes; None: all, there are none
    root: str | int | None = None  # see Block

    @property
    def is_folder(self) -> bool:
        return self.size < 0


@dataclass(frozen=True, slots=True)
class Block:
    """Files of one folder, column by column: thousands pass from process to process at once.

    Attributes:
        root: Where worker processes find them: the folder that paths begin at, or the descriptor of
            an archive; None: only this process can read them.
        folder: The path of the folder.
        names: The files' names in it; not empty.
        sizes: And so on: see :class:`Entry`. A column of nothing but None is None.
    """

    root: str | int | None
    folder: str
    names: Sequence[str]
    sizes: Sequence[int]
    times: Sequence[int]
    modes: Sequence[int]
    crcs: Sequence[int | None] | None = None
    wheres: Sequence[Any] | None = None
    packings: Sequence[str | None] | None = None
    data: Sequence[int | None] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def columns(self) -> list[Sequence[Any] | None]:
        """Return all columns, from the sizes on."""
        return [
            self.sizes, self.times, self.modes, self.crcs, self.wheres, self.packings, self.data
        ]  # fmt: skip

    def entries(self) -> Iterator[Entry]:
        """Yield the files one by one."""
        above = f"{self.folder}/" if self.folder else ""
        columns = [repeat(None) if column is None else column for column in self.columns()]
        return map(Entry, [above + name for name in self.names], *columns, repeat(self.root))

    def part(self, start: int, stop: int | None = None) -> Block:
        """Return some of the files."""
        if start == 0 and (stop is None or stop == len(self)):
            return self
        columns = [column and column[start:stop] for column in self.columns()]
        return Block(self.root, self.folder, self.names[start:stop], *columns)  # type: ignore[arg-type]


def blocks_of(files: Iterable[Entry]) -> list[Block]:
    """Return files in blocks, in their order."""
    blocks = []
    for (folder, root), group in groupby(files, lambda file: (parent_of(file.path), file.root)):
        paths, *columns, _ = zip(*group, strict=True)
        start = len(folder) + 1 if folder else 0
        names = [path[start:] for path in paths]
        given = [None if column.count(None) == len(names) else column for column in columns]
        blocks.append(Block(root, folder, names, *given))  # type: ignore[arg-type]
    return blocks


def batches(blocks: Iterable[Block], count: int, most: int = BATCH_BYTES) -> Iterator[list[Block]]:
    """Split files into batches of so many at most, and of bounded bytes."""
    batch: list[Block] = []
    files = bytes_ = 0
    for block in blocks:
        start = 0
        for place, size in enumerate(block.sizes):
            if files and (files >= count or bytes_ + size > most):
                if place > start:
                    batch.append(block.part(start, place))
                yield batch
                batch, start, files, bytes_ = [], place, 0, 0
            files += 1
            bytes_ += size
        batch.append(block.part(start))
    if batch:
        yield batch


class Listing:
    """The files and folders of a dataset.

    Args:
        folders: The permission bits of each folder, by its path; below the one above it.
        blocks: The files.

    Attributes:
        count: Number of files.
        size: Their bytes.
    """

    def __init__(self, folders: dict[str, int], blocks: list[Block]):
        self.folders = folders
        self.blocks = blocks
        self.count = sum(map(len, blocks))
        self.size = sum(sum(block.sizes) for block in blocks)

    @cached_property
    def files(self) -> dict[str, Entry]:
        """All files by path, made at the first use: it takes microseconds for each."""
        return {entry.path: entry for block in self.blocks for entry in block.entries()}


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

    def look(
        self, folders: Sequence[tuple[str, list[str]]], skipped: Iterable[str]
    ) -> Iterator[tuple[int, Any]]:
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
    """

    kind: str
    path: Path
    mode: int
    folder: str | None = None
    ordered = False

    @property
    def waits(self) -> bool:
        """Whether whoever listed it was seen to wait for its storage."""
        return False

    @abstractmethod
    def scan(self, lister: Lister | None = None) -> Listing:
        """List all files and folders.

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

    @abstractmethod
    def changes(self, listing: Listing) -> list[str]:
        """List what has changed since :meth:`scan` returned ``listing``."""

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
