"""Moving the bytes of one file, or of a part of one."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import zlib
from typing import TYPE_CHECKING, NamedTuple

from kappacore.errors import StagingError
from kappacore.staging.copying.digests import ContentDigest
from kappacore.staging.sources.base import Deflated, Extent, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DamagedError", "CopyStrategy", "Sums", "TooShortError", "copy_summed", "write_all"]

_FICLONE = 0x40049409
_BUFFER = 1 << 20
_MOST = 1 << 30  # bytes for one call of copy_file_range
# What says that a way of copying does not exist between these two files.
_NO_WAY = frozenset(
    {
        errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM,
        errno.EBADF, errno.ETXTBSY,
    }
)  # fmt: skip
_local = threading.local()


class TooShortError(StagingError):
    """A file has fewer bytes than it was listed with."""


class DamagedError(StagingError):
    """A member of an archive does not unpack to what the archive says."""


class Sums(NamedTuple):
    """What was computed of the bytes on their way."""

    crc: int | None
    digest: bytes | None


class CopyStrategy:
    """The ways of copying between two file systems, the best first: a way that fails is left out.

    FICLONE shares the blocks; copy_file_range leaves it to the kernel or the storage; reading and
    writing always works.
    """

    def __init__(self) -> None:
        self.clones = True
        self.ranges = hasattr(os, "copy_file_range")

    def copy(
        self, source: Extent, target: int, at: int, moved: Callable[[int], None] | None = None
    ) -> None:
        """Copy an extent to ``target``, a descriptor, at offset ``at``.

        Raises:
            TooShortError: if the source ends before it.
        """
        if self.clones and source.offset == at == 0 and source.size:
            try:
                fcntl.ioctl(target, _FICLONE, source.fd)
            except OSError as error:
                if error.errno not in _NO_WAY:
                    raise
                self.clones = False
            else:
                if os.fstat(target).st_size != source.size:
                    raise TooShortError("it has another size than when it was listed")
                if moved is not None:
                    moved(source.size)
                return
        done = self._copy_ranges(source, target, at, moved) if self.ranges else 0
        buffer = _buffer() if done < source.size else None
        while buffer is not None and done < source.size:
            view = buffer[: min(len(buffer), source.size - done)]
            count = os.preadv(source.fd, [view], source.offset + done)
            if not count:
                raise TooShortError("it ended before its size")
            _write_at(target, view[:count], at + done)
            done += count
            if moved is not None:
                moved(count)

    def _copy_ranges(
        self, source: Extent, target: int, at: int, moved: Callable[[int], None] | None
    ) -> int:
        """Copy as far as copy_file_range goes, and return how far that is."""
        done = 0
        most = _MOST if moved is None else _BUFFER * 8
        while done < source.size:
            try:
                count = os.copy_file_range(
                    source.fd,
                    target,
                    min(most, source.size - done),
                    source.offset + done,
                    at + done,
                )
            except OSError as error:
                if error.errno not in _NO_WAY:
                    raise
                self.ranges = False
                return done
            if not count:  # the end, or a file system that only says so
                return done
            done += count
            if moved is not None:
                moved(count)
        return done


def copy_summed(
    content: Extent | Deflated | Stream,
    target: int,
    at: int,
    *,
    with_crc: bool,
    with_digest: bool,
    moved: Callable[[int], None] | None = None,
) -> Sums:
    """Copy content to ``target`` at offset ``at`` and return what was computed of its bytes.

    Raises:
        TooShortError: if the source ends before it.
        DamagedError: if it does not unpack to its size.
    """
    crc = 0
    digest = ContentDigest() if with_digest else None
    for block in _blocks(content):
        if with_crc:
            crc = zlib.crc32(block, crc)
        if digest is not None:
            digest.update(block)
        _write_at(target, block, at)
        at += len(block)
        if moved is not None:
            moved(len(block))
    return Sums(crc if with_crc else None, digest.value() if digest is not None else None)


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data`` to the end of a file."""
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]


def _blocks(content: Extent | Deflated | Stream) -> Iterator[memoryview | bytes]:
    if isinstance(content, Deflated):
        yield from _inflated(content)
        return
    buffer = _buffer()
    done = 0
    while done < content.size:
        view = buffer[: min(len(buffer), content.size - done)]
        if isinstance(content, Extent):
            count = os.preadv(content.fd, [view], content.offset + done)
        else:
            count = content.file.readinto(view)
        if not count:
            raise TooShortError("it ended before its size")
        yield view[:count]
        done += count


def _inflated(content: Deflated) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(-15)
    read, given = 0, 0
    pending, full = b"", False
    try:
        while not unpacker.eof:
            if not pending and not full:  # when full, it may have more to give as it is
                size = min(_BUFFER // 4, content.packed - read)
                pending = os.pread(content.fd, size, content.offset + read) if size else b""
                if not pending:
                    raise DamagedError("its compressed bytes end too early")
                read += len(pending)
            # One byte more than is declared is asked for, to see that there is none.
            most = min(_BUFFER, content.size - given + 1)
            block = unpacker.decompress(pending, most)
            pending, full = unpacker.unconsumed_tail, len(block) == most
            given += len(block)
            if given > content.size:
                raise DamagedError(f"it unpacks to more than the {content.size} bytes declared")
            if block:
                yield block
    except zlib.error as error:
        raise DamagedError(f"its compressed bytes are damaged ({error})") from error
    if given != content.size:
        raise DamagedError(f"it unpacks to {given} bytes, declared are {content.size}")


def _write_at(fd: int, data: memoryview | bytes, at: int) -> None:
    view = memoryview(data)
    while len(view):
        count = os.pwrite(fd, view, at)
        view = view[count:]
        at += count


def _buffer() -> memoryview:
    """Return this thread's buffer."""
    if not hasattr(_local, "buffer"):
        _local.buffer = memoryview(bytearray(_BUFFER))
    buffer: memoryview = _local.buffer
    return buffer
