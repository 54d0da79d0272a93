"""Counters of a cache, summed exactly over all processes of the machine that use it."""

from __future__ import annotations

import os
import struct
import threading
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from itertools import count
from operator import add, sub
from typing import TYPE_CHECKING, Any

from kappacore.machine.folders import user_folder
from kappacore.machine.lease import SharedFolderLease, collect
from kappacore.machine.locks import LockFile, flock, is_supported, open_lock, unlock_file
from kappacore.machine.mapping import map_file
from kappacore.machine.system import NO_SPACE
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["CacheStats", "Counters"]


@dataclass(frozen=True)
class CacheStats:
    """What a cache has done since it was opened, summed over all processes of the machine.

    Every sample that is asked for is counted once, as a hit, a miss or a wait; one that a batch has
    twice is a hit the second time. A whole column (``getall_<item>``) counts what is read for it,
    and nothing once it is kept; ``prefill()`` counts what it reads or moves between tiers.

    The difference of two is what happened between them: ``after - before``.

    Args:
        hits: Samples that came from the cache.
        misses: Samples that were not in the cache.
        stores: Samples stored.
        refused: Samples not stored for lack of space.
        corrupt: Stored samples that failed their check and were read again from the source.
        waits: Samples that another process was loading, and that came from the cache after a wait.
        source_reads: Samples read from the source.
        backend_errors: Operations that failed in the backend.
        bytes_read: Bytes of the hits, as stored.
        bytes_stored: Bytes of the stores.
        seconds_get: Time spent looking samples up in the backend, summed over processes.
        seconds_decode: Time spent decoding samples.
        seconds_source: Time spent reading the source.
    """

    hits: int = 0
    misses: int = 0
    stores: int = 0
    refused: int = 0
    corrupt: int = 0
    waits: int = 0
    source_reads: int = 0
    backend_errors: int = 0
    bytes_read: int = 0
    bytes_stored: int = 0
    seconds_get: float = 0.0
    seconds_decode: float = 0.0
    seconds_source: float = 0.0

    @property
    def samples(self) -> int:
        """Samples asked for."""
        return self.hits + self.misses + self.waits

    @property
    def hit_rate(self) -> float:
        """Fraction of samples that came from the cache, 0 to 1."""
        return self.hits / max(1, self.samples)

    def __add__(self, other: CacheStats) -> CacheStats:
        return CacheStats(*map(add, astuple(self), astuple(other)))

    def __sub__(self, other: CacheStats) -> CacheStats:
        return CacheStats(*map(sub, astuple(self), astuple(other)))

    def __str__(self) -> str:
        text = (
            f"{self.samples} samples: {self.hits} from the cache "
            f"({self.hit_rate:.1%}, {format_size(self.bytes_read)}), "
            f"{self.source_reads} read from the source; "
            f"{self.stores} stored ({format_size(self.bytes_stored)})"
        )
        for name in ("refused", "corrupt", "waits", "backend_errors"):
            if value := getattr(self, name):
                text += f", {value} {name.replace('_', ' ')}"
        return text


_INDEX = {field.name: index for index, field in enumerate(fields(CacheStats))}
_SECONDS = {name for name in _INDEX if name.startswith("seconds_")}
_HITS, _BYTES_READ = _INDEX["hits"], _INDEX["bytes_read"]
_SECONDS_GET, _SECONDS_DECODE = _INDEX["seconds_get"], _INDEX["seconds_decode"]
_LAYOUT = struct.Struct("".join("d" if name in _SECONDS else "q" for name in _INDEX))


class Counters:
    """This process's counters, one slot among those of all processes that share a namespace.

    A slot is a small mapped file, on which its owner holds a kernel lock. After the owner has
    ended, the next process continues in the same slot, so that sums stay exact and files few.

    Args:
        namespace: Processes with the same namespace are summed.
    """

    def __init__(self, namespace: str) -> None:
        self._lease: SharedFolderLease | None = None
        self._count_in(bytearray(_LAYOUT.size))
        self._final = CacheStats()
        # Reentrant: an interrupt may leave it with its thread, which must not wait for itself.
        self._lock = threading.RLock()
        if is_supported():
            parent = user_folder("stats")
            self._lease = SharedFolderLease(parent / namespace)
            collect(parent)
            self._slot_file, slot = _take_slot(self._lease.folder)
            if slot is not None:
                self._count_in(slot)

    @property
    def folder(self) -> Path | None:
        """The folder of all processes that share the namespace; None on systems without locks."""
        return None if self._lease is None else self._lease.folder

    def add(self, **amounts: float) -> None:
        """Add to counters, by the names of :class:`CacheStats`."""
        with self._lock:
            for name, amount in amounts.items():
                self._views[name in _SECONDS][_INDEX[name]] += amount

    def add_hits(self, hits: int, size: int, seconds_get: float, seconds_decode: float) -> None:
        """Add what every batch counts; faster than :meth:`add`."""
        integers, floats = self._views
        with self._lock:
            integers[_HITS] += hits
            integers[_BYTES_READ] += size
            floats[_SECONDS_GET] += seconds_get
            floats[_SECONDS_DECODE] += seconds_decode

    def total(self) -> CacheStats:
        """Return the sum over all processes; after :meth:`close` the sum at that moment."""
        if self._lease is None:
            return self._final if is_supported() else self._own()
        return self._sum(self._lease.folder, self._own(), shared=self._shared)

    @property
    def _shared(self) -> bool:
        return not isinstance(self._slot, bytearray)

    @staticmethod
    def _sum(folder: Path, own: CacheStats, *, shared: bool) -> CacheStats:
        try:
            names = os.listdir(folder)  # noqa: PTH208 - names suffice
        except FileNotFoundError:  # somebody has removed it: only this process's own are left
            return own
        total = CacheStats() if shared else own
        for name in names:
            if name.startswith("slot-"):
                data = (folder / name).read_bytes()
                if len(data) >= _LAYOUT.size:
                    total += CacheStats(*_LAYOUT.unpack_from(data))
        return total

    @contextmanager
    def apart(self) -> Iterator[Callable[[], CacheStats]]:
        """Count apart what this process does in the block, so that it is in no sum.

        Yields:
            Returns what was counted so far in the block.
        """
        slot, apart = self._slot, bytearray(_LAYOUT.size)
        self._count_in(apart)
        try:
            yield lambda: CacheStats(*_LAYOUT.unpack_from(apart))
        finally:
            self._count_in(slot)

    def _count_in(self, slot: memoryview | bytearray) -> None:
        # Every number is read and written in one piece, so that others never see half of one.
        self._slot = slot
        self._views: tuple[Any, Any] = (memoryview(slot).cast("q"), memoryview(slot).cast("d"))

    def _own(self) -> CacheStats:
        return CacheStats(*_LAYOUT.unpack_from(self._slot))

    def first_to(self, what: str) -> bool:
        """Return True for exactly one caller among all processes that share the namespace."""
        return self._lease is None or self._lease.first_to(what)

    def close(self) -> bool:
        """Give the slot back; return whether this was the last process that counted."""
        if self._lease is None:
            return False
        own, shared = self._own(), self._shared
        self._count_in(bytearray(_LAYOUT.size))  # late counts of other threads are dropped
        unlock_file(self._slot_file)  # first: there may be no other file left to read the sum with
        self._final = self._sum(self._lease.folder, own, shared=shared)
        lease, self._lease = self._lease, None
        return lease.release()


def _take_slot(folder: Path) -> tuple[LockFile, memoryview | None]:
    """Lock the first free slot and map it; its mapping is None without space behind the folder."""
    for number in count():
        path = folder / f"slot-{number:04d}"
        file = open_lock(path)
        fd = file.fileno()
        try:
            flock(fd, path, wait=False)
            break
        except BlockingIOError:
            continue
    if os.fstat(fd).st_size < _LAYOUT.size:
        # Written, not only truncated to size, so that missing memory is an error here.
        try:
            os.pwrite(fd, bytes(_LAYOUT.size), 0)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            return file, None
    return file, map_file(fd, _LAYOUT.size, writable=True)
