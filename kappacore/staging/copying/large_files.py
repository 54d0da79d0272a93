"""A large file, copied in chunks by several threads; the chunks that are done survive a kill."""

from __future__ import annotations

import os
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import xxhash

from kappacore.staging.copying.digests import (
    CHUNK,
    combine_crcs,
    combine_digests,
    crc_text,
    digest_text,
)
from kappacore.staging.copying.strategies import DamagedError, Sums, copy_summed
from kappacore.staging.sources.base import Entry, Extent
from kappacore.staging.target.manifest import FileRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kappacore.staging.copying.strategies import CopyStrategy
    from kappacore.staging.sources.find import Source

__all__ = ["LargeFile"]

_MARK = struct.Struct("<BI16s")  # which of the sums are known, CRC-32, digest
_DONE, _WITH_CRC, _WITH_DIGEST = 1, 2, 4


class LargeFile:
    """A file of more than one chunk.

    Args:
        entry: the file; its content is an :class:`Extent`.
        folder: where it lies until it is whole.
        with_digest: whether to compute its digest.
    """

    def __init__(self, entry: Entry, folder: Path, with_digest: bool):
        name = xxhash.xxh3_128_hexdigest(repr(entry[:3]).encode("ascii", "backslashreplace"))
        self.entry = entry
        self.path = folder / name
        self._marks_path = folder / f"{name}.done"
        self._with_crc = entry.crc is not None
        self._with_digest = with_digest
        self._lock = threading.Lock()
        self._content: Extent | None = None
        self._fd = self._marks = -1
        self._sums: dict[int, Sums] = self._kept()
        chunks = range(-(-entry.size // CHUNK))
        # Even if nothing is missing one chunk is copied: whoever does so also moves the file.
        self.missing = [index for index in chunks if index not in self._sums] or [chunks[-1]]
        self._left = len(self.missing)

    @staticmethod
    def keep_only(files: list[LargeFile], folder: Path) -> None:
        """Remove from the folder what is of other files, or of older versions of these."""
        needed = {path for file in files for path in (file.path, file._marks_path)}
        for path in folder.iterdir():
            if path not in needed:
                path.unlink()

    @property
    def kept_bytes(self) -> int:
        """Bytes that an earlier try has copied."""
        return self.entry.size - sum(self.size_of(index) for index in self.missing)

    def size_of(self, index: int) -> int:
        """Return the number of bytes of a chunk."""
        return min(CHUNK, self.entry.size - index * CHUNK)

    def copy(
        self, index: int, source: Source, strategy: CopyStrategy, moved: Callable[[int], None]
    ) -> FileRecord | None:
        """Copy a chunk; return the record of the file if it was the last one."""
        content = self._open(source)
        at = index * CHUNK
        part = Extent(content.fd, content.offset + at, self.size_of(index))
        if self._with_crc or self._with_digest:
            sums = copy_summed(
                part, self._fd, at, with_crc=self._with_crc, with_digest=self._with_digest,
                moved=moved,
            )  # fmt: skip
        else:
            strategy.copy(part, self._fd, at, moved)
            sums = Sums(None, None)
        known = (
            _DONE
            | (_WITH_CRC if sums.crc is not None else 0)
            | (_WITH_DIGEST if sums.digest is not None else 0)
        )
        os.pwrite(
            self._marks, _MARK.pack(known, sums.crc or 0, sums.digest or b""), index * _MARK.size
        )
        with self._lock:
            self._sums[index] = sums
            self._left -= 1
            last = self._left == 0
        return self._whole() if last else None

    def close(self, source: Source) -> None:
        """Close its files."""
        if self._content is not None:
            source.release(self._content)
            os.close(self._fd)
            os.close(self._marks)
            self._content = None

    def forget(self) -> None:
        """Remove what was copied so far."""
        for path in (self.path, self._marks_path):
            path.unlink(missing_ok=True)

    def move(self, folder_fd: int) -> None:
        """Move the whole file to the folder that it belongs to."""
        name = self.entry.path.rpartition("/")[2]
        os.rename(self.path, name, dst_dir_fd=folder_fd)
        self._marks_path.unlink()

    def _open(self, source: Source) -> Extent:
        with self._lock:
            if self._content is None:
                content = source.open(self.entry)
                if not isinstance(content, Extent):
                    raise TypeError(f"'{self.entry.path}' cannot be read in parts")
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._fd = os.open(self.path, flags, self.entry.mode | 0o600)
                os.ftruncate(self._fd, self.entry.size)
                self._marks = os.open(self._marks_path, flags, 0o600)
                if not self._sums:  # marks of a file that is no more
                    os.ftruncate(self._marks, 0)
                self._content = content
            return self._content

    def _whole(self) -> FileRecord:
        entry = self.entry
        digest = None
        sums = [self._sums[index] for index in range(len(self._sums))]
        if self._with_crc:
            crc = combine_crcs(
                (part.crc or 0, self.size_of(index)) for index, part in enumerate(sums)
            )
            if crc != entry.crc:
                raise DamagedError("its bytes do not have the CRC that the archive gives")
            digest = crc_text(crc)
        if self._with_digest:
            digest = digest_text(combine_digests([part.digest or b"" for part in sums]))
        os.utime(self._fd, ns=(entry.mtime_ns, entry.mtime_ns))
        return FileRecord(entry.size, entry.mtime_ns, digest)

    def _kept(self) -> dict[int, Sums]:
        """Return the chunks that an earlier try has copied, with all sums that are needed now."""
        marks = b""
        with suppress(FileNotFoundError):
            if self.path.stat().st_size == self.entry.size:
                marks = self._marks_path.read_bytes()
        needed = (
            _DONE
            | (_WITH_CRC if self._with_crc else 0)
            | (_WITH_DIGEST if self._with_digest else 0)
        )
        kept = {}
        for index in range(len(marks) // _MARK.size):
            known, crc, digest = _MARK.unpack_from(marks, index * _MARK.size)
            if known & needed == needed:
                kept[index] = Sums(crc, digest)
        return kept
