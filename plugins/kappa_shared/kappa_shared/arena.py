"""An arena: the values of one namespace, in files that every process of the machine maps.

Values are only ever appended: space is reserved under a kernel lock, bytes are written without it,
and the word with their place is published last, in one aligned store. So a reader takes no lock
and sees a whole value or none, and a writer that is killed at any moment leaves at most a hole.
Clearing starts a new generation, with a data file of its own; a view keeps the old one alive.

**The lock** of everything but opening is that of the current data file: who finds after taking it
that the generation has changed goes on to the next file. So an arena costs one descriptor, and a
process whose arena was made anew by another version shares no lock with it.

**Clearing** is decided by one store, of the next generation's number. Whoever takes the lock then
does the rest, so it may be killed anywhere.

**Processors with weak order.** The writer: between the bytes and their word lie system calls that
take and free the kernel's locks, one after the other; that orders the stores before and after them.
The reader: it computes the address of the bytes from the word that it has loaded, and processors
keep the order of such loads. It needs no second word: the upper bits of the word tell its
generation, and what they are compared with, the mapping and its base, is the process's own. (They
come round after 2**18 generations without a look at the lock.) Clearing: the new data file is made
after the words were zeroed and before its generation is published, so who has opened the file sees
them zeroed. Beyond all that, each process checks a value's digest when it first reads it.
"""

from __future__ import annotations

import fcntl
import functools
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from kappa_shared.layout import (
    ALIGN,
    BOOT,
    CAPACITY,
    CURSOR,
    FULL,
    GENERATION,
    NEXT,
    PREFIX,
    base_of,
    boot,
    data_path,
    data_size,
    make_data,
    new_generation,
    open_index,
    remove_strays,
    write_value,
)
from kappacore.errors import StorageError
from kappacore.plugin_api import (
    ClaimWords,
    Located,
    LockFile,
    check_file_limit,
    flock,
    keep_from_children,
    map_file,
    open_lock,
)
from kappacore.plugin_api import locked as locked_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from kappa_shared.budget import Budget
    from kappacore.plugin_api import Buffer, Load

Method = TypeVar("Method", bound="Callable[..., Any]")

_FEW, _LITTLE = 64, 16 * 2**20  # values, and twice their bytes, that are moved to give back holes
_ASK_AFTER = 16 * 2**20  # bytes taken before the memory that is left is asked for again
# A value that a crash of the machine tore: empty, so it fails its check and is replaced. If it were
# absent, it could not be claimed, and everybody would wait for it.
_LOST = memoryview(b"")
_PREFIX_SIZE = PREFIX.size
_read_prefix = PREFIX.unpack_from


def locked(method: Method) -> Method:
    """Run a method of an arena while its current generation is locked, and mapped."""

    @locked_file
    @functools.wraps(method)
    def call(self: Arena, *args: Any, **kwargs: Any) -> Any:
        self._catch_up()
        return method(self, *args, **kwargs)

    return cast("Method", call)


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
        self._generation = self._mapped = self._base = self._size = 0  # none is mapped yet
        # By this process: for which load, and in which generation.
        self._claimed: dict[int, tuple[int, int]] = {}
        self._known = threading.local()  # the generation that each thread has found last
        self._data = memoryview(b"")
        with open_lock(folder / "lock") as lock:
            flock(lock, folder / "lock")
            self._open(length, grow=grow)

    def _open(self, length: int, *, grow: bool) -> None:
        self.index = open_index(self.folder, length, self._budget.capacity)
        # Read directly, since each hit takes them.
        self._words, self._values = self.index.words, self.index.values
        self._open_data()
        self._first_known = self._generation
        self._join(grow=grow)

    @locked
    def _join(self, *, grow: bool) -> None:
        capacity = self._budget.capacity
        self.claims = ClaimWords(self.index.claims, self.folder / "lock")
        remove_strays(self.folder, self._generation)
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
        word = self._values[key]
        offset = word ^ self._base
        if offset < self._size:
            length, owner = _read_prefix(self._data, offset)
            start = offset + _PREFIX_SIZE
            end = start + length
            if owner == key and end <= self._size:
                return self._data[start:end]
        if not word:
            self._known.generation = self._words[GENERATION]
            return None
        # Others have cleared or enlarged it. An entry still invalid after remapping is lost.
        return self.get(key) if self._follow() else _LOST

    def locate_many(self, keys: np.ndarray[Any, np.dtype[np.int64]]) -> Located:
        """Return where values lie in the mapped data; as :meth:`get`, for all keys at once."""
        words, header = np.asarray(self._values), self._words
        while True:
            found = words.take(keys)
            # Before it is known that nobody has cleared: the cursor is then behind all values.
            cursor = header[CURSOR]
            present = found != 0
            codes = found ^ np.uint64(self._base)
            outside = present & (codes >= self._size)
            current = header[NEXT] == self._generation and cursor <= self._size
            if (current and not outside.any()) or not self._follow():
                break
        if not present.all():
            self._known.generation = header[GENERATION]
        # An entry that is outside after remapping is lost: its size will be 0.
        offsets = np.where(present & ~outside, codes, 0).view(np.int64)
        return Located(
            regions=(self._data,),
            filled=(min(cursor, self._size),),
            region=np.where(present, 0, -1),
            offset=offsets + _PREFIX_SIZE,
            size=partial(_find_sizes, self._data, self._size, keys, offsets),
        )

    def _follow(self) -> bool:
        before = self._data
        self._look()
        return self._data is not before

    @locked
    def _look(self) -> None:
        """Map what is current."""

    # ---- writing

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        """Append values; False for those that find no room.

        A value that was loaded before the arena was cleared counts as stored and cleared. It was
        loaded after its key was claimed, or, without a claim, after this thread's last look.
        """
        known = getattr(self._known, "generation", self._first_known)
        wanted = [
            (
                sum(memoryview(piece).nbytes for piece in value),
                self._claimed.get(key, (0, known))[1],
            )
            for key, value in items
        ]
        generation, offsets = self._reserve_space(wanted)
        stored = [True] * len(items)
        written: list[tuple[int, int]] = []
        for i, offset in enumerate(offsets):
            (key, value), (size, _) = items[i], wanted[i]
            if offset is None:
                stored[i] = False
            elif offset:
                stored[i] = write_value(self._lock_fd.fileno(), offset, key, size, value)
                if stored[i]:
                    written.append((key, offset))
        self._publish(generation, written, refused=not all(stored))
        return stored

    @locked
    def _reserve_space(self, wanted: Sequence[tuple[int, int]]) -> tuple[int, list[int | None]]:
        """Reserve space for values.

        Args:
            wanted: For each value its size, and the generation that it was loaded in.

        Returns:
            The current generation, and an offset for each value: None where there is no room, and
            0 for values of before, which need none.
        """
        current = self._generation
        sizes = [size if loaded == current else None for size, loaded in wanted]
        offsets = self._append(sizes)
        if None in offsets and self._has_mostly_holes():
            self._give_back_room()
            offsets = self._append(sizes)
        return self._generation, offsets

    def _append(self, sizes: Sequence[int | None]) -> list[int | None]:
        cursor = self._words[CURSOR]
        limit = min(self._words[CAPACITY], self._budget.ceiling) + ALIGN
        if self._budget.reserve:
            system = os.fstatvfs(self._lock_fd.fileno())
            limit = min(limit, cursor + system.f_bavail * system.f_frsize - self._budget.reserve)
        if self._budget.memory_left is not None:
            given = [size for size in sizes if size is not None]
            taken = self._taken_since + sum(given) + len(given) * (_PREFIX_SIZE + ALIGN)  # at most
            if taken > min(_ASK_AFTER, self._memory_left):
                self._memory_left, self._taken_since = self._budget.memory_left(), 0
            limit = min(limit, cursor + self._memory_left - self._taken_since)
        offsets: list[int | None] = []
        for size in sizes:
            start = -(-(cursor + _PREFIX_SIZE) // ALIGN) * ALIGN
            if size is None:
                offsets.append(0)
            elif start + size <= limit:
                offsets.append(start - _PREFIX_SIZE)
                cursor = start + size
            else:
                offsets.append(None)
        self._taken_since += cursor - self._words[CURSOR]
        self._words[CURSOR] = cursor
        return offsets

    def _has_mostly_holes(self) -> bool:
        """Return whether killed writers left most of what is taken, and nobody is writing now."""
        taken = self._words[CURSOR] - ALIGN
        if not taken or np.count_nonzero(np.asarray(self._values)) > _FEW:
            return False
        if self.claims.live_words().difference(word for word, _ in self._claimed.values()):
            return False
        return 2 * sum(value.nbytes for value in self._all_values().values()) < min(taken, _LITTLE)

    def _all_values(self) -> dict[int, memoryview]:
        """Return the values that can be read; as get() does, but the lock is held."""
        found = {}
        for key in np.flatnonzero(np.asarray(self._values)).tolist():
            offset = self._values[key] ^ self._base
            if offset < self._size:
                length, owner = _read_prefix(self._data, offset)
                start = offset + _PREFIX_SIZE
                if owner == key and start + length <= self._size:
                    found[key] = self._data[start : start + length]
        return found

    def _give_back_room(self) -> None:
        """Start over with all room, this process's claims, and the few values that there are."""
        before, held = self._generation, {key: self.claims.words[key] for key in self._claimed}
        kept = self._all_values()
        self._words[NEXT] = new_generation(before)
        self._catch_up()
        for key, word in held.items():
            self.claims.words[key] = word
            load, generation = self._claimed[key]
            if generation == before:
                self._claimed[key] = load, self._generation
        offsets = self._append([value.nbytes for value in kept.values()])
        for (key, value), offset in zip(kept.items(), offsets, strict=True):
            if offset and write_value(self._lock_fd.fileno(), offset, key, value.nbytes, [value]):
                self._values[key] = self._base | offset

    @locked
    def _publish(self, generation: int, written: list[tuple[int, int]], *, refused: bool) -> None:
        if generation != self._generation:  # stored, and cleared right after
            return
        for key, offset in written:
            self._values[key] = self._base | offset
        if refused:
            self._words[FULL] = 1

    def claim_many(self, keys: Sequence[int], ttl: float, load: Load | None = None) -> list[bool]:
        """Claim keys; False where another load has one, or the value is there.

        Args:
            keys: The keys.
            ttl: Seconds after which the claims of a stopped process are void.
            load: The load; None: one that lasts as long as this object.
        """
        load = load or self.claims.own_load()
        return [True] * len(keys) if load is None else self._claim_many(keys, ttl, load)

    @locked
    def _claim_many(self, keys: Sequence[int], ttl: float, load: Load) -> list[bool]:
        granted = self.claims.claim_many(keys, ttl, load, self._values)
        for key, ok in zip(keys, granted, strict=True):
            if ok and self._claimed.get(key, (0, 0))[0] != load.word:
                self._claimed[key] = load.word, self._words[GENERATION]
        return granted

    def release_many(self, keys: Sequence[int], load: Load | None = None) -> None:
        """Release the claims of a load."""
        load = load or self.claims.own_load()
        if load is not None:
            self._release_many(keys, load)

    @locked
    def _release_many(self, keys: Sequence[int], load: Load) -> None:
        for key in keys:
            self._claimed.pop(key, None)
        self.claims.release_many(keys, load)

    @locked
    def clear(self) -> None:
        """Remove all values, for all processes.

        Raises:
            StorageError: If the arena's files were removed, or replaced by another version's.
        """
        path = self.folder / "index"
        try:
            replaced = not os.path.samestat(path.stat(), self.index.file)
        except FileNotFoundError:
            replaced = True
        if replaced:
            raise self._removed(path)
        self._words[NEXT] = new_generation(self._generation)  # this decides it
        self._catch_up()

    # ---- the generations; the lock is held

    def _catch_up(self) -> None:
        """Go on to the current generation: lock its data file in place of the last one, and map it.

        If somebody was killed while clearing, do the rest of it.
        """
        words = self._words
        while True:
            if self._generation == words[GENERATION]:
                if words[NEXT] == self._generation:
                    break
                self._finish_clearing()
            left = data_path(self.folder, self._generation)
            # Closing the file would not do: a traceback may hold on to it.
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
            self._open_data()
            left.unlink(missing_ok=True)  # who cleared may have been killed before that
            flock(self._lock_fd, self._lock_path)
        self._known.generation = self._generation
        self._map_data()

    def _finish_clearing(self) -> None:
        words = self._words
        np.asarray(self._values)[:] = 0
        np.asarray(self.index.claims)[:] = 0
        words[CURSOR] = ALIGN
        words[FULL] = 0
        generation = words[NEXT]
        try:
            make_data(self.folder, generation, words[CAPACITY])
        except FileNotFoundError as error:
            raise self._removed(self.folder) from error
        words[GENERATION] = generation

    def _open_data(self) -> None:
        """Open the current generation's data file in place of the last one, which is closed."""
        while True:
            generation = self._words[GENERATION]
            path = data_path(self.folder, generation)
            try:
                file = LockFile(path, "r+")  # in C: an interrupt leaves no descriptor
            except FileNotFoundError as error:
                if generation == self._words[GENERATION]:  # else it was cleared just now
                    raise self._removed(path) from error
                continue
            except OSError as error:
                check_file_limit(error)
                raise
            break
        keep_from_children(file)
        self._lock_fd, self._lock_path, self._generation = file, path, generation

    def _map_data(self) -> None:
        """Map the data of the current generation up to the current limit, unless it is."""
        size = self._words[CAPACITY] + ALIGN
        if self._mapped == self._generation and size <= self._size:
            return
        whole = data_size(self._words[CAPACITY])
        if os.fstat(self._lock_fd.fileno()).st_size < whole:
            self._lock_fd.truncate(whole)
        self._size = 0  # interrupted in between, no word fits, and this is done again
        # The old mapping is not closed: it lives as long as somebody holds a view of it.
        self._data = map_file(self._lock_fd.fileno(), whole)
        self._mapped = self._generation
        self._base = base_of(self._generation)
        self._size = size

    def _removed(self, path: Path) -> StorageError:
        return StorageError(
            f"The shared cache in {self.folder} is in use, but its file {path.name} was removed "
            f"or replaced, as by a clean-up of temporary files or another version of kappa_shared. "
            f"Close the cache and open it again."
        )

    def _recover(self) -> None:
        """Void the claims of before the machine's start, and move the cursor behind all values.

        Its clock was another then. After a crash, the index on a disk may hold values that are
        newer than its cursor.
        """
        np.asarray(self.claims.words)[:] = 0
        offsets = np.asarray(self._values) ^ np.uint64(self._base)
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
    inside = (offsets > 0) & (offsets % ALIGN == ALIGN - _PREFIX_SIZE)
    at = np.where(inside, offsets, 0) >> 3
    sizes = prefixes[at]
    intact = inside & (prefixes[at + 1] == keys)
    intact &= (sizes >= 0) & (sizes <= whole - offsets - _PREFIX_SIZE)
    return np.where(intact, sizes, 0)
