"""The backend ``memory``: samples in this process's own memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

import numpy as np

from kappacore.caching.backends.base import BackendInfo, Buffer, CacheBackend, Located, Scope
from kappacore.machine.space import available_memory
from kappacore.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.locations import IntArray

_ALIGN = 64  # of values: the line of a processor's cache
#: Size of a block that values are appended to. Above 32 MiB it takes memory only where something
#: was written, and is given back whole.
_BLOCK = 64 * 2**20
#: Where a value is, in one number: its block, and its offset there.
_OFFSET_BITS = 44
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1


class _Store:
    """Values in large blocks, one after another.

    What is replaced leaves a hole, as somebody may have a view of it. Once holes take more than
    values do, the values move to new blocks.

    Args:
        length: The number of keys.
        capacity: The limit on the size of the values, in bytes.
    """

    def __init__(self, length: int, capacity: int) -> None:
        self.length = length
        self.capacity = capacity
        self.clear()

    def clear(self) -> None:
        """Start anew; a block goes when nobody has a view of it."""
        self._start_over()
        self.places = np.full(self.length, -1, np.int64)
        self.sizes = np.zeros(self.length, np.int64)
        self.used = 0
        self.full = False

    def _start_over(self) -> None:
        self.blocks: tuple[memoryview, ...] = ()
        self.filled: list[int] = []  # the bytes at the start of each block that hold values
        self._last = np.empty(0, np.uint8)  # the last block
        self._holes = 0

    def get(self, key: int) -> memoryview | None:
        """Return a value as a view that cannot be written, or None."""
        place = self.places.item(key)
        if place < 0:
            return None
        start = place & _OFFSET_MASK
        return self.blocks[place >> _OFFSET_BITS][start : start + self.sizes.item(key)]

    def put(self, key: int, pieces: list[memoryview], size: int) -> None:
        """Append a value, and only then let its key point to it."""
        old: int = self.sizes.item(key)
        place = self._append(pieces, size)
        self.sizes[key], self.places[key] = size, place
        self.used += size - old
        self._holes += old
        if self._holes > max(self.used, _BLOCK):
            self._move()

    def _append(self, pieces: list[memoryview], size: int) -> int:
        start = self._filled_up()
        if not self.blocks or start + size > len(self._last):
            block = max(_BLOCK, self.used // 8, size + _ALIGN)  # so that they do not become many
            self._last = np.empty(block, np.uint8)
            self.blocks = (*self.blocks, self._last.data.toreadonly())
            self.filled.append(0)
            start = self._filled_up()
        at = start
        for piece in pieces:
            self._last[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
        self.filled[-1] = at
        return (len(self.blocks) - 1) << _OFFSET_BITS | start

    def _filled_up(self) -> int:
        """Return the next offset in the last block that is aligned in memory."""
        filled = self.filled[-1] if self.filled else 0
        return filled + -(self._last.ctypes.data + filled) % _ALIGN

    def _move(self) -> None:
        """Copy all values to new blocks, without the holes."""
        keys = np.flatnonzero(self.places >= 0).tolist()
        values = [self.get(key) or memoryview(b"") for key in keys]
        self._start_over()
        for key, value in zip(keys, values, strict=True):
            self.places[key] = self._append([value], len(value))


# One store per namespace, so that what was filled before a fork is found after it.
_stores: WeakValueDictionary[str, _Store] = WeakValueDictionary()


class MemoryBackend(CacheBackend):
    """Keeps samples in the memory of this process.

    Workers started by ``fork`` see what was there at that moment (prefill first); what they add is
    theirs alone and goes with them. To share among workers and ranks, use the backend ``shared``.

    Args:
        namespace: See :class:`CacheBackend`.
        length: The number of keys.
        max_bytes: The limit on the size of the values: ``"8GiB"``, a number of bytes, or a
            fraction of the memory available now; default half of it.
    """

    scope: ClassVar[Scope] = "process"

    def __init__(
        self, namespace: str, length: int, *, max_bytes: float | str | None = None
    ) -> None:
        self._namespace = namespace
        given = 0.5 if max_bytes is None else max_bytes
        capacity = parse_size(given, available_memory())
        self._store = _stores.setdefault(namespace, _Store(length, capacity))
        if max_bytes is not None:
            self._store.capacity = max(self._store.capacity, capacity)

    def get(self, key: int) -> Buffer | None:
        return self._store.get(key)

    def locate_many(self, keys: IntArray) -> Located:
        store = self._store
        places = store.places[keys]
        present = places >= 0
        return Located(
            store.blocks,
            tuple(store.filled),
            np.where(present, places >> _OFFSET_BITS, -1),
            np.where(present, places & _OFFSET_MASK, 0),
            store.sizes[keys],
        )

    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        store = self._store
        pieces = [memoryview(piece).cast("B") for piece in value if len(piece)]
        size = sum(map(len, pieces))
        if store.used - store.sizes.item(key) + size > store.capacity:
            store.full = True
            return False
        store.put(key, pieces, size)
        return True

    def clear(self) -> None:
        self._store.clear()

    def close(self) -> None:
        self._store = _Store(0, 0)  # the last user's goes from _stores by itself

    def info(self) -> BackendInfo:
        store = self._store
        return BackendInfo(
            namespace=self._namespace,
            entries=int(np.count_nonzero(store.places >= 0)),
            bytes=store.used,
            capacity=store.capacity,
            full=store.full,
            where="this process",
        )
