"""Reading what is compressed by gzip, bzip2, xz, LZMA or zstd, with bounded memory."""

from __future__ import annotations

import gzip
import importlib
import io
import os
import struct
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from kappacore.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_BLOCK = 1 << 17  # bytes read at a time
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
    if packing == "gz":
        return gzip.GzipFile(fileobj=raw)
    return io.BufferedReader(_Unpacked(raw, packing), _BLOCK)


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
    """The content of one or more compressed streams, one after another."""

    def __init__(self, raw: Any, packing: str):
        self._raw = raw
        self._packing = packing
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
        rest = bytearray(_BLOCK)
        while self._at < offset:
            if not self.readinto(memoryview(rest)[: offset - self._at]):
                break
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        with _errors_explained():
            count = self._read(view)
        self._at += count
        return count

    def _begin(self) -> None:
        self._raw.seek(0)
        self._at = 0
        with _errors_explained():
            self._read: Callable[[memoryview], int] = _reader(self._raw, self._packing)


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


def _reader(raw: _Input, packing: str) -> Callable[[memoryview], int]:
    """Return a function that fills a buffer, and returns 0 at the end."""
    if packing == "zst":
        module = _zstd(None)
        if module.__name__ == "zstandard":
            unpacker = module.ZstdDecompressor(max_window_size=_MEMORY)
            stream = unpacker.stream_reader(raw, read_size=_BLOCK, read_across_frames=True)
            readinto: Callable[[memoryview], int] = stream.readinto
            return readinto
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
) -> Callable[[memoryview], int]:
    """Return a function that fills a buffer with what streams, one after another, unpack to."""
    unpacker = make()

    def read(buffer: memoryview) -> int:
        nonlocal unpacker
        while len(buffer):
            data = b""
            if unpacker.eof:
                data = (unpacker.unused_data or raw.read(_BLOCK)).lstrip(padding)
                while not data:
                    if not (more := raw.read(_BLOCK)):
                        return 0
                    data = more.lstrip(padding)
                unpacker = make()
            elif unpacker.needs_input and not (data := raw.read(_BLOCK)):
                raise EOFError("its compressed bytes end too early")
            block = unpacker.decompress(data, len(buffer))
            if block:
                buffer[: len(block)] = block
                return len(block)
        return 0

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
