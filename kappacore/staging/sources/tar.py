"""A tar file as a source, plain or compressed.

The headers of a plain one are read once; contents are then read at their offsets by any number of
threads. A compressed one is read twice from beginning to end: first to list it, so that names,
sizes and room are checked before anything is written; then to extract it.
"""

from __future__ import annotations

import tarfile
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from kappacore.errors import UnsafeArchiveError
from kappacore.staging.sources.archive_safety import Archive, ArchiveLimits, CleanNames
from kappacore.staging.sources.base import Entry, Extent, Pieces, Stream
from kappacore.staging.sources.tar_headers import Headers, Member
from kappacore.staging.sources.tar_links import Link, Links
from kappacore.staging.sources.unpacking import open_unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from kappacore.staging.sources.exclude import Exclusion

_LABEL = b"V"  # the type of a name for the whole archive
_LISTED = b"D"  # that of a folder with a list of what was in it, in incremental backups
_GOES_ON = b"M"  # that of a file which begins in another volume
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_QUICK = 1000  # members of a compressed file that are soon unpacked
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799  # seconds: the years 1 and 9999


class TarSource(Archive):
    """All members of a tar file: files, folders, and links to them, which are copied.

    Args:
        path: The archive.
        limits: The most it may contain.
        exclusion: What to leave out.
        packing: How it is compressed: ``"gz"``, ``"bz2"``, ``"xz"`` or ``"zst"``; None: it is not.
    """

    def __init__(
        self, path: Path, limits: ArchiveLimits, exclusion: Exclusion, packing: str | None
    ):
        self.kind = f"tar.{packing}" if packing else "tar"
        super().__init__(path, limits, exclusion)
        self.ordered = packing is not None
        self._names_in = CleanNames(path)
        self._places: dict[int, list[tuple[int, int]]] = {}  # of data in sparse members
        self._raw = path.open("rb", buffering=0)  # a header takes less than a buffer
        self._root = None if packing else self._raw.fileno()
        self.file: Any = open_unpacked(self._raw, packing) if packing else self._raw

    def _members(self) -> Iterator[Entry]:
        members: dict[str, Entry | Link] = {}
        linked = 0  # bytes that links and holes stand for
        for path, member in self._headers():
            try:
                found = self._entry(path, member, members)
            except UnsafeArchiveError:
                if not self._leaves_out(path):
                    raise
                continue
            if member.type == tarfile.LNKTYPE and isinstance(found, Entry):
                linked += found.size
                self.check_size(member.offset_data + linked, len(members))
            elif isinstance(found, Entry) and found.data is not None:
                linked += found.size - found.data
                self.check_size(member.offset_data + linked, len(members))
            before = members.pop(path, None)  # of two with one name the last counts
            if isinstance(before, Entry) and before.is_folder != _is_folder(found):
                self._refuse_member(path, "appears twice, once as a folder")
            members[path] = found
        self.file.seek(0)
        files = [entry for entry in members.values() if isinstance(entry, Entry)]
        if len(files) < len(members):
            for entry in Links(members, self._refuse_member, self._leaves_out).files():
                linked += max(0, entry.size)
                self.check_size(linked, len(files))
                files.append(entry)
        # In the order of their contents, so that these are read once.
        yield from sorted(files, key=lambda entry: entry.where or 0)

    def _headers(self) -> Iterator[tuple[str, Member]]:
        """Yield the members that are checked each for itself, with their clean paths."""
        count = 0
        headers = Headers(self.file, self.check_size, self.refuse)
        while (member := headers.next()) is not None:
            count += 1
            self.check_size(member.offset_data + member.size, count)
            if member.type == _LABEL:
                continue
            yield self._names_in.clean(member.name), member
        self._check_end(headers)

    def _names(self) -> Iterator[str]:
        found = (path for path, _ in self._headers())
        return islice(found, _QUICK) if self.ordered else found

    def _entry(self, path: str, member: Member, before: Mapping[str, Entry | Link]) -> Entry | Link:
        kind = member.type
        if kind not in _FILES or member.size < 0:
            self._check(member)
        if kind == tarfile.LNKTYPE:
            found = before.get(self._inside(member))
            if found is None or _is_folder(found):
                self._refuse_member(path, "is a link to no file before it")
            return found._replace(path=path) if isinstance(found, Entry) else found
        if kind in (tarfile.DIRTYPE, _LISTED):
            return Entry(path, -1, 0, self.mode)
        time = int(min(max(member.mtime, _EARLIEST), _LATEST) * 10**9)
        mode = self._permissions(member.mode, is_known=True)
        where = member.offset_data
        if member.sparse is not None:
            places = self._places[where] = self._places_in(member)
            data = sum(size for _, size in places)
            return Entry(path, member.size, time, mode, where=where, packing="sparse", data=data)
        entry = Entry(path, member.size, time, mode, where=where, root=self._root)
        return Link(member.linkname, entry) if kind == tarfile.SYMTYPE else entry

    def _inside(self, member: Member) -> str:
        """Return the clean path that a hard link leads to."""
        name = member.linkname
        if name.startswith("/") or ".." in name.split("/"):
            self._refuse_member(member.name, "is a link that leads out of the archive")
        return self._names_in.clean(name)

    def _places_in(self, member: Member) -> list[tuple[int, int]]:
        """Return where the data of a sparse member are in it, and how many bytes."""
        at = 0
        found = []
        for begin, size in member.sparse or ():
            if not size:  # tarfile takes what GNU's header has no use for as such
                continue
            if begin < at or size < 0:
                self._refuse_member(member.name, "has holes that overlap its data")
            at = begin + size
            found.append((begin, size))
        if at > member.size:
            self._refuse_member(member.name, "has data beyond its end")
        return found

    @contextmanager
    def open(self, entry: Entry) -> Iterator[Extent | Stream | Pieces]:
        stored = entry.size if entry.data is None else entry.data
        content: Extent | Stream
        if self.ordered:
            self.file.seek(entry.where)  # forward, which reads what lies between
            content = Stream(self.file, stored)
        else:
            content = Extent(self._raw.fileno(), entry.where, stored)
        if entry.packing is None:
            yield content
        else:
            yield Pieces(content, self._places[entry.where], entry.size)

    def close(self) -> None:
        self.file.close()
        self._raw.close()

    def _check(self, member: Member) -> None:
        """Refuse a member that is neither a plain file nor a folder nor a link."""
        known = (
            *_FILES, tarfile.GNUTYPE_SPARSE, tarfile.DIRTYPE, _LISTED, tarfile.LNKTYPE,
            tarfile.SYMTYPE,
        )  # fmt: skip
        if member.type == _GOES_ON:
            self._refuse_member(member.name, "is the rest of a file of another volume (tar -M)")
        if member.type not in known:
            self._refuse_member(member.name, "is not a plain file")
        if member.size < 0:
            self._refuse_member(member.name, "has a negative size")

    def _check_end(self, headers: Headers) -> None:
        """Check that the archive ends where tarfile stopped; it stops at damage, too."""
        reader, offset = headers.reader, headers.offset
        reader.seek(offset)
        first = True
        while block := reader.read(1 << 20):
            if block.strip(b"\0") or (first and len(block) < tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"neither a member nor the end follows byte {offset}")
            first = False
            self.check_size(reader.tell())
        if first:
            raise tarfile.ReadError("its end is missing")


def _is_folder(member: Entry | Link) -> bool:
    return isinstance(member, Entry) and member.is_folder
