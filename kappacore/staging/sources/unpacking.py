"""Reading what is compressed by gzip, bzip2, xz, LZMA or zstd, with bounded memory."""

from __future__ import annotations

import importlib
import io
import os
import queue
import struct
import sys
import threading
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from kappacore.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_BLOCK = 1 << 17  # bytes read at a time
_UNPACKED_BLOCK = 1 << 20  # bytes that a whole file is unpacked to at a time
_AHEAD = 4  # blocks that are unpacked ahead
_AHEAD_AFTER = 1 << 22  # bytes after which a thread unpacks ahead
_MEMORY = 1 << 29  # bytes that an unpacker may take; what declares to need more is refused
_LZMA_HEADER = struct.Struct("<2xHBL")  # of a member of a zip file: size, lc/lp/pb, dictionary
_MODULES = {"bz2": "bz2", "xz": "lzma", "lzma": "lzma"}


class BadStreamError(ValueError):
    """Compressed bytes that cannot be unpacked."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Input(Protocol):
    def read(self, size: int, /) -> bytes: ...


def check_unpacker(packing: str, path: os.PathLike[str]) -> None:
    """Raise MissingDependencyError if this Python cannot unpack something.

    Args:
        packing: ``"gz"``, ``"bz2"``, ``"xz"``, ``"lzma"`` or ``"zst"``.
        path: What is to be unpacked, for the error.
    """
    if packing == "zst":
        _zstd(path)
    elif packing in _MODULES:
        try:
            importlib.import_module(_MODULES[packing])
        except ImportError as error:
            raise MissingDependencyError(
                f"'{os.fspath(path)}' is compressed by {packing}, and this Python was built "
                f"without the module {_MODULES[packing]}. Use another Python, or pack it again as "
                f"zip or tar."
            ) from error


def open_unpacked(raw: BinaryIO, packing: str) -> Any:
    """Return the unpacked content of a whole file, for reading forwards.

    Args:
        raw: The file. Seeking backwards in the content begins anew.
        packing: ``"gz"``, ``"bz2"``, ``"xz"`` or ``"zst"``.
    """
    return _Unpacked(raw, packing, ahead=True)


def unpacked_part(fd: int, offset: int, size: int, packing: str) -> io.RawIOBase:
    """Return the unpacked content of a part of a file, such as a member of a zip file.

    Args:
        fd: A descriptor of the file.
        offset: Where the part begins.
        size: Its bytes.
        packing: ``"bz2"``, ``"lzma"`` (as in zip files) or ``"zst"``.
    """
    return _Unpacked(_Part(fd, offset, size), packing)


class _Part:
    """A part of a file, read by its descriptor, which other threads use, too."""

    def __init__(self, fd: int, offset: int, size: int):
        self._fd = fd
        self._start = self._at = offset
        self._end = offset + size

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int) -> None:
        self._at = self._start + offset


class _Unpacked(io.RawIOBase):
    """The content of one or more compressed streams, one after another.

    Args:
        raw: Where they are.
        packing: How they are compressed.
        ahead: Whether more may be unpacked than is asked for: a thread does, once this is long.
    """

    def __init__(self, raw: Any, packing: str, *, ahead: bool = False):
        self._raw = raw
        self._packing = packing
        self._block = memoryview(b"")  # what is unpacked and not read yet
        self._with_ahead = ahead
        self._ahead: _Ahead | None = None
        self._begin()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET:
            offset += self._at  # the end is not known
        if offset < self._at:
            self._begin()
        while self._at < offset and (block := self._next(offset - self._at)):
            self._at += len(block)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Return so many bytes; fewer only at the end."""
        if size < 0:
            return self.readall() or b""
        parts = []
        while size and (block := self._next(size)):
            parts.append(block)
            size -= len(block)
            self._at += len(block)
        return b"".join(parts)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        block = self._next(len(view))
        view[: len(block)] = block
        self._at += len(block)
        return len(block)

    def close(self) -> None:
        self._stop()
        super().close()

    def _next(self, most: int) -> memoryview:
        """Take at most so many bytes of what is next; none at the end."""
        if not self._block and most:
            if self._ahead is None and self._with_ahead and self._at > _AHEAD_AFTER:
                self._ahead = _Ahead(self._unpack)
            unpack = self._unpack if self._ahead is None else self._ahead.read
            self._block = memoryview(unpack(_UNPACKED_BLOCK if self._with_ahead else most))
        block = self._block[:most]
        self._block = self._block[most:]
        return block

    def _unpack(self, most: int) -> bytes:
        with _errors_explained():
            return self._read(most)

    def _begin(self) -> None:
        self._stop()
        self._raw.seek(0)
        self._at = 0
        self._block = memoryview(b"")
        with _errors_explained():
            self._read: Callable[[int], bytes] = _reader(self._raw, self._packing)

    def _stop(self) -> None:
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None


class _Ahead:
    """A thread that reads ahead.

    Args:
        read: Returns the next bytes, at most so many; none at the end.
    """

    def __init__(self, read: Callable[[int], bytes]):
        self._blocks: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._stopped = False
        self._thread = threading.Thread(
            target=self._run, args=(read,), name="kappacore-unpack", daemon=True
        )
        self._thread.start()

    def read(self, _: int) -> bytes:
        """Return the next block; none at the end."""
        block = self._blocks.get()
        if not block or isinstance(block, BaseException):
            self._blocks.put(block)  # so it stays
        if isinstance(block, BaseException):
            raise block
        return block

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        while not self._blocks.empty():
            self._blocks.get()
        self._thread.join()

    def _run(self, read: Callable[[int], bytes]) -> None:
        try:
            block = b"first"
            while block and not self._stopped:
                block = read(_UNPACKED_BLOCK)
                self._blocks.put(block)
        except BaseException as error:
            self._blocks.put(error)


class _Inflater:
    """Unpacks one gzip stream, and checks its length and CRC."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS + 16)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def needs_input(self) -> bool:
        return not (self._inflater.unconsumed_tail or self._full)

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        block = self._inflater.decompress(self._inflater.unconsumed_tail + data, max_length)
        self._full = len(block) == max_length  # there may be more without input
        return block


@contextmanager
def _errors_explained() -> Iterator[None]:
    """Turn the errors of the libraries, each of which has its own, into one."""
    try:
        yield
    except (EOFError, MemoryError, MissingDependencyError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # bz2's have no number
            raise
        raise BadStreamError(f"its compressed bytes are damaged ({error})") from error


def _reader(raw: _Input, packing: str) -> Callable[[int], bytes]:
    """Return a function that returns the next bytes, at most so many, and none at the end."""
    if packing == "gz":
        return _streams(raw, _Inflater, padding=b"\0")
    if packing == "zst":
        module = _zstd(None)
        if module.__name__ == "zstandard":
            unpacker = module.ZstdDecompressor(max_window_size=_MEMORY)
            stream = unpacker.stream_reader(raw, read_size=_BLOCK, read_across_frames=True)
            read: Callable[[int], bytes] = stream.read
            return read
        option = {module.DecompressionParameter.window_log_max: _MEMORY.bit_length() - 1}
        return _streams(raw, lambda: module.ZstdDecompressor(options=option))
    if packing == "bz2":
        import bz2

        return _streams(raw, bz2.BZ2Decompressor)
    import lzma

    if packing == "xz":
        return _streams(raw, lambda: lzma.LZMADecompressor(memlimit=_MEMORY), padding=b"\0")
    header = raw.read(_LZMA_HEADER.size)
    if len(header) < _LZMA_HEADER.size:
        raise EOFError("its compressed bytes end too early")
    size, props, dictionary = _LZMA_HEADER.unpack(header)
    if size != 5 or dictionary > _MEMORY or props >= 9 * 5 * 5:
        raise ValueError("an LZMA header that is damaged, or asks for too much memory")
    options = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": dictionary,
        "lc": props % 9,
        "lp": props // 9 % 5,
        "pb": props // 45,
    }
    return _streams(raw, lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[options]))


def _streams(
    raw: _Input, make: Callable[[], _Decompressor], padding: bytes = b""
) -> Callable[[int], bytes]:
    """Return a function that returns the next bytes of what streams, one after another, hold."""
    unpacker = make()

    def read(most: int) -> bytes:
        nonlocal unpacker
        while True:
            data = b""
            if unpacker.eof:
                data = (unpacker.unused_data or raw.read(_BLOCK)).lstrip(padding)
                while not data:
                    if not (more := raw.read(_BLOCK)):
                        return b""
                    data = more.lstrip(padding)
                unpacker = make()
            elif unpacker.needs_input and not (data := raw.read(_BLOCK)):
                raise EOFError("its compressed bytes end too early")
            if block := unpacker.decompress(data, most):
                return block

    return read


def _zstd(path: os.PathLike[str] | None) -> Any:
    """Return the module that unpacks zstd."""
    name = "compression.zstd" if sys.version_info >= (3, 14) else "zstandard"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f"'{os.fspath(path)}'" if path else "this"
        raise MissingDependencyError(
            f"{what} is compressed by zstd, which needs another package: pip install "
            f"'kappacore[zstd]' (Python 3.14 has it)."
        ) from error
