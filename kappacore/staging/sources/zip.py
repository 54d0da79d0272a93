"""A zip file as a source, and a folder that holds only zip files.

The directory is parsed once; contents are then read at their places by any number of threads.
"""

from __future__ import annotations

import calendar
import os
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, NamedTuple

from kappacore.errors import StagingError
from kappacore.staging.sources.archive_safety import ArchiveLimits, Names, refuse
from kappacore.staging.sources.base import Deflated, Entry, Extent, Stream
from kappacore.staging.sources.find import folder_mode, stamp_of
from kappacore.staging.target.paths import is_bookkeeping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ZipSource", "ZipsSource"]

_ENCRYPTED = 0x1 | 0x40
_UTF8 = 0x800
_PATCHED = 0x20
_UNIX = 3
_TIMES, _UNICODE_NAME = 0x5455, 0x7075  # extra fields
_HEADER = struct.Struct("<4s22xHH")


class _Where(NamedTuple):
    header: int  # where the member's own header begins
    stop: int  # where the next one does, or the directory
    packed: int
    deflated: bool
    name: bytes  # as the directory spells it
    archive: int = 0  # of those in a folder, which


class ZipSource:
    """All members of a zip file: stored or deflated, zip64 or not.

    Args:
        path: the archive.
        limits: what it may hold at most.
    """

    kind = "zip"
    ordered = False

    def __init__(self, path: Path, limits: ArchiveLimits):
        self.path = path
        self._limits = limits
        self._stamp = stamp_of(path, "zip")
        self.mode = folder_mode(path.stat().st_mode)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def scan(self) -> list[Entry]:
        try:
            with (
                os.fdopen(os.dup(self._fd), "rb") as file,
                zipfile.ZipFile(file) as archive,
            ):
                members = archive.infolist()
                stop = archive.start_dir
        except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, struct.error) as error:
            raise StagingError(
                f"'{self.path}' cannot be read as a zip file: {error}. It may not have been "
                f"written to its end: copy or pack it again."
            ) from error
        self._limits.check(
            str(self.path),
            self._stamp[0],
            sum(member.file_size for member in members),
            len(members),
        )
        stops = self._stops(members, stop)
        names = Names(str(self.path))
        mask = self.path.stat().st_mode & 0o666
        files = []
        for member in members:
            raw = _raw_name(member)
            name = _name_of(member, raw)
            folder = self._is_folder(member, name)
            path = names.take(name, folder)
            if folder or any(is_bookkeeping(part) for part in path.split("/")):
                continue
            mode = (member.external_attr >> 16) & 0o777 & (mask | 0o111) or mask
            where = _Where(
                member.header_offset,
                stops[member.header_offset],
                member.compress_size,
                member.compress_type == zipfile.ZIP_DEFLATED,
                raw,
            )
            files.append(Entry(path, member.file_size, _time_of(member), mode, member.CRC, where))
        return [Entry(path, -1, 0, self.mode) for path in sorted(names.folders)] + files

    def open(self, entry: Entry) -> Extent | Deflated:
        where: _Where = entry.where
        header = os.pread(self._fd, _HEADER.size + len(where.name), where.header)
        try:
            magic, name_size, extra_size = _HEADER.unpack_from(header)
        except struct.error:
            magic, name_size, extra_size = b"", 0, 0
        start = where.header + _HEADER.size + name_size + extra_size
        if (
            magic != b"PK\3\4"
            or header[_HEADER.size :] != where.name
            or name_size != len(where.name)
        ):
            refuse(str(self.path), f"has a member '{entry.path}' whose header is that of another")
        if start + where.packed > where.stop:
            refuse(str(self.path), f"has a member '{entry.path}' that reaches into the next one")
        if where.deflated:
            return Deflated(self._fd, start, where.packed, entry.size)
        return Extent(self._fd, start, entry.size)

    def release(self, content: Extent | Deflated | Stream) -> None:
        pass  # they share the archive's descriptor

    def changes(self, _entries: list[Entry]) -> list[str]:
        changed = not self.path.exists() or stamp_of(self.path, "zip") != self._stamp
        return [f"'{self.path}' was written to"] if changed else []

    def close(self) -> None:
        os.close(self._fd)

    def _is_folder(self, member: zipfile.ZipInfo, name: str) -> bool:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "a link" if kind == stat.S_IFLNK else "no plain file"
            refuse(str(self.path), f"has a member {name!r} that is {what}")
        if name.endswith("/") or kind == stat.S_IFDIR:
            if member.file_size:
                refuse(str(self.path), f"has a folder {name!r} with content")
            return True
        if member.flag_bits & _ENCRYPTED:
            raise StagingError(
                f"'{self.path}' is encrypted ({name!r}), which staging cannot undo. Pack it anew "
                f"without a password."
            )
        if member.flag_bits & _PATCHED or member.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise StagingError(
                f"'{self.path}' has a member {name!r} compressed by method "
                f"{member.compress_type}; only stored (0) and deflated (8) ones are extracted. "
                f"Pack it anew, best without compression (zip -0)."
            )
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
            refuse(str(self.path), f"has a stored member {name!r} of two sizes")
        return False

    def _stops(self, members: list[zipfile.ZipInfo], end: int) -> dict[int, int]:
        """Return where the room of each member ends, by where it begins.

        Raises:
            UnsafeArchiveError: if two members share bytes.
        """
        ordered = sorted(members, key=lambda member: member.header_offset)
        starts = [member.header_offset for member in ordered]
        stops = dict(zip(starts, [*starts[1:], end], strict=True))
        for member in ordered:
            least = _HEADER.size + len(member.orig_filename) + member.compress_size
            if member.header_offset + least > stops[member.header_offset] or len(stops) < len(
                starts
            ):
                refuse(str(self.path), f"has members that share bytes ({member.filename!r})")
        return stops


class ZipsSource:
    """A folder that holds only zip files; each comes out as a folder of its name.

    Args:
        path: the folder.
        zips: the zip files.
        limits: what each may hold at most.
    """

    kind = "zips"
    ordered = False

    def __init__(self, path: Path, zips: list[Path], limits: ArchiveLimits):
        self.path = path
        self.mode = path.stat().st_mode & 0o777
        self._zips = [ZipSource(file, limits) for file in zips]

    def scan(self) -> list[Entry]:
        names = Names(str(self.path))
        found = []
        for number, archive in enumerate(self._zips):
            top = names.take(archive.path.name[: -len(".zip")], folder=False)
            found.append(Entry(top, -1, 0, archive.mode))
            for entry in archive.scan():
                where = entry.where and entry.where._replace(archive=number)
                found.append(entry._replace(path=f"{top}/{entry.path}", where=where))
        return found

    def open(self, entry: Entry) -> Extent | Deflated:
        where: _Where = entry.where
        return self._zips[where.archive].open(entry)

    def release(self, content: Extent | Deflated | Stream) -> None:
        pass

    def changes(self, entries: list[Entry]) -> list[str]:
        there = {file.name for file in self.path.iterdir() if not file.name.startswith(".")}
        known = {archive.path.name for archive in self._zips}
        return [f"'{self.path / name}' was added" for name in sorted(there - known)] + [
            change for archive in self._zips for change in archive.changes(entries)
        ]

    def close(self) -> None:
        for archive in self._zips:
            archive.close()


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a name, which zipfile has decoded."""
    return member.orig_filename.encode("utf-8" if member.flag_bits & _UTF8 else "cp437")


def _name_of(member: zipfile.ZipInfo, raw: bytes) -> str:
    """Return a name as whoever packed it saw it.

    Without the mark of UTF-8 there may be a second name that is UTF-8; else what was packed on a
    Unix has the bytes of the name there, and zipfile takes them for those of DOS.
    """
    if member.flag_bits & _UTF8:
        return member.orig_filename
    for tag, data in _extras(member):
        if tag == _UNICODE_NAME and data[:5] == struct.pack("<BI", 1, zlib.crc32(raw)):
            return os.fsdecode(data[5:])
    return os.fsdecode(raw) if member.create_system == _UNIX else member.orig_filename


def _extras(member: zipfile.ZipInfo) -> Iterator[tuple[int, bytes]]:
    extra = member.extra
    while len(extra) >= 4:
        tag, size = struct.unpack_from("<HH", extra)
        yield tag, extra[4 : 4 + size]
        extra = extra[4 + size :]


def _time_of(member: zipfile.ZipInfo) -> int:
    """Return when a member was written, in ns: by its extended timestamp, else by its date."""
    for tag, data in _extras(member):
        if tag == _TIMES and len(data) >= 5 and data[0] & 1:
            return max(0, int(struct.unpack_from("<i", data, 1)[0])) * 10**9
    year, month, day, hour, minute, second = member.date_time
    try:
        return calendar.timegm((year, max(month, 1), max(day, 1), hour, minute, second)) * 10**9
    except ValueError:
        return 0
