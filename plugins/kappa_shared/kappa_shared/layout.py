"""The files of an arena: one namespace's values, in a form that every process can map.

``index`` begins with a page of 8-byte words, followed by one word per key for its value and one per
key for claims. ``data-<number>`` holds the values of one generation, at multiples of 64 bytes, each
after a prefix of its length and key. The data file is as long as the limit, and takes memory only
where something was written. ``lock`` is for opening; everything else is done under the lock of the
current data file.

The word of a value holds the offset of its prefix in its low 46 bits, and the low 18 bits of its
generation, which are never 0, above them; the word 0 is absent. So a single load says where a value
lies, and in which file: ``word ^ base_of(generation)`` is its offset, and a number larger than any
file where it is absent, or of another generation.
"""

from __future__ import annotations

import logging
import os
import struct
import uuid
from io import FileIO
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from kappacore.errors import StorageError
from kappacore.plugin_api import (
    NO_SPACE,
    BackendInfo,
    LockFile,
    allocate,
    boot_id,
    count_users,
    dataset_of,
    kept_until,
    last_used,
    list_folder,
    map_file,
    open_lock,
    open_private,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kappacore.plugin_api import Buffer

log = logging.getLogger("kappacore.cache")

_MAGIC = b"KAPARENA"
_VERSION = 3
# Native byte order throughout: an arena is read by machines like the one that wrote it, and the
# word for the order does not match on others.
_ORDER = 0x01020304
_START = struct.Struct("=8sIIQQ")  # magic, version, order, length, digest of the namespace
_HEADER = 4096
# Words of the header. NEXT differs from GENERATION while the arena is being cleared.
GENERATION, CURSOR, CAPACITY, FULL, _UNUSED, BOOT, NEXT = range(8, 15)
ALIGN = 64  # of values; the first one lies at 64
_OFFSET_BITS = 46
_TAG_MASK = 2**18 - 1
PREFIX = struct.Struct("=QQ")  # length and key, directly before the value
_IOV_MAX = 512


def base_of(generation: int) -> int:
    """Return what all words of a generation have in common: their bits above the offset."""
    return (generation & _TAG_MASK) << _OFFSET_BITS


class Index:
    """A mapped index: the header's words, and one word per key for its value and for its claim.

    Args:
        mapping: The whole file.
        file: What :func:`os.fstat` says of it.
    """

    def __init__(self, mapping: memoryview, file: os.stat_result) -> None:
        # A word is read and written in one piece, which a struct's byte loop would not do.
        self.words = mapping.cast("Q")
        self.file = file
        self.length = (len(mapping) - _HEADER) // 16
        first = _HEADER // 8
        self.values = self.words[first : first + self.length]
        self.claims = self.words[first + self.length :]

    def fill(self) -> dict[str, Any]:
        """Return how full it is, as :class:`kappacore.plugin_api.BackendInfo` has it.

        Values are counted: a counter could be off after a kill.
        """
        if self.words[NEXT] != self.words[GENERATION]:  # killed while clearing: all are to go
            return {"entries": 0, "bytes": 0, "capacity": self.words[CAPACITY], "full": False}
        return {
            "entries": int(np.count_nonzero(np.asarray(self.values))),
            "bytes": self.words[CURSOR] - ALIGN,  # holes and alignment included
            "capacity": self.words[CAPACITY],
            "full": bool(self.words[FULL]),
        }


def map_index(folder: Path, *, writable: bool = False) -> Index | None:
    """Map the index of an arena; None if there is none that can be read.

    Its values may have been removed without it, as when temporary files are tidied up.
    """
    path, mode = folder / "index", "r+" if writable else "r"
    try:
        opened = LockFile(path, mode)  # in C: an interrupt leaves no descriptor
    except FileNotFoundError:
        return None
    except OSError:  # gives back what a umask took, or says what is wrong
        opened = LockFile(open_private(path, os.O_RDWR if writable else os.O_RDONLY), mode)
    with opened:
        fd = opened.fileno()
        file = os.fstat(fd)
        if file.st_size < _HEADER or (file.st_size - _HEADER) % 16:
            return None
        mapping = map_file(fd, file.st_size, writable=writable)
    index = Index(mapping, file)
    if mapping[: _START.size] != _start(folder, index.length):
        return None
    while True:
        generation = index.words[GENERATION]
        if data_path(folder, generation).exists():
            return index
        if generation == index.words[GENERATION]:  # else it was cleared just now
            return None


def open_index(folder: Path, length: int, capacity: int) -> Index:
    """Map the index, ``lock`` being held; make a new arena where there is none to be read.

    Raises:
        StorageError: If there is no room for it.
    """
    index = map_index(folder, writable=True)
    if index is not None and index.length == length:
        return index
    if (folder / "index").exists():
        log.info("The shared cache in %s cannot be read; it is made anew.", folder)
    temporary = folder / f"index.{uuid.uuid4().hex}"
    size = _HEADER + 16 * length
    try:
        with LockFile(temporary, "x+") as made:
            os.fchmod(made.fileno(), 0o600)
            # Missing room is found out here, not by a bus error at the first touch.
            allocate(made.fileno(), size)
            mapping = map_file(made.fileno(), size, writable=True)
            index = Index(mapping, os.fstat(made.fileno()))
        mapping[: _START.size] = _start(folder, length)
        index.words[GENERATION] = index.words[NEXT] = new_generation(0)
        index.words[CURSOR] = ALIGN
        index.words[CAPACITY] = capacity
        make_data(folder, index.words[GENERATION], capacity)
        temporary.replace(folder / "index")  # whole, or not there
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno not in NO_SPACE:
            raise
        raise StorageError(
            f"No room for the index of a shared cache in {folder} ({size} bytes for "
            f"{length} samples): {error}. Free memory or disk space there; in a container, raise "
            f"--shm-size."
        ) from error
    return index


def _start(folder: Path, length: int) -> bytes:
    digest = xxhash.xxh3_64_intdigest(folder.name.encode())
    return _START.pack(_MAGIC, _VERSION, _ORDER, length, digest)


def data_path(folder: Path, generation: int) -> Path:
    """Return the file with the values of one generation."""
    return folder / f"data-{generation:016x}"


def data_size(capacity: int) -> int:
    """Return the size of the data in bytes; a prefix anywhere in the limit lies inside."""
    return capacity + 2 * ALIGN


def new_generation(last: int) -> int:
    """Return a number that no generation has had, and whose tag follows that of the last one."""
    tag = (last & _TAG_MASK) % _TAG_MASK + 1
    return (uuid.uuid4().int >> 64) & ~_TAG_MASK | tag


def make_data(folder: Path, generation: int, capacity: int) -> None:
    """Make the data file of a generation, unless it is there."""
    with open_lock(data_path(folder, generation)) as file:
        file.truncate(data_size(capacity))


def remove_strays(folder: Path, generation: int) -> None:
    """Remove the files that a killed or a clearing process left; all locks must be held."""
    current = data_path(folder, generation).name
    for entry in list_folder(folder):
        if entry.name.startswith(("data-", "index.")) and entry.name != current:
            (folder / entry.name).unlink(missing_ok=True)


def write_value(fd: int, offset: int, key: int, size: int, value: Sequence[Buffer]) -> bool:
    """Write a prefix and its value; False if the memory or disk has no room left."""
    # By system call, not through a mapping: it reports missing room instead of a bus error.
    pieces = [memoryview(piece).cast("B") for piece in (PREFIX.pack(size, key), *value)]
    try:
        while pieces:
            done = os.pwritev(fd, pieces[:_IOV_MAX], offset)
            offset += done
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


# ---- without using it


def inspect(folder: Path) -> BackendInfo:
    """Return what is known of the arena in a folder.

    It takes no lock, so an arena that is being made or removed may look half empty.
    """
    facts: dict[str, Any] = {
        "namespace": folder.name,
        "where": str(folder),
        "users": count_users(folder),
        "last_used": last_used(folder),
        "kept_until": kept_until(folder),
    }
    index = map_index(folder)
    if index is None:
        facts.update(entries=0, bytes=memory_taken(folder), capacity=None, full=False)
        return BackendInfo(**facts, dataset="? (another version's, or half made)")
    data = data_path(folder, index.words[GENERATION])
    base = base_of(index.words[GENERATION])

    def get(key: int) -> bytes | None:
        return _read(data, index.values[key] ^ base, key) if key < index.length else None

    return BackendInfo(**facts, **index.fill(), dataset=dataset_of(folder.name, get))


def memory_taken(folder: Path) -> int:
    """Return the bytes of memory or disk that an arena's values take."""
    try:
        with os.scandir(folder) as entries:
            data = [entry.stat() for entry in entries if entry.name.startswith("data-")]
    except FileNotFoundError:
        return 0
    return sum(info.st_blocks * 512 for info in data)


def _read(path: Path, offset: int, key: int) -> bytes | None:
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:  # cleared meanwhile
        return None
    with FileIO(fd):
        size = os.fstat(fd).st_size
        if offset >= size:  # absent
            return None
        prefix = os.pread(fd, PREFIX.size, offset)
        length, owner = PREFIX.unpack(prefix) if len(prefix) == PREFIX.size else (0, -1)
        whole = owner == key and offset + length <= size
        return os.pread(fd, length, offset + PREFIX.size) if whole else None
