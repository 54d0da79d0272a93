"""Comparing the contents of a source with those of a target, where size and time prove nothing."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from kappacore.machine.system import opened
from kappacore.staging.copying.digests import Sums, SumsOfContent, sums_in
from kappacore.staging.copying.strategies import DamagedError, TooShortError, blocks_of
from kappacore.staging.sources.archive_safety import BROKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kappacore.staging.sources.base import Entry, Source
    from kappacore.staging.target.manifest import FileRecord

_BLOCK = 1 << 20  # bytes


def differing(
    source: Source, files: dict[str, tuple[Entry, FileRecord]], root: str, threads: int
) -> Iterator[str]:
    """Yield the paths of files whose content in a source is not that of a target.

    What the record of a file knows of its content is believed. Otherwise the file is read.

    Args:
        source: The source, from which no more is read than needed.
        files: Files of the same size by their paths, in the order of the source.
        root: The target.
        threads: Number of threads.
    """
    last: list[tuple[Any, Sums]] = []  # of a source that is read in order, where links may follow

    def sums_of(entry: Entry) -> Sums:
        if last and last[0][0] == entry.where:
            return last[0][1]
        sums = SumsOfContent(with_crc=True, with_digest=True)
        with source.open(entry) as content:
            for block in blocks_of(content):
                sums.update(block)
        if source.ordered:
            last[:] = [(entry.where, sums.value())]
        return sums.value()

    def compare(item: tuple[str, tuple[Entry, FileRecord]]) -> str | None:
        path, (entry, record) = item
        return None if _is_same(entry, record, f"{root}/{path}", sums_of) else path

    with ThreadPoolExecutor(1 if source.ordered else threads, "kappacore-compare") as pool:
        try:
            yield from (path for path in pool.map(compare, files.items()) if path is not None)
        finally:
            pool.shutdown(cancel_futures=True)


def sums_of_file(path: str, *, with_crc: bool = False, with_digest: bool = False) -> Sums:
    """Return the sums of a file's content on the disk, not in the page cache."""
    buffer = memoryview(bytearray(_BLOCK))
    sums = SumsOfContent(with_crc=with_crc, with_digest=with_digest)
    with opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        while count := os.readv(fd, [buffer]):
            sums.update(buffer[:count])
    return sums.value()


def _is_same(entry: Entry, record: FileRecord, path: str, sums_of: Callable[[Entry], Sums]) -> bool:
    known = sums_in(record.digest)
    try:
        if entry.crc is not None:
            crc = known.crc if known.crc is not None else sums_of_file(path, with_crc=True).crc
            return crc == entry.crc
        if known == Sums():
            known = sums_of_file(path, with_digest=True)
    except OSError:  # it is not there (any more)
        return False
    try:
        found = sums_of(entry)
    except (TooShortError, DamagedError, *BROKEN):  # copying it says how
        return False
    return found.crc == known.crc if known.digest is None else found.digest == known.digest
