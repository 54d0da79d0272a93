"""A large file, copied in chunks by several threads; complete chunks survive a kill."""

from __future__ import annotations

import os
import struct
import threading
from typing import TYPE_CHECKING, cast

import xxhash

from kappacore.machine.system import opened
from kappacore.staging.copying.digests import CHUNK, Sums, combine_crcs, combine_digests
from kappacore.staging.copying.strategies import CopyStrategy, DamagedError
from kappacore.staging.target.manifest import FileRecord
from kappacore.staging.target.own_files import read_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kappacore.staging.sources.base import Entry, Extent, Source

_MARK = struct.Struct("<BI16s")  # which sums are known, CRC-32, digest
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
_DONE, _WITH_CRC, _WITH_DIGEST = 1, 2, 4


class LargeFile:
    """A file of more than one chunk.

    Args:
        entry: The file; its content is an :class:`Extent`.
        folder: The folder that it is copied to until it is complete.
        strategy: How it is copied.
    """

    def __init__(self, entry: Entry, folder: Path, strategy: CopyStrategy):
        version = repr((*entry[:3], entry.crc)).encode("ascii", "backslashreplace")
        name = xxhash.xxh3_128_hexdigest(version)
        self.entry = entry
        self.path = folder / name
        self._marks_path = folder / f"{name}.done"
        self._strategy = strategy
        self._with_crc = entry.crc is not None
        self._known = _DONE + _WITH_CRC * self._with_crc + _WITH_DIGEST * strategy.with_digest
        self._lock = threading.Lock()
        self._sums: dict[int, Sums] = self._kept()
        chunks = range(-(-entry.size // CHUNK))
        # At least one chunk is copied, by the thread that then moves the file.
        self.missing = [index for index in chunks if index not in self._sums] or [chunks[-1]]
        self._left = len(self.missing)

    @staticmethod
    def keep_only(files: list[LargeFile], folder: Path) -> None:
        """Remove what belongs to other files, or to older versions of these, from the folder."""
        needed = {path for file in files for path in (file.path, file._marks_path)}
        for path in folder.iterdir():
            if path not in needed:
                path.unlink()

    @property
    def kept_bytes(self) -> int:
        """Bytes that an earlier try has copied."""
        return self.entry.size - sum(self._size_of(index) for index in self.missing)

    def copy(self, index: int, source: Source, moved: Callable[[int], None]) -> FileRecord | None:
        """Copy a chunk; return the record of the file if it was the last one."""
        entry, offset = self.entry, index * CHUNK
        with source.open(entry) as content, opened(self.path, _FLAGS, entry.mode | 0o600) as file:
            whole = cast("Extent", content)
            chunk = whole._replace(offset=whole.offset + offset, size=self._size_of(index))
            os.ftruncate(file, entry.size)
            sums = self._strategy.copy(chunk, file, offset, with_crc=self._with_crc, moved=moved)
        with opened(self._marks_path, _FLAGS) as marks:
            mark = _MARK.pack(self._known, sums.crc or 0, sums.digest or b"")
            os.pwrite(marks, mark, index * _MARK.size)
        with self._lock:
            self._sums[index] = sums
            self._left -= 1
            last = self._left == 0
        return self._record() if last else None

    def discard(self) -> None:
        """Remove what was copied so far."""
        for path in (self.path, self._marks_path):
            path.unlink(missing_ok=True)

    def move(self, path: Path) -> None:
        """Move the complete file to where it belongs."""
        self.path.rename(path)
        self._marks_path.unlink()

    def _size_of(self, index: int) -> int:
        return min(CHUNK, self.entry.size - index * CHUNK)

    def _record(self) -> FileRecord:
        """Return the record of the complete file, whose CRC is checked."""
        entry = self.entry
        chunks = [self._sums[index] for index in range(len(self._sums))]
        crc = digest = None
        if self._with_crc:
            crc = combine_crcs((sums.crc or 0, self._size_of(i)) for i, sums in enumerate(chunks))
            if crc != entry.crc:
                raise DamagedError("its bytes do not have the CRC that the archive stores")
        if self._strategy.with_digest:
            digest = combine_digests([sums.digest or b"" for sums in chunks])
        os.utime(self.path, ns=(entry.mtime_ns, entry.mtime_ns))
        return FileRecord(entry.size, entry.mtime_ns, Sums(crc, digest).text())

    def _kept(self) -> dict[int, Sums]:
        """Return the chunks that an earlier try has copied, with all sums needed now."""
        if not self.path.exists() or self.path.stat().st_size != self.entry.size:
            self._marks_path.unlink(missing_ok=True)
        marks = read_own(self._marks_path) or b""
        kept = {}
        for index in range(len(marks) // _MARK.size):
            known, crc, digest = _MARK.unpack_from(marks, index * _MARK.size)
            if known & self._known == self._known:
                kept[index] = Sums(crc, digest)
        return kept
