"""A tar file as a source, plain or compressed by gzip.

A plain one is read once for its headers, then at the members' places by any number of threads. A
compressed one is read twice from beginning to end: first to learn what is in it, so that nothing is
written before names, sizes and room are checked; then to extract it.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

from kappacore.errors import StagingError
from kappacore.staging.sources.archive_safety import ArchiveLimits, Names, refuse
from kappacore.staging.sources.base import Deflated, Entry, Extent, Stream
from kappacore.staging.sources.find import folder_mode, stamp_of
from kappacore.staging.target.paths import is_bookkeeping

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TarSource"]

_LONGEST_HEADER = 1 << 20  # names and attributes of a member; tarfile reads them into memory
_LATEST = 1 << 62  # nanoseconds
_BROKEN = (
    tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError,
    RecursionError,
)  # fmt: skip


class TarSource:
    """All members of a tar file: regular files and folders, nothing else.

    Args:
        path: the archive.
        limits: what it may hold at most.
        packed: whether it is compressed by gzip.
    """

    def __init__(self, path: Path, limits: ArchiveLimits, packed: bool):
        self.path = path
        self.kind = "tar.gz" if packed else "tar"
        self.ordered = packed
        self._limits = limits
        self._stamp = stamp_of(path, "tar")
        self.mode = folder_mode(path.stat().st_mode)
        self._file: Any = path.open("rb")
        if packed:
            self._raw, self._file = self._file, gzip.GzipFile(fileobj=self._file)

    def scan(self) -> list[Entry]:
        names = Names(str(self.path))
        mask = self.path.stat().st_mode & 0o666
        files: list[Entry] = []
        count = 0
        try:
            with tarfile.open(
                fileobj=cast("IO[bytes]", _Guarded(self._file, self)), mode="r:", encoding="utf-8"
            ) as archive:
                while (member := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # it would keep all
                    count += 1
                    self.check(member.offset_data + member.size, count)
                    entry = self._entry(names, member, mask)
                    if entry is not None:
                        files.append(entry)
                self._check_end(archive.offset)
        except _BROKEN as error:
            if isinstance(error, StagingError):
                raise
            raise StagingError(
                f"'{self.path}' cannot be read as a {self.kind} file: {error}. It may not have "
                f"been written to its end: copy or pack it again."
            ) from error
        self._file.seek(0)
        return [Entry(path, -1, 0, self.mode) for path in sorted(names.folders)] + files

    def check(self, size: int, members: int = 0) -> None:
        """Refuse the archive if it gives more than it may."""
        self._limits.check(str(self.path), self._stamp[0], size, members)

    def open(self, entry: Entry) -> Extent | Stream:
        if not self.ordered:
            return Extent(self._file.fileno(), entry.where, entry.size)
        self._file.seek(entry.where)  # forward, which reads what lies between
        return Stream(self._file, entry.size)

    def release(self, content: Extent | Deflated | Stream) -> None:
        pass  # they share the archive's file

    def changes(self, _entries: list[Entry]) -> list[str]:
        changed = not self.path.exists() or stamp_of(self.path, "tar") != self._stamp
        return [f"'{self.path}' was written to"] if changed else []

    def close(self) -> None:
        self._file.close()
        if self.ordered:
            self._raw.close()

    def _entry(self, names: Names, member: tarfile.TarInfo, mask: int) -> Entry | None:
        if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
            what = "a link" if member.issym() or member.islnk() else "no plain file"
            refuse(str(self.path), f"has a member {member.name!r} that is {what}")
        if member.issparse():
            refuse(str(self.path), f"has a member {member.name!r} that is sparse")
        if member.size < 0:
            refuse(str(self.path), f"has a member {member.name!r} of a negative size")
        path = names.take(member.name, member.isdir())
        if member.isdir() or any(is_bookkeeping(part) for part in path.split("/")):
            return None
        mode = member.mode & 0o777 & (mask | 0o111) or mask
        time = min(max(int(member.mtime * 10**9), 0), _LATEST)
        return Entry(path, member.size, time, mode, where=member.offset_data)

    def _check_end(self, offset: int) -> None:
        """Check that the archive ends where tarfile stopped, which it also does at damage."""
        self._file.seek(offset)
        first = True
        while block := self._file.read(1 << 20):
            if block.strip(b"\0") or (first and len(block) < tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"after byte {offset} comes neither a member nor the end")
            first = False
            self.check(self._file.tell())
        if first:
            raise tarfile.ReadError("its end is missing")


class _Guarded:
    """The file that tarfile reads headers from, which must not make it read a bomb."""

    def __init__(self, file: Any, source: TarSource):
        self._file = file
        self._source = source

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LONGEST_HEADER:
            refuse(str(self._source.path), f"has a header of {size} bytes")
        data: bytes = self._file.read(size)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._source.check(offset)
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())
