"""A zip file as a source, and a folder that contains only zip files.

The directory is read once; contents are then read at their offsets by any number of threads.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from kappacore.errors import StagingError
from kappacore.staging.sources.archive_safety import Archive, ArchiveLimits, MemberNames
from kappacore.staging.sources.base import Entry, Extent, Packed, Source, visible_names
from kappacore.staging.sources.unpacking import check_unpacker
from kappacore.staging.sources.zip_directory import Member, read_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from kappacore.staging.sources.base import Lister
    from kappacore.staging.sources.exclude import Exclusion

_PACKINGS = {0: None, 8: "deflate", 12: "bz2", 14: "lzma", 93: "zst"}  # by number
_OTHER_METHODS = {6: " (implode)", 9: " (Deflate64)", 95: " (xz)", 96: " (JPEG)", 98: " (PPMd)"}
_ENCRYPTED = 0x1 | 0x40
_PATCHED = 0x20
_HEADER = struct.Struct("<4s22xHH")


class _Where(NamedTuple):
    header: int  # offset of the member's own header
    stop: int  # offset of the next one, or of the directory
    packed: int  # bytes
    name: bytes  # as the directory spells it
    deflated: bool


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
        members, end = read_directory(self._fd)
        self.check_size(sum(member.size for member in members), len(members))
        stops = self._stops(members, end)
        checked = set()
        for member in members:
            if self._leaves_out(member.name):
                continue
            if self._is_folder(member):
                yield Entry(member.name, -1, 0, self.mode)
                continue
            packing = _PACKINGS[member.method]
            if packing is not None and packing not in checked:
                check_unpacker(packing, self.path)
                checked.add(packing)
            name, raw, start, packed, size, crc, _, _, mode, time = member
            where = _Where(start, stops[start], packed, raw, packing == "deflate")
            yield Entry(
                name, size, time, self._permissions(mode, is_known=mode != 0), crc, where, packing
            )

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
        if entry.packing not in (None, "deflate"):
            return None
        return self._fd, tuple(entry.where)  # marshal takes no named one

    def close(self) -> None:
        os.close(self._fd)

    def _is_folder(self, member: Member) -> bool:
        name = member.name
        kind = stat.S_IFMT(member.mode)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            is_link = kind == stat.S_IFLNK
            self._refuse_member(name, "is a link" if is_link else "is not a plain file")
        if name.endswith("/") or kind == stat.S_IFDIR:
            if member.size:
                self._refuse_member(name, "is a folder with content")
            return True
        if member.flags & _ENCRYPTED:
            raise StagingError(
                f"'{self.path}' is encrypted ({name!r}), and staging cannot decrypt it. Pack it "
                f"again without a password."
            )
        if member.flags & _PATCHED or member.method not in _PACKINGS:
            number = member.method
            raise StagingError(
                f"'{self.path}' has a member {name!r} compressed by method {number}"
                f"{_OTHER_METHODS.get(number, '')}; only stored (0), deflated (8), bzip2 (12), "
                f"LZMA (14) and zstd (93) members can be extracted. Pack it again, preferably "
                f"without compression (zip -0)."
            )
        if member.method == zipfile.ZIP_STORED and member.packed != member.size:
            self._refuse_member(name, "is stored, and has two sizes")
        return False

    def _stops(self, members: list[Member], end: int) -> dict[int, int]:
        """Map the offset of each member to that of the next one, or of the directory.

        Raises:
            UnsafeArchiveError: If two members share bytes.
        """
        ordered = sorted(members, key=lambda member: member.start)
        starts = [member.start for member in ordered]
        stops = dict(zip(starts, [*starts, end][1:], strict=True))
        for member, stop in zip(ordered, [*starts, end][1:], strict=True):
            if member.start + _HEADER.size + len(member.raw) + member.packed > stop:
                self.refuse(f"has members that share bytes ({member.name!r})")
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

    def scan(self, lister: Lister | None = None) -> list[Entry]:  # noqa: ARG002
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
