"""An arena: the values of one namespace, in files that every process of the machine maps.

Values are only ever appended: space is reserved under a kernel lock, bytes are written without it,
and the word that says where they lie is published last, in one aligned store. So a reader takes no
lock, sees a whole value or none, and a writer that is killed at any moment leaves at most a hole.
Clearing starts a new data file; whoever still holds a view keeps the old one alive.

The order holds on every processor: the kernel's locks within the calls that write the bytes and
take the arena's lock come between them and the word, and a reader finds the bytes by the word.
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from typing import TYPE_CHECKING

import numpy as np

from kappa_shared.layout import (
    ALIGN,
    BOOT,
    CAPACITY,
    CURSOR,
    FULL,
    GENERATION,
    HEADER,
    OWNERS,
    PREFIX,
    boot,
    data_path,
    data_size,
    make_data,
    open_index,
    remove_strays,
    write_value,
)
from kappacore.machine.claims import ClaimWords
from kappacore.machine.folders import open_private
from kappacore.machine.locks import locked, own_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kappacore.caching.backends.base import Buffer

__all__ = ["Arena"]

_ASK_AFTER = 16 * 2**20  # bytes taken, until it is asked again how much memory there is
# A value that a crash of the machine tore: empty, so it fails its check and is replaced. Were it
# taken for absent, everybody would wait for the value that the index still says is there.
_LOST = memoryview(b"")
_PREFIX_SIZE = PREFIX.size
_read_prefix = PREFIX.unpack_from


class Arena:
    """This process's view of an arena.

    Args:
        folder: the arena's folder, which this process already uses (see ``SharedFolderLease``).
        length: number of keys.
        capacity: limit on the data's size in bytes, used where the arena is new.
        grow: raise an existing arena's limit to ``capacity`` if that is more.
        ceiling: where this process stops writing though the limit is higher, in bytes.
        reserve: bytes of the file system that are left to others; no value is stored that would
            take them.
        memory: says how many more bytes may be taken from memory; asked now and then, for others
            take from it too.

    Raises:
        StorageError: if there is no room even for the index.
    """

    def __init__(
        self,
        folder: Path,
        length: int,
        capacity: int,
        *,
        grow: bool,
        ceiling: int = sys.maxsize,
        reserve: int = 0,
        memory: Callable[[], int] | None = None,
    ) -> None:
        self.folder = folder
        self.length = length
        self._ceiling = ceiling
        self._reserve = reserve
        self._memory = memory
        self._memory_left = self._taken_since = 0  # when memory was asked for last
        self._generation = self._size = 0  # none is mapped yet
        self._claimed: dict[int, int] = {}  # of this process, and in which generation
        self._data = memoryview(b"")
        self._close_data: Callable[[], object] = lambda: None
        self._lock_path = folder / "lock"
        self._lock_fd = open_private(self._lock_path)
        self._close = own_lock(self, self._lock_fd)
        self._open(capacity, grow=grow)

    @locked
    def _open(self, capacity: int, *, grow: bool) -> None:
        index = open_index(self.folder, self.length, capacity)
        # A word is read and written in one piece, which a struct's byte loop would not give.
        self._words = memoryview(index).cast("Q")
        self._values = self._words[HEADER // 8 : HEADER // 8 + self.length]
        self._claims = ClaimWords(self._words[HEADER // 8 + self.length :], self._words[OWNERS])
        self._words[OWNERS] += 1
        remove_strays(self.folder, self._words[GENERATION])
        if grow and capacity > self._words[CAPACITY]:
            self._words[CAPACITY] = capacity
            self._words[FULL] = 0
        self._map_data()
        if self._words[BOOT] != boot():
            self._recover()
            self._words[BOOT] = boot()

    # ---- reading: no lock

    def get(self, key: int) -> memoryview | None:
        """Return the value of ``key`` as a read-only view, or None."""
        place = self._values[key]
        if not place:
            return None
        # In this order: a place that was read before the generation is one of that generation.
        if self._words[GENERATION] == self._generation and place < self._size:
            length, owner = _read_prefix(self._data, place)
            start = place + _PREFIX_SIZE
            if owner == key and start + length <= self._size:
                return self._data[start : start + length]
        return self._get_anew(key)

    def _get_anew(self, key: int) -> memoryview | None:
        """Map what others have cleared or enlarged, and look again; what is bad still is lost."""
        return self.get(key) if self._follow() else _LOST

    @locked
    def _follow(self) -> bool:
        return self._map_data()

    # ---- writing

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        """Append values; False for those that find no room.

        One that was claimed before the arena was cleared was loaded before, too: it counts as
        stored and cleared.
        """
        given, items = items, [item for item in items if not self._is_outdated(item[0])]
        sizes = [sum(memoryview(piece).nbytes for piece in value) for _, value in items]
        generation, fd, places = self._reserve_space(sizes)
        written = [
            place is not None and write_value(fd, place, key, size, value)
            for place, size, (key, value) in zip(places, sizes, items, strict=True)
        ]
        done = [
            (key, place)
            for place, ok, (key, _) in zip(places, written, items, strict=True)
            if ok and place is not None
        ]
        self._publish(generation, done, refused=not all(written))
        if len(items) == len(given):
            return written
        answers = dict(zip((key for key, _ in items), written, strict=True))
        return [answers.get(key, True) for key, _ in given]

    def _is_outdated(self, key: int) -> bool:
        generation = self._words[GENERATION]
        return self._claimed.get(key, generation) != generation

    @locked
    def _reserve_space(self, sizes: Sequence[int]) -> tuple[int, int, list[int | None]]:
        self._map_data()
        return self._generation, self._data_fd, self._take(sizes)

    @locked
    def _publish(self, generation: int, done: list[tuple[int, int]], *, refused: bool) -> None:
        if generation != self._words[GENERATION]:  # stored, and cleared right after
            return
        for key, place in done:
            self._values[key] = place
        if refused:
            self._words[FULL] = 1

    @locked
    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        """Claim keys for this process; False where another one has, or the value is there."""
        granted = self._claims.claim_many(keys, ttl, self._values)
        for key, ok in zip(keys, granted, strict=True):
            if ok:
                self._claimed.setdefault(key, self._words[GENERATION])
        return granted

    @locked
    def release_many(self, keys: Sequence[int]) -> None:
        """Give back this process's claims."""
        for key in keys:
            self._claimed.pop(key, None)
        self._claims.release_many(keys)

    @locked
    def clear(self) -> None:
        """Remove all values, for all processes."""
        generation = make_data(self.folder, self._words[CAPACITY])
        np.asarray(self._values)[:] = 0
        np.asarray(self._claims.words)[:] = 0
        # In this order: killed in between, nobody writes over what others still look at.
        self._words[GENERATION] = generation
        self._words[CURSOR] = ALIGN
        self._words[FULL] = 0
        remove_strays(self.folder, generation)
        self._map_data()

    # ---- facts

    @property
    def entries(self) -> int:
        """Number of values, counted anew: a counter could be off after a kill."""
        return int(np.count_nonzero(np.asarray(self._values)))

    @property
    def used(self) -> int:
        """Bytes taken from the capacity, holes and alignment included."""
        return self._words[CURSOR] - ALIGN

    @property
    def capacity(self) -> int:
        """Limit on the data's size in bytes."""
        return self._words[CAPACITY]

    @property
    def full(self) -> bool:
        """Whether a value was refused."""
        return bool(self._words[FULL])

    # ---- inside

    def _take(self, sizes: Sequence[int]) -> list[int | None]:
        """Reserve space for values; None for those that find no room."""
        cursor = self._words[CURSOR]
        limit = min(self._words[CAPACITY], self._ceiling) + ALIGN
        if self._reserve:
            system = os.fstatvfs(self._data_fd)
            limit = min(limit, cursor + system.f_bavail * system.f_frsize - self._reserve)
        if self._memory is not None:
            most = sum(sizes) + len(sizes) * (_PREFIX_SIZE + ALIGN)
            limit = min(limit, cursor + self._get_memory_left(most))
        places: list[int | None] = []
        for size in sizes:
            start = -(-(cursor + _PREFIX_SIZE) // ALIGN) * ALIGN
            if start + size <= limit:
                places.append(start - _PREFIX_SIZE)
                cursor = start + size
            else:
                places.append(None)
        self._taken_since += cursor - self._words[CURSOR]
        self._words[CURSOR] = cursor
        return places

    def _get_memory_left(self, size: int) -> int:
        taken = self._taken_since + size
        if self._memory is not None and taken > min(_ASK_AFTER, self._memory_left):
            self._memory_left, self._taken_since = self._memory(), 0
        return self._memory_left - self._taken_since

    def _map_data(self) -> bool:
        """Map the data of the current generation up to the current limit; False if it is so."""
        generation, size = self._words[GENERATION], self._words[CAPACITY] + ALIGN
        if generation == self._generation and size <= self._size:
            return False
        if generation != self._generation:
            self._close_data()
            self._data_fd = open_private(data_path(self.folder, generation), os.O_RDWR)
            self._close_data = weakref.finalize(self, os.close, self._data_fd)
        whole = data_size(self._words[CAPACITY])
        if os.fstat(self._data_fd).st_size < whole:
            os.ftruncate(self._data_fd, whole)
        # The old mapping is not closed: it lives as long as somebody holds a view of it.
        self._data = memoryview(mmap.mmap(self._data_fd, whole, prot=mmap.PROT_READ))
        self._generation = generation
        self._size = size
        return True

    def _recover(self) -> None:
        """Void claims of before the machine's start, whose clock is another, and write behind all.

        After a crash the index on a disk may hold values that came after its cursor.
        """
        np.asarray(self._claims.words)[:] = 0
        places = np.asarray(self._values)
        last = int(places[places < self._size].max(initial=0))
        if last:
            length, _ = _read_prefix(self._data, last)
            end = last + _PREFIX_SIZE + length
            last = end if end <= self._size else last + _PREFIX_SIZE  # lost: nobody has a view
        self._words[CURSOR] = max(self._words[CURSOR], last, ALIGN)
