"""An arena: the values of one namespace, in files that every process of the machine maps.

Values are only ever appended: space is reserved under a kernel lock, bytes are written without it,
and the word with their offset is published last, in one aligned store. So a reader takes no lock
and sees a whole value or none, and a writer that is killed at any moment leaves at most a hole.
Clearing starts a new data file; a view keeps the old one alive.

The order holds on every processor: between the bytes and the word come the kernel's own locks, in
the calls that write the bytes and take the arena's lock, and a reader finds the bytes by the word.
"""

from __future__ import annotations

import mmap
import os
import weakref
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from kappa_shared.layout import (
    ALIGN,
    BOOT,
    CAPACITY,
    CURSOR,
    FULL,
    GENERATION,
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
from kappacore.plugin_api import ClaimWords, Located, locked, open_private, own_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from kappa_shared.budget import Budget
    from kappacore.plugin_api import Buffer

_ASK_AFTER = 16 * 2**20  # bytes taken before the memory that is left is asked for again
# A value that a crash of the machine tore: empty, so it fails its check and is replaced. If it were
# absent, it could not be claimed, and everybody would wait for it.
_LOST = memoryview(b"")
_PREFIX_SIZE = PREFIX.size
_read_prefix = PREFIX.unpack_from


class Arena:
    """This process's view of an arena.

    Args:
        folder: The arena's folder, which this process already uses (see ``SharedFolderLease``).
        length: Number of keys.
        budget: What the arena may take; its capacity is used where the arena is new.
        grow: Raise an existing arena's limit to that capacity if it is lower.

    Raises:
        StorageError: If there is not even room for the index.
    """

    def __init__(self, folder: Path, length: int, budget: Budget, *, grow: bool) -> None:
        self.folder = folder
        self._budget = budget
        self._memory_left = self._taken_since = 0  # when the budget was asked last
        self._generation = self._size = 0  # none is mapped yet
        self._claimed: dict[int, int] = {}  # of this process, and in which generation
        self._data = memoryview(b"")
        self._close_data: Callable[[], object] = lambda: None
        self._lock_path = folder / "lock"
        self._lock_fd = open_private(self._lock_path)
        self._close = own_lock(self, self._lock_fd)
        self._open(length, grow=grow)

    @locked
    def _open(self, length: int, *, grow: bool) -> None:
        capacity = self._budget.capacity
        self.index = open_index(self.folder, length, capacity)
        # Read directly, since each hit takes them.
        self._words, self._values = self.index.words, self.index.values
        self._claims = ClaimWords(self.index.claims, self._words[OWNERS])
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
        offset = self._values[key]
        if not offset:
            return None
        # In this order: an offset read before the generation belongs to that generation.
        if self._words[GENERATION] == self._generation and offset < self._size:
            length, owner = _read_prefix(self._data, offset)
            start = offset + _PREFIX_SIZE
            if owner == key and start + length <= self._size:
                return self._data[start : start + length]
        # Others have cleared or enlarged it. An entry still invalid after remapping is lost.
        return self.get(key) if self._follow() else _LOST

    def locate_many(self, keys: np.ndarray[Any, np.dtype[np.int64]]) -> Located:
        """Return where values lie in the mapped data; as :meth:`get`, for all keys at once."""
        places = np.asarray(self._values).view(np.int64)
        while True:
            offsets = places.take(keys)
            # In this order: read before the generation, both belong to that generation, and the
            # cursor is behind all values.
            cursor = self._words[CURSOR]
            current = self._words[GENERATION] == self._generation
            if (current and cursor <= self._size) or not self._follow():
                break
        return Located(
            regions=(self._data,),
            filled=(min(cursor, self._size),),
            region=np.where(offsets == 0, -1, 0),
            offset=offsets + _PREFIX_SIZE,
            size=partial(_find_sizes, self._data, self._size, keys, offsets),
        )

    @locked
    def _follow(self) -> bool:
        return self._map_data()

    # ---- writing

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        """Append values; False for those that find no room.

        A value that was claimed before the arena was cleared was loaded before that, too: it counts
        as stored and cleared.
        """
        stored = [True] * len(items)
        fresh = [i for i, (key, _) in enumerate(items) if not self._is_outdated(key)]
        sizes = [sum(memoryview(piece).nbytes for piece in items[i][1]) for i in fresh]
        generation, fd, offsets = self._reserve_space(sizes)
        written: list[tuple[int, int]] = []
        for i, offset, size in zip(fresh, offsets, sizes, strict=True):
            key, value = items[i]
            if offset is not None and write_value(fd, offset, key, size, value):
                written.append((key, offset))
            else:
                stored[i] = False
        self._publish(generation, written, refused=not all(stored))
        return stored

    def _is_outdated(self, key: int) -> bool:
        generation = self._words[GENERATION]
        return self._claimed.get(key, generation) != generation

    @locked
    def _reserve_space(self, sizes: Sequence[int]) -> tuple[int, int, list[int | None]]:
        """Reserve space for values; None in place of an offset where there is no room."""
        self._map_data()
        cursor = self._words[CURSOR]
        limit = min(self._words[CAPACITY], self._budget.ceiling) + ALIGN
        if self._budget.reserve:
            system = os.fstatvfs(self._data_fd)
            limit = min(limit, cursor + system.f_bavail * system.f_frsize - self._budget.reserve)
        if self._budget.memory_left is not None:
            taken = self._taken_since + sum(sizes) + len(sizes) * (_PREFIX_SIZE + ALIGN)  # at most
            if taken > min(_ASK_AFTER, self._memory_left):
                self._memory_left, self._taken_since = self._budget.memory_left(), 0
            limit = min(limit, cursor + self._memory_left - self._taken_since)
        offsets: list[int | None] = []
        for size in sizes:
            start = -(-(cursor + _PREFIX_SIZE) // ALIGN) * ALIGN
            if start + size <= limit:
                offsets.append(start - _PREFIX_SIZE)
                cursor = start + size
            else:
                offsets.append(None)
        self._taken_since += cursor - self._words[CURSOR]
        self._words[CURSOR] = cursor
        return self._generation, self._data_fd, offsets

    @locked
    def _publish(self, generation: int, written: list[tuple[int, int]], *, refused: bool) -> None:
        if generation != self._words[GENERATION]:  # stored, and cleared right after
            return
        for key, offset in written:
            self._values[key] = offset
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

    def _map_data(self) -> bool:
        """Map the data of the current generation up to the current limit; False if it was."""
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
        """Void the claims of before the machine's start, and move the cursor behind all values.

        Its clock was another then. After a crash, the index on a disk may hold values that are
        newer than its cursor.
        """
        np.asarray(self._claims.words)[:] = 0
        offsets = np.asarray(self._values)
        last = int(offsets[offsets < self._size].max(initial=0))
        if last:
            length, _ = _read_prefix(self._data, last)
            end = last + _PREFIX_SIZE + length
            last = end if end <= self._size else last + _PREFIX_SIZE  # lost: nobody has a view
        self._words[CURSOR] = max(self._words[CURSOR], last, ALIGN)


def _find_sizes(
    data: memoryview,
    whole: int,
    keys: np.ndarray[Any, np.dtype[np.int64]],
    offsets: np.ndarray[Any, np.dtype[np.int64]],
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the sizes of values by their prefixes: 0 of those that a crash tore; see _LOST."""
    prefixes = np.frombuffer(data, np.int64, len(data) // 8)
    inside = (offsets > 0) & (offsets < whole)
    at = np.where(inside, offsets, 0) >> 3
    sizes = prefixes[at]
    intact = inside & (prefixes[at + 1] == keys)
    intact &= (sizes >= 0) & (sizes <= whole - offsets - _PREFIX_SIZE)
    return np.where(intact, sizes, 0)
