"""Headers of tar files.

tarfile needs tens of microseconds for each. Most members are plain files and folders with one
header of numbers in octal; these are read here. All others, and all damage, tarfile reads.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from kappacore.staging.sources.base import native

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = tarfile.BLOCKSIZE
_LONGEST_PLAIN = 4 * _BLOCK  # bytes of attributes
_KEPT = _LONGEST_PLAIN + 3 * _BLOCK
_LONGEST = 1 << 20  # bytes of names and attributes; tarfile reads them into memory
# Name (100 bytes), mode, owner and group (8 each), size and time (12), checksum (8), type, name of
# a link (100), magic (8), names of owner and group (32 each), device (16), what precedes the name.
_HEADER = re.compile(
    rb"(?=([^\0]{0,100})).{100}([0-7]{6}[0-7 ])\0(?:[0-7]{6}[0-7 ]\0){2}([0-7]{11})[ \0]"
    rb"([0-7]{11})[ \0]([0-7]{6}[ \0]{2}|[0-7]{7}\0)([0\0\x35x]).{100}ustar(?:\x0000|  \0)"
    rb".{64}(?:\0{8}|[0-7]{6}[0-7 ]\0){2}([^\0]{0,155})",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(
    rb"([0-9]{1,4}) (?:mtime=([0-9]{1,12}(?:\.[0-9]{0,12})?)|path=([ -~]+)|"
    rb"(?:[ac]time|[ug]id|[ug]name)=[ -~]*)\n"
)
_GNU = b"ustar  \0"


class Member(NamedTuple):
    """What the headers say of a member; see :class:`tarfile.TarInfo`."""

    name: str
    size: int
    mtime: float
    mode: int
    type: bytes
    linkname: str = ""
    offset_data: int = 0
    sparse: list[tuple[int, int]] | None = None


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
        archive = tarfile.open(  # noqa: SIM115
            fileobj=given, mode="r:", encoding="utf-8", tarinfo=_Member
        )
        self._archive: Any = archive
        self._last = b""
        self._fields: tuple[bytes, ...] | None = None  # of the last header

    @property
    def offset(self) -> int:
        """Where the next header is."""
        return int(self._archive.offset)

    def next(self) -> Member | None:
        """Return the next member; None at what is not one."""
        archive = self._archive
        if archive.firstmember is None and not archive.pax_headers:
            member = self._plain(archive.offset)
            if member is not None:
                archive.offset = member.offset_data + _whole_blocks(member.size)
                return member
        found = archive.next()
        archive.members = []  # it would keep all
        return None if found is None else Member(
            native(found.name), found.size, found.mtime, found.mode, found.type,
            native(found.linkname), found.offset_data, found.sparse,
        )  # fmt: skip

    def _plain(self, offset: int) -> Member | None:
        """Return a plain member; None: tarfile should look."""
        # The byte before the header shows that the archive goes that far. Behind attributes, which
        # rarely take more than a block, another header follows.
        data = self.reader.look(offset - 1, 1 + 3 * _BLOCK)
        begin = min(offset, 1)
        header = data[begin : begin + _BLOCK]
        if header != self._last:  # those of attributes are often alike
            self._last, self._fields = header, _plain_header(header)
        fields = self._fields
        offset += _BLOCK
        attributes: dict[str, Any] | None = {}
        if fields and fields[-2] == tarfile.XHDTYPE:
            size = int(fields[2], 8)
            if size > _LONGEST_PLAIN:
                return None
            whole = _whole_blocks(size)
            begin += _BLOCK
            if whole > _BLOCK:
                data, begin = self.reader.look(offset, whole + _BLOCK), 0
            attributes = _plain_attributes(data[begin : begin + size])
            fields = _plain_header(data[begin + whole : begin + whole + _BLOCK])
            offset += whole + _BLOCK
        if not fields or attributes is None or fields[-2] == tarfile.XHDTYPE:
            return None
        raw, mode, octal, time, _, kind, prefix = fields
        name = raw.decode("utf-8", "surrogateescape")
        if prefix:
            name = prefix.decode("utf-8", "surrogateescape") + "/" + name
        size = int(octal, 8)
        if kind == tarfile.DIRTYPE:
            name = name.rstrip("/")
        if size if kind == tarfile.DIRTYPE else name.endswith("/"):
            return None
        mtime = attributes["mtime"] if "mtime" in attributes else int(time, 8)
        name = native(attributes.get("path", name))
        return Member(name, size, mtime, int(mode, 8), kind, "", offset)


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


def _plain_header(header: bytes) -> tuple[bytes, ...] | None:
    """Return the fields of a plain header, or of one with attributes; None if it is neither."""
    found = _HEADER.match(header)
    # Adler-32 has 1 + the sum of all bytes in its lower half, if that is below its modulus.
    if found is None or len(header) != _BLOCK or header.count(0) < _BLOCK // 2:
        return None
    total = zlib.adler32(header[156:], zlib.adler32(header[:148])) & 0xFFFF
    if total - 1 + 8 * ord(" ") != int(found[5].rstrip(b" \0"), 8):
        return None
    if header[257:265] == _GNU and found[7]:  # times, where others have a prefix
        return None
    return found.groups()


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
        begin = offset - self._start
        if 0 <= begin <= len(self._kept) - size:
            return self._kept[begin : begin + size]
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
