"""The files of an arena: one namespace's values, in a form that every process can map.

``index`` begins with a page of 8-byte words, followed by one word per key (where in the data it
has its value; 0: absent) and one per key for claims. ``data-<number>`` holds the values, at
multiples of 64 bytes, each behind a prefix of its length and key; a word of the index is the place
of a prefix. The file is as long as the limit and takes memory only where something was written.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import uuid
from typing import TYPE_CHECKING

import xxhash

from kappacore.errors import StorageError
from kappacore.machine.folders import open_private
from kappacore.machine.system import NO_SPACE, boot_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kappacore.caching.backends.base import Buffer

log = logging.getLogger("kappacore.cache")

_MAGIC = b"KAPARENA"
_VERSION = 2
# Native byte order throughout: an arena is read by machines like the one that wrote it, and the
# word for the order does not match on others.
_ORDER = 0x01020304
_START = struct.Struct("=8sIIQQ")  # magic, version, order, length, digest of the namespace
HEADER = 4096
GENERATION, CURSOR, CAPACITY, FULL, OWNERS, BOOT = range(8, 14)  # words of the header
ALIGN = 64  # of values; the first one lies at 64
PREFIX = struct.Struct("=QQ")  # length and key, directly before the value
_WORD = struct.Struct("=Q")
_IOV_MAX = 512


def index_size(length: int) -> int:
    """Return the size of the index in bytes."""
    return HEADER + 16 * length


def data_size(capacity: int) -> int:
    """Return the size of the data in bytes; reading a prefix anywhere in the limit stays inside."""
    return capacity + 2 * ALIGN


def read_length(folder: Path) -> int | None:
    """Return the number of keys of an arena; None if there is none that could be read.

    Its values may be gone without it, such as by a tidying of temporary files.
    """
    try:
        fd = open_private(folder / "index", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        header = os.pread(fd, HEADER, 0)
        if len(header) < HEADER:
            return None
        length: int = _START.unpack_from(header)[3]
        (generation,) = _WORD.unpack_from(header, 8 * GENERATION)
        right = header.startswith(_start(folder, length))
        whole = right and os.fstat(fd).st_size == index_size(length)
        return length if whole and data_path(folder, generation).exists() else None
    finally:
        os.close(fd)


def open_index(folder: Path, length: int, capacity: int) -> mmap.mmap:
    """Map the index, its lock being held; make a new arena where there is none to be read.

    Raises:
        StorageError: if there is no room for it.
    """
    path = folder / "index"
    if read_length(folder) != length:
        if path.exists():
            log.info("The shared cache in %s cannot be read; it is made anew.", folder)
        _make_index(folder, length, capacity)
    fd = open_private(path, os.O_RDWR)
    try:
        return mmap.mmap(fd, index_size(length))
    finally:
        os.close(fd)


def _make_index(folder: Path, length: int, capacity: int) -> None:
    temporary = folder / f"index.{uuid.uuid4().hex}"
    try:
        words = {GENERATION: make_data(folder, capacity), CURSOR: ALIGN, CAPACITY: capacity}
        fd = open_private(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            # Room that is not there is found out here, not by a bus error at the first touch.
            os.posix_fallocate(fd, 0, index_size(length))
            os.pwrite(fd, _start(folder, length), 0)
            for word, value in words.items():
                os.pwrite(fd, _WORD.pack(value), 8 * word)
        finally:
            os.close(fd)
        temporary.replace(folder / "index")  # whole, or not there
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"No room for the index of a shared cache in {folder} ({index_size(length)} bytes for "
            f"{length} samples): {error}. Free memory or disk space there; in a container, raise "
            f"--shm-size."
        ) from error


def _start(folder: Path, length: int) -> bytes:
    digest = xxhash.xxh3_64_intdigest(folder.name.encode())
    return _START.pack(_MAGIC, _VERSION, _ORDER, length, digest)


def data_path(folder: Path, generation: int) -> Path:
    """Return where the values of one generation lie."""
    return folder / f"data-{generation:016x}"


def make_data(folder: Path, capacity: int) -> int:
    """Make an empty data file and return its generation, a number that no other one has."""
    generation = uuid.uuid4().int >> 64
    fd = open_private(data_path(folder, generation), os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.ftruncate(fd, data_size(capacity))
    finally:
        os.close(fd)
    return generation


def remove_strays(folder: Path, generation: int) -> None:
    """Remove what a process that was killed, or that clears, has left; the lock must be held."""
    current = data_path(folder, generation).name
    for name in os.listdir(folder):  # noqa: PTH208 - names suffice
        if name.startswith(("data-", "index.")) and name != current:
            (folder / name).unlink(missing_ok=True)


def write_value(fd: int, place: int, key: int, size: int, value: Sequence[Buffer]) -> bool:
    """Write a prefix and its value; False if the memory or disk has no room left."""
    # By system call, not through a mapping: it reports missing room instead of a bus error.
    pieces = [memoryview(piece).cast("B") for piece in (PREFIX.pack(size, key), *value)]
    try:
        while pieces:
            done = os.pwritev(fd, pieces[:_IOV_MAX], place)
            place += done
            while pieces and done >= len(pieces[0]):
                done -= len(pieces.pop(0))
            if done:
                pieces[0] = pieces[0][done:]
    except OSError as error:
        if error.errno in NO_SPACE:
            return False
        raise
    return True


def boot() -> int:
    """Return a digest of this boot's identifier."""
    return xxhash.xxh3_64_intdigest(boot_id().encode())
