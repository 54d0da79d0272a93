"""The directory of a zip file.

zipfile reads 20,000 members in half a second of many small steps. Nearly all directories have no
peculiarities; these are read here. Of any other one, zipfile says what it means or what is wrong.
"""

from __future__ import annotations

import calendar
import errno
import io
import os
import stat
import struct
import zipfile
import zlib
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from kappacore.staging.sources.base import native
from kappacore.staging.sources.zip_end import END, END64, LOCATOR64, find_end

if TYPE_CHECKING:
    from collections.abc import Iterator

UTF8 = 0x800  # the flag of names in UTF-8
_UNIX = 3
_DOS_FOLDER = 0x10  # an attribute
_ZIP64, _TIMES, _UNICODE_NAME = 1, 0x5455, 0x7075  # extra fields
_NEWEST = 63  # the version of the format that zipfile reads
_HEADER = struct.Struct("<4sBBBBHHHHIIIHHHHHII")
_TAIL = END64.size + LOCATOR64.size + END.size
_EXTRA = struct.Struct("<HH")
_LONG, _MANY = 0xFFFFFFFF, 0xFFFF  # values that stand elsewhere, in zip64


class Member(NamedTuple):
    """What the directory says of a member."""

    name: str  # as it was spelt where the archive was packed
    raw: bytes  # its name as it is stored
    start: int  # offset of its own header
    packed: int  # bytes in the archive
    size: int
    crc: int
    method: int  # number of its packing
    flags: int
    mode: int  # as in Unix: kind and permissions
    time_ns: int


class _PeculiarError(Exception):
    """Something that zipfile should look at."""


_PECULIAR = (_PeculiarError, struct.error, UnicodeDecodeError)


def read_directory(fd: int) -> tuple[list[Member], int]:
    """Return the members of a zip file, and the offset of its directory.

    Args:
        fd: A descriptor of the file.

    Raises:
        zipfile.BadZipFile: If it is damaged; also what else zipfile raises.
    """
    size = os.fstat(fd).st_size
    with suppress(*_PECULIAR):
        return _read_plain(fd, size)
    end = find_end(fd, size)
    if end is not None and end + END.size < size:  # there is a comment
        with suppress(*_PECULIAR):
            return _read_plain(fd, end + END.size, size)
    return _read_by_zipfile(fd, size if end is None else end + END.size)


def _read_by_zipfile(fd: int, size: int) -> tuple[list[Member], int]:
    with zipfile.ZipFile(io.BufferedReader(_Beginning(fd, size))) as archive:
        return [_member_of(info) for info in archive.infolist()], archive.start_dir


class _Beginning(io.RawIOBase):
    """So many bytes of a file."""

    def __init__(self, fd: int, size: int):
        self._fd = fd
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        at = offset + (0, self._at, self._size)[whence]
        if at < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = at
        return at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)[: max(0, self._size - self._at)]
        count = os.preadv(self._fd, [view], self._at)
        self._at += count
        return count


def _read_plain(fd: int, size: int, whole: int | None = None) -> tuple[list[Member], int]:
    """Read a directory without peculiarities.

    Args:
        fd: A descriptor of the file.
        size: Its bytes, but for a comment.
        whole: Its bytes.
    """
    comment = (size if whole is None else whole) - size
    tail = os.pread(fd, min(_TAIL, size), max(0, size - _TAIL))
    start, length, count = _place(tail, size, comment)
    data = os.pread(fd, length, start)
    while len(data) < length and (more := os.pread(fd, length - len(data), start + len(data))):
        data += more
    members = list(_members_in(data))
    if len(members) != count:
        raise _PeculiarError
    return members, start


def _place(tail: bytes, size: int, comment: int) -> tuple[int, int, int]:
    """Return where a directory is, how long it is and how many members it has.

    Args:
        tail: The last bytes of the file, but for its comment.
        size: Bytes of the file, but for its comment.
        comment: Bytes of the comment.
    """
    at = len(tail) - END.size
    magic, disk, first, here, count, length, start, said = END.unpack_from(tail, at)
    if magic != b"PK\5\6" or said != comment or disk or first or here != count:
        raise _PeculiarError
    stop = size - END.size
    at -= LOCATOR64.size
    if at >= 0 and tail[at : at + 4] == b"PK\6\7":
        _, disk, end64, disks = LOCATOR64.unpack_from(tail, at)
        stop -= LOCATOR64.size + END64.size
        magic, rest, _, _, *numbers = END64.unpack_from(tail, at - END64.size)
        other, first, here, count, length, start = numbers
        if (magic, rest, end64) != (b"PK\6\6", END64.size - 12, stop) or here != count:
            raise _PeculiarError
        if disk or other or first or disks != 1:
            raise _PeculiarError
    elif _MANY in (here, count) or _LONG in (length, start):
        raise _PeculiarError
    if start + length != stop:  # there is something before the archive
        raise _PeculiarError
    return start, length, count


def _members_in(data: bytes) -> Iterator[Member]:
    at, size = 0, _HEADER.size
    unpack, end = _HEADER.unpack_from, len(data)
    while at < end:
        (
            magic, _, system, version, _, flags, method, time, date, crc, packed, unpacked,
            name_size, extra_size, comment_size, disk, _, attributes, start,
        ) = unpack(data, at)  # fmt: skip
        at += size
        raw = data[at : at + name_size]
        at += name_size
        extra = data[at : at + extra_size]
        at += extra_size + comment_size
        if magic != b"PK\1\2" or disk or version > _NEWEST or at > end:
            raise _PeculiarError
        if _LONG in (packed, unpacked, start):
            raise _PeculiarError
        changed = _plain_time(extra) if extra else None
        mode = attributes >> 16
        if attributes & _DOS_FOLDER:
            mode = _mode_of(attributes, system, unpacked)
        yield Member(
            native(raw.decode("utf-8")) if flags & UTF8 else _old_name(raw, system),
            raw, start, packed, unpacked, crc, method, flags,
            mode,
            _dos_time(date, time) if changed is None else changed,
        )  # fmt: skip


def _plain_time(extra: bytes) -> int | None:
    """Return the time in extra fields that change nothing else."""
    found = None
    for tag, data in _extras(extra, strictly=True):
        if tag in (_ZIP64, _UNICODE_NAME):
            raise _PeculiarError
        if tag == _TIMES and found is None:
            found = _time_in(data)
    return found


def _member_of(info: zipfile.ZipInfo) -> Member:
    raw = info.orig_filename.encode("utf-8" if info.flag_bits & UTF8 else "cp437")
    times = (_time_in(data) for tag, data in _extras(info.extra) if tag == _TIMES)
    time = next((time for time in times if time is not None), None)
    return Member(
        _name_of(info, raw), raw, info.header_offset, info.compress_size, info.file_size, info.CRC,
        info.compress_type, info.flag_bits,
        _mode_of(info.external_attr, info.create_system, info.file_size),
        _time_of(info.date_time) if time is None else time,
    )  # fmt: skip


def _name_of(info: zipfile.ZipInfo, raw: bytes) -> str:
    """Return a name as it was spelt where the archive was packed.

    Without the UTF-8 flag, an extra field may hold the name in UTF-8.
    """
    if info.flag_bits & UTF8:
        return native(info.orig_filename)
    for tag, data in _extras(info.extra):
        if tag == _UNICODE_NAME and data[:5] == struct.pack("<BI", 1, zlib.crc32(raw)):
            return os.fsdecode(data[5:])
    return _old_name(raw, info.create_system)


def _old_name(raw: bytes, system: int) -> str:
    """Return a name without the UTF-8 flag.

    Archives packed on Unix hold the bytes of the name there, which others take as DOS's.
    """
    if raw.isascii():
        return raw.decode("ascii")
    return os.fsdecode(raw) if system == _UNIX else native(raw.decode("cp437"))


@lru_cache(1024)
def _mode_of(attributes: int, system: int, size: int) -> int:
    """Return kind and permissions; DOS and Windows mark a folder by an attribute, too."""
    mode = attributes >> 16
    if attributes & _DOS_FOLDER and not (size or system == _UNIX or stat.S_IFMT(mode)):
        return mode | stat.S_IFDIR
    return mode


def _extras(extra: bytes, *, strictly: bool = False) -> Iterator[tuple[int, bytes]]:
    while len(extra) >= _EXTRA.size:
        tag, size = _EXTRA.unpack_from(extra)
        if strictly and size > len(extra) - _EXTRA.size:
            raise _PeculiarError
        yield tag, extra[4 : 4 + size]
        extra = extra[4 + size :]


def _time_in(data: bytes) -> int | None:
    """Return the time of modification in ns of an extended timestamp, if it has one."""
    if len(data) >= 5 and data[0] & 1:
        return int.from_bytes(data[1:5], "little", signed=True) * 10**9
    return None


@lru_cache(1024)
def _dos_time(date: int, time: int) -> int:
    return _time_of(
        (
            (date >> 9) + 1980, (date >> 5) & 15, date & 31,
            time >> 11, (time >> 5) & 63, (time & 31) * 2,
        )
    )  # fmt: skip


def _time_of(date: tuple[int, int, int, int, int, int]) -> int:
    """Return a date as ns since 1970; 0 if it is none."""
    year, month, day, hour, minute, second = date
    try:
        return calendar.timegm((year, max(month, 1), max(day, 1), hour, minute, second)) * 10**9
    except ValueError:
        return 0
