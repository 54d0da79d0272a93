"""An arena: one namespace's values in two files that every process of the machine maps.

``index`` holds a header, one word per key (where the value lies; 0: absent) and one claim per key.
``data-<generation>`` holds the values, each behind its length and key. Values are only ever
appended: space is reserved under a kernel lock, bytes are written without it, and the word is
published last, in one aligned store. So a reader takes no lock, sees a whole value or none, and a
writer that is killed at any moment leaves at most a hole. Clearing starts a new data file; whoever
still holds a view keeps the old one alive.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import struct
import time
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from kappacore.caching.tenancy import open_private, own_lock
from kappacore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kappacore.caching.backend import Buffer

__all__ = ["Arena"]

_MAGIC = b"KAPARENA"
_VERSION = 1
# Native byte order throughout: an arena is read by the machine that wrote it, and the magic word
# would not match on another one.
_START = struct.Struct("=8sIIQ")  # magic, version, byte order mark, length
_ORDER = 0x01020304
_HEADER = 4096
_GENERATION, _CURSOR, _CAPACITY, _FULL, _OWNERS, _BOOT = range(4, 10)  # 8-byte words
_ALIGN = 64
_PREFIX = struct.Struct("=QQ")  # length and key, directly before the value
_IOV_MAX = 512
_OWNER_BITS = 20
# A value that a crash of the machine tore: empty, so it fails its check and is replaced. Were it
# taken for absent, everybody would wait for the value that the index still says is there.
_LOST = memoryview(b"")


class Arena:
    """This process's view of an arena.

    Args:
        folder: the arena's folder, which this process already uses (see ``Tenancy``).
        length: number of keys.
        capacity: limit on the data's size in bytes, used where the arena is new.
        grow: raise an existing arena's limit to ``capacity`` if that is more.

    Raises:
        StorageError: if there is no room even for the index.
    """

    def __init__(self, folder: Path, length: int, capacity: int, *, grow: bool) -> None:
        self.folder = folder
        self.length = length
        self._generation = self._mapped = 0  # none is mapped yet
        self._data = memoryview(b"")
        self._close_data: Callable[[], object] = lambda: None
        self._lock_fd = open_private(folder / "lock")
        self._close = own_lock(self, self._lock_fd)
        with self.lock():
            self._index = _open_index(folder, length, capacity)
            # A word is read and written in one piece, which a struct's byte loop would not give.
            self._words = memoryview(self._index).cast("Q")
            self._claims = self._words[_HEADER // 8 + length :]
            self._values = self._words[_HEADER // 8 : _HEADER // 8 + length]
            if grow and capacity > self._words[_CAPACITY]:
                self._words[_CAPACITY] = capacity
                self._words[_FULL] = 0
            if self._words[_BOOT] != _boot():  # claims are in time since then
                self._claims[:] = memoryview(bytes(8 * length)).cast("Q")
                self._words[_BOOT] = _boot()
            self._owner = self._words[_OWNERS] % ((1 << _OWNER_BITS) - 1) + 1
            self._words[_OWNERS] += 1
            self._map_data()

    # ---- reading: no lock

    def get(self, key: int) -> memoryview | None:
        """Return the value of ``key`` as a read-only view, or None."""
        while True:
            word = self._values[key]
            if word == 0:
                return None
            words = self._words
            # Others have cleared the arena or raised the limit.
            if words[_GENERATION] != self._generation or words[_CAPACITY] != self._mapped:
                with self.lock():
                    self._map_data()
                continue
            if word > len(self._data):
                return _LOST
            length, owner = _PREFIX.unpack_from(self._data, word - _PREFIX.size)
            return self._data[word : word + length] if owner == key else _LOST

    # ---- writing

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        """Append values; False for those that find no room."""
        sizes = [sum(memoryview(piece).nbytes for piece in value) for _, value in items]
        with self.lock():
            self._map_data()
            places = [self._reserve(size) for size in sizes]
            generation, fd = self._generation, self._data_fd
        written = [
            place is not None and _write(fd, place, key, size, value)
            for place, size, (key, value) in zip(places, sizes, items, strict=True)
        ]
        with self.lock():
            if generation != self._words[_GENERATION]:  # stored, and cleared right after
                return written
            for place, ok, (key, _) in zip(places, written, items, strict=True):
                if ok and place is not None:
                    self._values[key] = place
            if not all(written):
                self._words[_FULL] = 1
        return written

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        """Claim keys for this process; False where another one has, or the value is there."""
        now = int(time.monotonic() * 1000)
        claim = (now + int(ttl * 1000)) << _OWNER_BITS | self._owner
        granted = []
        with self.lock():
            for key in keys:
                held = self._claims[key]
                mine = held & ((1 << _OWNER_BITS) - 1) == self._owner
                free = mine or held >> _OWNER_BITS <= now
                if free and not self._values[key]:
                    self._claims[key] = claim
                    granted.append(True)
                else:
                    granted.append(False)
        return granted

    def release_many(self, keys: Sequence[int]) -> None:
        """Give back this process's claims."""
        with self.lock():
            for key in keys:
                if self._claims[key] & ((1 << _OWNER_BITS) - 1) == self._owner:
                    self._claims[key] = 0

    def clear(self) -> None:
        """Remove all values, for all processes."""
        with self.lock():
            old = self._words[_GENERATION]
            _make_data(self.folder, old + 1, self._words[_CAPACITY])
            start, end = _HEADER, _HEADER + 16 * self.length
            self._index[start:end] = bytes(end - start)
            # In this order: killed in between, nobody writes over what others still look at.
            self._words[_GENERATION] = old + 1
            self._words[_CURSOR] = _ALIGN
            self._words[_FULL] = 0
            (self.folder / f"data-{old}").unlink(missing_ok=True)
            self._map_data()

    # ---- facts

    @property
    def entries(self) -> int:
        """Number of values, counted anew: a counter could be off after a kill."""
        return int(np.count_nonzero(np.frombuffer(self._values, dtype=np.uint64)))

    @property
    def used(self) -> int:
        """Bytes taken from the capacity, holes and alignment included."""
        return self._words[_CURSOR] - _ALIGN

    @property
    def capacity(self) -> int:
        """Limit on the data's size in bytes."""
        return self._words[_CAPACITY]

    @property
    def full(self) -> bool:
        """Whether a value was refused."""
        return bool(self._words[_FULL])

    # ---- inside

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the arena's lock, which the kernel frees if this process is killed."""
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _reserve(self, size: int) -> int | None:
        place = -(-(self._words[_CURSOR] + _PREFIX.size) // _ALIGN) * _ALIGN
        if place + size > self._words[_CAPACITY] + _ALIGN:
            return None
        self._words[_CURSOR] = place + size
        return place

    def _map_data(self) -> None:
        """Map the data file of the current generation in the current size, if it is not."""
        generation, capacity = self._words[_GENERATION], self._words[_CAPACITY]
        if generation == self._generation and capacity == self._mapped:
            return
        size = capacity + _ALIGN
        if generation != self._generation:
            self._close_data()
            self._data_fd = open_private(self.folder / f"data-{generation}", os.O_RDWR)
            self._close_data = weakref.finalize(self, os.close, self._data_fd)
        if os.fstat(self._data_fd).st_size < size:
            os.ftruncate(self._data_fd, size)
        # The old mapping is not closed: it lives as long as somebody holds a view of it.
        self._data = memoryview(mmap.mmap(self._data_fd, size, prot=mmap.PROT_READ))
        self._generation = generation
        self._mapped = capacity


def _open_index(folder: Path, length: int, capacity: int) -> mmap.mmap:
    """Map the index; make a new arena where there is none, or one that cannot be read."""
    path = folder / "index"
    size = _HEADER + 16 * length
    start = _START.pack(_MAGIC, _VERSION, _ORDER, length)
    with contextlib.suppress(FileNotFoundError):
        fd = open_private(path, os.O_RDWR)
        try:
            if os.pread(fd, len(start), 0) == start and os.fstat(fd).st_size == size:
                return mmap.mmap(fd, size)
        finally:
            os.close(fd)
    _make_data(folder, 1, capacity)
    temporary = folder / f"index.{uuid.uuid4().hex}"
    fd = open_private(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        # Room that is not there is found out here, not by a bus error at the first touch.
        os.posix_fallocate(fd, 0, size)
        words = {_GENERATION: 1, _CURSOR: _ALIGN, _CAPACITY: capacity, _BOOT: _boot()}
        os.pwrite(fd, start, 0)
        for word, value in words.items():
            os.pwrite(fd, struct.pack("=Q", value), 8 * word)
        temporary.replace(path)
        return mmap.mmap(fd, size)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"No room for the index of a shared cache in {folder} ({size} bytes for {length} "
            f"samples): {error}. Free memory or disk space there; in a container, raise "
            f"--shm-size."
        ) from error
    finally:
        os.close(fd)


def _make_data(folder: Path, generation: int, capacity: int) -> None:
    """Make an empty data file; it takes memory only as values are written."""
    path = folder / f"data-{generation}"
    path.unlink(missing_ok=True)
    fd = open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        os.ftruncate(fd, capacity + _ALIGN)
    finally:
        os.close(fd)


def _write(fd: int, place: int, key: int, size: int, value: Sequence[Buffer]) -> bool:
    """Write one value; False if the memory or disk behind the file has no room left."""
    # By system call, not through a mapping: it reports missing room instead of a bus error.
    pieces = [memoryview(piece).cast("B") for piece in (_PREFIX.pack(size, key), *value)]
    position = place - _PREFIX.size
    try:
        while pieces:
            done = os.pwritev(fd, pieces[:_IOV_MAX], position)
            position += done
            while pieces and done >= len(pieces[0]):
                done -= len(pieces.pop(0))
            if done:
                pieces[0] = pieces[0][done:]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return False
        raise
    return True


def _boot() -> int:
    """Identify this boot of the machine, as far as the system tells."""
    with contextlib.suppress(FileNotFoundError):
        return xxhash.xxh3_64_intdigest(Path("/proc/sys/kernel/random/boot_id").read_bytes())
    return 0
