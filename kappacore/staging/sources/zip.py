"""A zip file as a source, and a folder that contains only zip files.

The directory is read once; contents are then read at their offsets by any number of threads.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from kappacore.errors import StagingError
from kappacore.staging.sources.archive_safety import Archive, ArchiveLimits, MemberNames
from kappacore.staging.sources.base import (
    Entry,
    Extent,
    Listing,
    Packed,
    Source,
    visible_names,
)
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
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _members(self) -> Iterator[Entry]:
        members, end = read_directory(self.fd)
        self.check_size(sum(member.size for member in members), len(members))
        stops = self._stops(members, end)
        # By mode, method and flags, of files: permissions and packing.
        known: dict[tuple[int, int, int], tuple[int, str | None]] = {}
        for member in members:
            name, raw, start, packed, size, crc, method, flags, mode, time = member
            seen = known.get((mode, method, flags))
            if (
                seen is None
                or name[-1:] == "/"
                or (packed != size and not method)
                or self._exclusion
            ):
                if self._leaves_out(name):
                    continue
                if self._is_folder(member):
                    yield Entry(name, -1, 0, self.mode)
                    continue
                seen = self._permissions(mode, is_known=mode != 0), _PACKINGS[method]
                if seen[1] is not None:
                    check_unpacker(seen[1], self.path)
                known[mode, method, flags] = seen
            permissions, packing = seen
            where = start, stops[start], packed, raw, packing == "deflate"  # as workers need it
            yield Entry(name, size, time, permissions, crc, where, packing, None, self.fd)

    @contextmanager
    def open(self, entry: Entry) -> Iterator[Extent | Packed]:
        at, stop, packed, name, _ = entry.where
        header = os.pread(self.fd, _HEADER.size + len(name), at)
        try:
            magic, name_size, extra_size = _HEADER.unpack_from(header)
        except struct.error:
            magic, name_size, extra_size = b"", 0, 0
        start = at + _HEADER.size + name_size + extra_size
        if (magic, name_size, header[_HEADER.size :]) != (b"PK\3\4", len(name), name):
            self._refuse_member(entry.path, "has the header of another member")
        if start + packed > stop:
            self._refuse_member(entry.path, "overlaps the next one")
        if entry.packing is not None:
            yield Packed(self.fd, start, packed, entry.size, entry.packing)
        else:
            yield Extent(self.fd, start, entry.size)

    def close(self) -> None:
        os.close(self.fd)

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
        archives = [
            ZipSource(file, limits, exclusion.within(file.name[: -len(".zip")])) for file in zips
        ]
        self._zips = {archive.fd: archive for archive in archives}

    def scan(self, lister: Lister | None = None) -> Listing:  # noqa: ARG002
        names = MemberNames(self.path, similar=self._limits.similar_names)
        folders, blocks = {}, []
        for archive in self._zips.values():
            top = names.add(archive.path.name[: -len(".zip")], is_folder=False)
            if self._exclusion.names(top):
                continue
            found = archive.scan()
            folders[top] = archive.mode
            folders.update((f"{top}/{path}", mode) for path, mode in found.folders.items())
            for block in found.blocks:
                folder = f"{top}/{block.folder}" if block.folder else top
                blocks.append(replace(block, folder=folder))
        return Listing(folders, blocks)

    def outline(self, levels: int) -> Iterator[str]:  # noqa: ARG002 - the top shows it
        names = (archive.path.name[: -len(".zip")] for archive in self._zips.values())
        return (name for name in names if not self._exclusion.names(name))

    def open(self, entry: Entry) -> AbstractContextManager[Extent | Packed]:
        return self._zips[cast("int", entry.root)].open(entry)

    def changes(self, listing: Listing) -> list[str]:
        known = {archive.path.name for archive in self._zips.values()}
        added = [name for name in visible_names(self.path) if name not in known]
        return [f"'{self.path / name}' was added" for name in added] + [
            change for archive in self._zips.values() for change in archive.changes(listing)
        ]

    def close(self) -> None:
        for archive in self._zips.values():
            archive.close()
