"""A tar file as a source, plain or compressed by gzip.

The headers of a plain one are read once; contents are then read at their offsets by any number of
threads. A compressed one is read twice from beginning to end: first to list it, so that names,
sizes and room are checked before anything is written; then to extract it.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from kappacore.staging.sources.archive_safety import Archive, ArchiveLimits
from kappacore.staging.sources.base import Entry, Extent, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST_HEADER = 1 << 20  # bytes of names and attributes; tarfile reads them into memory
_LATEST = 253_402_300_799 * 10**9  # nanoseconds: the end of the year 9999


class TarSource(Archive):
    """All members of a tar file, which must be regular files and folders.

    Args:
        path: The archive.
        limits: The most it may contain.
        packed: Whether it is compressed by gzip.
    """

    def __init__(self, path: Path, limits: ArchiveLimits, packed: bool):
        self.kind = "tar.gz" if packed else "tar"
        super().__init__(path, limits)
        self.ordered = packed
        self._raw = path.open("rb")
        self.file: Any = gzip.GzipFile(fileobj=self._raw) if packed else self._raw

    def _members(self) -> Iterator[Entry]:
        count = 0
        reader = cast("IO[bytes]", _HeaderReader(self))
        with tarfile.open(fileobj=reader, mode="r:", encoding="utf-8") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all
                count += 1
                self.check_size(member.offset_data + member.size, count)
                self._check(member)
                if member.isdir():
                    yield Entry(member.name, -1, 0, self.mode)
                    continue
                time = min(max(int(member.mtime * 10**9), 0), _LATEST)
                mode = self._permissions(member.mode)
                yield Entry(member.name, member.size, time, mode, where=member.offset_data)
            self._check_end(archive.offset)
        self.file.seek(0)

    @contextmanager
    def open(self, entry: Entry) -> Iterator[Extent | Stream]:
        if self.ordered:
            self.file.seek(entry.where)  # forward, which reads what lies between
            yield Stream(self.file, entry.size)
        else:
            yield Extent(self._raw.fileno(), entry.where, entry.size)

    def close(self) -> None:
        self.file.close()
        self._raw.close()

    def _check(self, member: tarfile.TarInfo) -> None:
        """Refuse a member that is neither a plain file nor a folder."""
        if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
            is_link = member.issym() or member.islnk()
            self._refuse_member(member.name, "is a link" if is_link else "is not a plain file")
        if member.issparse():
            self._refuse_member(member.name, "is sparse")
        if member.size < 0:
            self._refuse_member(member.name, "has a negative size")

    def _check_end(self, offset: int) -> None:
        """Check that the archive ends where tarfile stopped; it stops at damage, too."""
        self.file.seek(offset)
        first = True
        while block := self.file.read(1 << 20):
            if block.strip(b"\0") or (first and len(block) < tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"neither a member nor the end follows byte {offset}")
            first = False
            self.check_size(self.file.tell())
        if first:
            raise tarfile.ReadError("its end is missing")


class _HeaderReader:
    """The file that tarfile reads headers from, which must not make it read a bomb."""

    def __init__(self, source: TarSource):
        self._source = source

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LONGEST_HEADER:
            self._source.refuse(f"has a header of {size} bytes")
        data: bytes = self._source.file.read(size)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._source.check_size(offset)
        return int(self._source.file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._source.file.tell())
