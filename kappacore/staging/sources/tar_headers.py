"""Headers of tar files.

tarfile needs tens of microseconds for each. Most members are plain files and folders with one
header of numbers in octal; these are read here. All others, and all damage, tarfile reads.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

from kappacore.staging.sources.base import native

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = tarfile.BLOCKSIZE
_LONGEST_PLAIN = 4 * _BLOCK  # bytes of attributes
_KEPT = _LONGEST_PLAIN + 3 * _BLOCK
_LONGEST = 1 << 20  # bytes of names and attributes; tarfile reads them into memory
# Mode, owner and group (8 bytes each), size and time (12), checksum (8), and type.
_NUMBERS = re.compile(
    rb"([0-7]{6}[0-7 ]\0)(?:[0-7]{6}[0-7 ]\0){2}([0-7]{11}[ \0])([0-7]{11}[ \0])"
    rb"([0-7]{6}[ \0]{2}|[0-7]{7}\0)([0\0\x35x])"
)
_DEVICE = re.compile(rb"(?:\0{8}|[0-7]{6}[0-7 ]\0){2}")
_ATTRIBUTE = re.compile(
    rb"([0-9]{1,4}) (?:mtime=([0-9]{1,12}(?:\.[0-9]{0,12})?)|path=([ -~]+)|"
    rb"(?:[ac]time|[ug]id|[ug]name)=[ -~]*)\n"
)
_GNU = b"ustar  \0"
_MAGIC = (b"ustar\x0000", _GNU)
_PREFIX = slice(345, 500)  # the beginning of a long name


class Headers:
    """Reads the headers of a tar file one after another.

    Args:
        file: The file, unpacked.
        check_size: Called with the number of bytes that have to be read.
        refuse: Called with what is wrong with a header that is too long; it raises.
    """

    def __init__(self, file: Any, check_size: Callable[[int], None], refuse: Callable[[str], None]):
        self.reader = _Reader(file, check_size, refuse)
        given = cast("IO[bytes]", self.reader)
        self._archive = tarfile.open(  # noqa: SIM115
            fileobj=given, mode="r:", encoding="utf-8", tarinfo=_Member
        )

    @property
    def offset(self) -> int:
        """Where the next header is."""
        return int(cast("Any", self._archive).offset)

    def next(self) -> tarfile.TarInfo | None:
        """Return the next member; None at what is not one."""
        member = self._next()
        if member is not None:
            member.name, member.linkname = native(member.name), native(member.linkname)
        return member

    def _next(self) -> tarfile.TarInfo | None:
        archive: Any = self._archive
        if archive.firstmember is None and not archive.pax_headers:
            offset = archive.offset
            found = self._plain(offset)
            if found is not None:
                member, begin = found
                member.offset, member.offset_data = offset, begin
                archive.offset = begin + _whole_blocks(member.size)
                return member
        found_by_it = cast("tarfile.TarInfo | None", archive.next())
        archive.members = []  # it would keep all
        return found_by_it

    def _plain(self, offset: int) -> tuple[tarfile.TarInfo, int] | None:
        """Return a plain member, and where its content begins; None: tarfile should look."""
        # The byte before the header shows that the archive goes that far.
        data = self.reader.look(offset - 1, 1 + _BLOCK)[1:]
        offset += _BLOCK
        member = _plain_member(data)
        if member is None or member.type != tarfile.XHDTYPE:
            return None if member is None else (member, offset)
        if member.size > _LONGEST_PLAIN:
            return None
        size = _whole_blocks(member.size)
        data = self.reader.look(offset, size + _BLOCK)
        attributes = _plain_attributes(data[: member.size])
        member = _plain_member(data[size:])
        if attributes is None or member is None or member.type == tarfile.XHDTYPE:
            return None
        if "mtime" in attributes:
            member.mtime = attributes["mtime"]
        member.name = attributes.get("path", member.name)
        return member, offset + size + _BLOCK


def _whole_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _plain_attributes(data: bytes) -> dict[str, Any] | None:
    """Return the attributes of a pax header that concern us; None if tarfile should look at it."""
    found: dict[str, Any] = {}
    at = 0
    while at < len(data):
        record = _ATTRIBUTE.match(data, at)
        if record is None or record.end() - at != int(record[1]):
            return None
        at = record.end()
        if record[2]:
            found["mtime"] = float(record[2])
        elif record[3]:
            found["path"] = record[3].decode("ascii").rstrip("/")
    return found


def _plain_member(header: bytes) -> tarfile.TarInfo | None:
    """Return the member of a plain header, or of one with attributes; None if it is neither."""
    found = _NUMBERS.match(header, 100)
    if found is None or len(header) != _BLOCK or header[257:265] not in _MAGIC:
        return None
    mode, size, time, checksum, kind = found.groups()
    # Each of the halves has a sum below the modulus of Adler-32, whose lower half is 1 + the sum.
    total = (zlib.adler32(header[:256]) & 0xFFFF) + (zlib.adler32(header[256:]) & 0xFFFF) - 2
    if total - sum(header[148:156]) + 8 * ord(" ") != int(checksum.rstrip(b" \0"), 8):
        return None
    if not _DEVICE.match(header, 329):
        return None
    if header[257:265] == _GNU and header[345]:
        return None
    name = header[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if prefix := header[_PREFIX].partition(b"\0")[0]:
        name = prefix.decode("utf-8", "surrogateescape") + "/" + name
    is_folder = kind == tarfile.DIRTYPE
    member = tarfile.TarInfo(name.rstrip("/") if is_folder else name)
    member.size = int(size[:11], 8)
    if member.size if is_folder else name.endswith("/"):
        return None
    member.mode = int(mode[:7], 8)
    member.mtime = int(time[:11], 8)
    member.type = kind
    return member


class _Member(tarfile.TarInfo):
    """A member, also of an archive by GNU's tar that has times where others have a prefix."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        found = super().frombuf(buf, encoding, errors)
        if buf[257:265] == _GNU and buf[345] and found.type not in tarfile.GNU_TYPES:
            name = bytes(buf[:100]).partition(b"\0")[0].decode(encoding, errors)
            found.name = name.rstrip("/") if found.isdir() else name
        return found


class _Reader:
    """The file that tarfile reads headers from, which must not make it read a bomb.

    It goes back by a few headers, which compressed files cannot do.
    """

    def __init__(self, file: Any, check_size: Callable[[int], None], refuse: Callable[[str], None]):
        self._file = file
        self._check_size = check_size
        self._refuse = refuse
        self._at = 0
        self._kept = b""  # what was read last from the file
        self._start = 0  # its offset

    def look(self, offset: int, size: int) -> bytes:
        """Return what is at an offset; it may be read once more."""
        self.seek(max(0, offset))
        data = self.read(size)
        self._at -= len(data)
        return data

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LONGEST:
            self._refuse(f"has a header of {size} bytes")
        data = b""
        if self._at >= self._start:
            begin = self._at - self._start
            data = self._kept[begin : begin + size]
        if len(data) < size:
            at = self._at + len(data)
            if at != self._start + len(self._kept):
                self._kept, self._start = b"", at
                self._file.seek(at)
            more = self._file.read(size - len(data))
            kept = self._kept + more
            self._kept = kept[-_KEPT:]
            self._start += len(kept) - len(self._kept)
            data += more
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (self._at if whence == io.SEEK_CUR else 0)
        self._check_size(self._at)
        return self._at

    def tell(self) -> int:
        return self._at
