"""Moving the bytes of one file, or of a part of one."""

from __future__ import annotations

import os
import threading
import zlib
from typing import TYPE_CHECKING

from kappacore.errors import StagingError
from kappacore.staging.copying.digests import Sums, SumsOfContent, zeros
from kappacore.staging.copying.worker import NO_WAY
from kappacore.staging.sources.base import Content, Extent, Packed, Pieces
from kappacore.staging.sources.holes import parts_of
from kappacore.staging.sources.unpacking import BadStreamError, unpacked_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kappacore.staging.sources.base import Stream

_BUFFER = 1 << 20  # bytes
_RANGE = 1 << 23  # bytes for one call of copy_file_range
_local = threading.local()


class TooShortError(StagingError):
    """A file has fewer bytes than when it was listed."""


class DamagedError(StagingError):
    """A member of an archive does not unpack to what the archive declares."""


class CopyStrategy:
    """The ways of copying between two file systems, best first; a way that fails is not retried.

    copy_file_range shares the blocks, or leaves copying to the storage or the kernel; reading and
    writing always works, and is needed to compute CRCs and digests.

    Args:
        with_digest: Whether to compute digests.
    """

    def __init__(self, *, with_digest: bool = False) -> None:
        self.with_digest = with_digest
        self.ranges = hasattr(os, "copy_file_range")

    def copy(
        self,
        content: Content,
        target: int,
        offset: int = 0,
        *,
        with_crc: bool = False,
        moved: Callable[[int], None] = lambda _: None,
    ) -> Sums:
        """Copy content to a file, and return what was computed of its bytes.

        Args:
            content: The content.
            target: A descriptor of the file.
            offset: Where in the file it goes.
            with_crc: Whether to compute the CRC-32.
            moved: Called with the number of bytes after each step.

        Raises:
            TooShortError: If the source has fewer bytes.
            DamagedError: If it does not unpack to its size.
        """
        sums = SumsOfContent(with_crc=with_crc, with_digest=self.with_digest)
        if not (isinstance(content, Pieces) or (isinstance(content, Extent) and content.sparse)):
            self._copy(content, target, offset, sums, moved)
            return sums.value()
        for part, is_hole in parts_of(content):
            if is_hole:
                sums.update_zeros(part.size)
                moved(part.size)
            else:
                self._copy(part, target, offset, sums, moved)
            offset += part.size
        if os.fstat(target).st_size < offset:  # it ends with a hole
            os.ftruncate(target, offset)
        return sums.value()

    def _copy(
        self,
        content: Content,
        target: int,
        offset: int,
        sums: SumsOfContent,
        moved: Callable[[int], None],
    ) -> None:
        """Copy content without holes, and add it to the sums."""
        if isinstance(content, Extent) and not sums.wanted:
            done = self._copy_ranges(content, target, offset, moved)
            if done == content.size:
                return
            content = Extent(content.fd, content.offset + done, content.size - done)
            offset += done
        for block in blocks_of(content):
            sums.update(block)
            view = memoryview(block)
            while len(view):
                count = os.pwrite(target, view, offset)
                view = view[count:]
                offset += count
            moved(len(block))

    def _copy_ranges(
        self, source: Extent, target: int, offset: int, moved: Callable[[int], None]
    ) -> int:
        """Copy as far as copy_file_range goes, and return how many bytes that is."""
        done = 0
        while self.ranges and done < source.size:
            try:
                count = os.copy_file_range(
                    source.fd,
                    target,
                    min(_RANGE, source.size - done),
                    source.offset + done,
                    offset + done,
                )
            except OSError as error:
                if error.errno not in NO_WAY:
                    raise
                self.ranges = False
                break
            if not count:  # the end, or a file system that wrongly reports it
                break
            done += count
            moved(count)
        return done


def blocks_of(content: Content) -> Iterator[bytes | memoryview]:
    """Yield the blocks of content, unpacked; each is valid until the next."""
    if isinstance(content, Pieces):
        return _blocks_and_zeros(content)
    if not isinstance(content, Packed):
        return _blocks(content)
    return _inflated(content) if content.packing == "deflate" else _unpacked(content)


def _buffer() -> memoryview:
    """Return the buffer of this thread."""
    if not hasattr(_local, "buffer"):
        _local.buffer = memoryview(bytearray(_BUFFER))
    buffer: memoryview = _local.buffer
    return buffer


def _blocks(content: Extent | Stream) -> Iterator[memoryview]:
    """Yield the blocks of content that is stored as it is, each in this thread's buffer."""
    buffer = _buffer()
    done = 0
    while done < content.size:
        view = buffer[: content.size - done]
        if isinstance(content, Extent):
            count = os.preadv(content.fd, [view], content.offset + done)
        else:
            count = content.file.readinto(view)
        if not count:
            raise TooShortError("it ended before its size")
        yield view[:count]
        done += count


def _blocks_and_zeros(content: Pieces) -> Iterator[memoryview]:
    for part, is_hole in parts_of(content):
        yield from zeros(part.size) if is_hole else _blocks(part)


def _unpacked(content: Packed) -> Iterator[memoryview]:
    buffer = _buffer()
    # One byte more than declared is requested, to see that there is none; LZMA in zip files may
    # have no end of its own.
    most = content.size + (content.packing != "lzma")
    done = 0
    try:
        reader = unpacked_part(content.fd, content.offset, content.packed, content.packing)
        while done < most and (count := reader.readinto(buffer[: most - done])):
            done += count
            if done > content.size:
                raise DamagedError(f"it unpacks to more than the {content.size} bytes declared")
            yield buffer[:count]
    except (BadStreamError, EOFError) as error:
        raise DamagedError(str(error)) from error
    if done != content.size:
        raise DamagedError(f"it unpacks to {done} bytes, {content.size} are declared")


def _inflated(content: Packed) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(-15)
    read, unpacked = 0, 0
    pending, full = b"", False
    try:
        while not unpacker.eof:
            if not pending and not full:  # after a full block, more may follow without input
                size = min(_BUFFER // 4, content.packed - read)
                pending = os.pread(content.fd, size, content.offset + read) if size else b""
                if not pending:
                    raise DamagedError("its compressed bytes end too early")
                read += len(pending)
            # One byte more than declared is requested, to see that there is none.
            most = min(_BUFFER, content.size - unpacked + 1)
            block = unpacker.decompress(pending, most)
            pending, full = unpacker.unconsumed_tail, len(block) == most
            unpacked += len(block)
            if unpacked > content.size:
                raise DamagedError(f"it unpacks to more than the {content.size} bytes declared")
            if block:
                yield block
    except zlib.error as error:
        raise DamagedError(f"its compressed bytes are damaged ({error})") from error
    if unpacked != content.size:
        raise DamagedError(f"it unpacks to {unpacked} bytes, {content.size} are declared")
