"""A zip file as a source, and a folder that contains only zip files.

The directory is parsed once; contents are then read at their offsets by any number of threads.
"""

from __future__ import annotations

import calendar
import os
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from kappacore.errors import StagingError
from kappacore.staging.sources.archive_safety import Archive, ArchiveLimits, MemberNames
from kappacore.staging.sources.base import Entry, Extent, Packed, Source, visible_names
from kappacore.staging.sources.unpacking import check_unpacker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from kappacore.staging.sources.exclude import Exclusion

_PACKINGS = {0: None, 8: "deflate", 12: "bz2", 14: "lzma", 93: "zst"}  # by number
_OTHER_METHODS = {6: " (implode)", 9: " (Deflate64)", 95: " (xz)", 96: " (JPEG)", 98: " (PPMd)"}
_ENCRYPTED = 0x1 | 0x40
_UTF8 = 0x800
_PATCHED = 0x20
_UNIX = 3
_TIMES, _UNICODE_NAME = 0x5455, 0x7075  # extra fields
_HEADER = struct.Struct("<4s22xHH")


class _Where(NamedTuple):
    header: int  # offset of the member's own header
    stop: int  # offset of the next one, or of the directory
    packed: int  # bytes
    name: bytes  # as the directory spells it


class ZipSource(Archive):
    """All members of a zip file: stored or compressed, zip64 or not.

    Args:
        path: The archive.
        limits: The most it may contain.
        exclusion: What to leave out.
    """

    kind = "zip"

    def __init__(self, path: Path, limits: ArchiveLimits, exclusion: Exclusion):
        super().__init__(path, limits, exclusion)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _members(self) -> Iterator[Entry]:
        with os.fdopen(os.dup(self._fd), "rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            end = archive.start_dir
        self.check_size(sum(member.file_size for member in members), len(members))
        stops = self._stops(members, end)
        checked: set[str] = set()
        for member in members:
            raw = _raw_name(member)
            name = _name_of(member, raw)
            if self._leaves_out(name):
                continue
            if self._is_folder(member, name):
                yield Entry(name, -1, 0, self.mode)
                continue
            mode = self._permissions(member.external_attr >> 16)
            start, packed = member.header_offset, member.compress_size
            where = _Where(start, stops[start], packed, raw)
            packing = _PACKINGS[member.compress_type]
            if packing is not None and packing not in checked:
                check_unpacker(packing, self.path)
                checked.add(packing)
            time = _time_of(member)
            yield Entry(name, member.file_size, time, mode, member.CRC, where, packing)

    @contextmanager
    def open(self, entry: Entry) -> Iterator[Extent | Packed]:
        where: _Where = entry.where
        header = os.pread(self._fd, _HEADER.size + len(where.name), where.header)
        try:
            magic, name_size, extra_size = _HEADER.unpack_from(header)
        except struct.error:
            magic, name_size, extra_size = b"", 0, 0
        start = where.header + _HEADER.size + name_size + extra_size
        if (magic, name_size, header[_HEADER.size :]) != (
            b"PK\3\4", len(where.name), where.name,
        ):  # fmt: skip
            self._refuse_member(entry.path, "has the header of another member")
        if start + where.packed > where.stop:
            self._refuse_member(entry.path, "overlaps the next one")
        if entry.packing is not None:
            yield Packed(self._fd, start, where.packed, entry.size, entry.packing)
        else:
            yield Extent(self._fd, start, entry.size)

    def place(self, entry: Entry) -> tuple[str | int, Any] | None:
        where: _Where = entry.where
        if entry.packing not in (None, "deflate"):
            return None
        return self._fd, (*where, entry.packing is not None)

    def close(self) -> None:
        os.close(self._fd)

    def _is_folder(self, member: zipfile.ZipInfo, name: str) -> bool:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            is_link = kind == stat.S_IFLNK
            self._refuse_member(name, "is a link" if is_link else "is not a plain file")
        if name.endswith("/") or kind == stat.S_IFDIR:
            if member.file_size:
                self._refuse_member(name, "is a folder with content")
            return True
        if member.flag_bits & _ENCRYPTED:
            raise StagingError(
                f"'{self.path}' is encrypted ({name!r}), and staging cannot decrypt it. Pack it "
                f"again without a password."
            )
        if member.flag_bits & _PATCHED or member.compress_type not in _PACKINGS:
            number = member.compress_type
            raise StagingError(
                f"'{self.path}' has a member {name!r} compressed by method {number}"
                f"{_OTHER_METHODS.get(number, '')}; only stored (0), deflated (8), bzip2 (12), "
                f"LZMA (14) and zstd (93) members can be extracted. Pack it again, preferably "
                f"without compression (zip -0)."
            )
        if member.compress_type == zipfile.ZIP_STORED and member.compress_size != member.file_size:
            self._refuse_member(name, "is stored, and has two sizes")
        return False

    def _stops(self, members: list[zipfile.ZipInfo], end: int) -> dict[int, int]:
        """Map the offset of each member to that of the next one, or of the directory.

        Raises:
            UnsafeArchiveError: If two members share bytes.
        """
        ordered = sorted(members, key=lambda member: member.header_offset)
        starts = [member.header_offset for member in ordered]
        stops = dict(zip(starts, [*starts, end][1:], strict=True))
        for member in ordered:
            least = _HEADER.size + len(member.orig_filename) + member.compress_size
            overlaps = member.header_offset + least > stops[member.header_offset]
            if overlaps or len(stops) < len(starts):
                self.refuse(f"has members that share bytes ({member.filename!r})")
        return stops


class ZipsSource(Source):
    """A folder that contains only zip files; each is extracted to a folder of its name.

    Args:
        path: The folder.
        zips: The zip files.
        limits: The most each may contain.
        exclusion: What to leave out.
    """

    kind = "zips"

    def __init__(self, path: Path, zips: list[Path], limits: ArchiveLimits, exclusion: Exclusion):
        self.path = path
        self.mode = path.stat().st_mode & 0o777
        self._limits = limits
        self._exclusion = exclusion
        self._zips = [
            ZipSource(file, limits, exclusion.within(file.name[: -len(".zip")])) for file in zips
        ]

    def scan(self) -> list[Entry]:
        names = MemberNames(self.path, similar=self._limits.similar_names)
        found = []
        for archive in self._zips:
            top = names.add(archive.path.name[: -len(".zip")], is_folder=False)
            found.append(Entry(top, -1, 0, archive.mode))
            for entry in archive.scan():
                where = (archive, entry.where)
                found.append(entry._replace(path=f"{top}/{entry.path}", where=where))
        return [entry for entry in found if not self._exclusion.covers(entry.path)]

    def outline(self, levels: int) -> Iterator[str]:  # noqa: ARG002 - the top shows it
        names = (archive.path.name[: -len(".zip")] for archive in self._zips)
        return (name for name in names if not self._exclusion.names(name))

    def open(self, entry: Entry) -> AbstractContextManager[Extent | Packed]:
        archive: ZipSource
        archive, where = entry.where
        return archive.open(entry._replace(where=where))

    def place(self, entry: Entry) -> tuple[str | int, Any] | None:
        archive: ZipSource
        archive, where = entry.where
        return archive.place(entry._replace(where=where))

    def changes(self, entries: list[Entry]) -> list[str]:
        known = {archive.path.name for archive in self._zips}
        added = [name for name in visible_names(self.path) if name not in known]
        return [f"'{self.path / name}' was added" for name in added] + [
            change for archive in self._zips for change in archive.changes(entries)
        ]

    def close(self) -> None:
        for archive in self._zips:
            archive.close()


def _raw_name(member: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a name that zipfile has decoded."""
    return member.orig_filename.encode("utf-8" if member.flag_bits & _UTF8 else "cp437")


def _name_of(member: zipfile.ZipInfo, raw: bytes) -> str:
    """Return a name as it was spelt where the archive was packed.

    Without the UTF-8 flag, an extra field may hold the name in UTF-8. Otherwise, archives packed on
    Unix hold the bytes of the name there, which zipfile decodes as if they came from DOS.
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
    """Return a member's time of modification in ns: its extended timestamp, else its date."""
    for tag, data in _extras(member):
        if tag == _TIMES and len(data) >= 5 and data[0] & 1:
            return int(struct.unpack_from("<i", data, 1)[0]) * 10**9
    year, month, day, hour, minute, second = member.date_time
    try:
        return calendar.timegm((year, max(month, 1), max(day, 1), hour, minute, second)) * 10**9
    except ValueError:
        return 0
