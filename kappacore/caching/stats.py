"""Counters of a cache, exact over all processes of the machine that use it."""

from __future__ import annotations

import dataclasses
import errno
import mmap
import os
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kappacore.machine.folders import open_private, user_folder
from kappacore.machine.lease import Tenancy, collect
from kappacore.machine.locks import flock, is_supported, own_lock
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: see locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["CacheStats", "Counters"]


@dataclass(frozen=True)
class CacheStats:
    """What a cache has done since it was opened, summed over all processes of the machine.

    Two of them subtract, which gives what happened between: ``after - before``.

    Args:
        hits: samples that came from the cache.
        misses: samples that were not there.
        stores: samples stored.
        refused: samples not stored for want of room.
        corrupt: stored samples that failed their check and were read anew.
        waits: samples that another process was loading at that time, and were waited for.
        source_reads: samples read from the source.
        backend_errors: operations that failed in the backend.
        bytes_read: bytes of the hits, as stored.
        bytes_stored: bytes of the stores.
        seconds_get: time in the backend's lookups, summed over processes.
        seconds_decode: time spent turning bytes into samples.
        seconds_source: time spent reading the source.
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
    def hit_rate(self) -> float:
        """Share of samples that came from the cache, 0 to 1."""
        return self.hits / max(1, self.hits + self.misses)

    def __add__(self, other: CacheStats) -> CacheStats:
        return _from_values(a + b for a, b in zip(_values(self), _values(other), strict=True))

    def __sub__(self, other: CacheStats) -> CacheStats:
        return _from_values(a - b for a, b in zip(_values(self), _values(other), strict=True))

    def __str__(self) -> str:
        text = (
            f"{self.hits + self.misses} samples: {self.hits} from the cache "
            f"({self.hit_rate:.1%}, {format_size(self.bytes_read)}), "
            f"{self.source_reads} read from the source; "
            f"{self.stores} stored ({format_size(self.bytes_stored)})"
        )
        for name in ("refused", "corrupt", "waits", "backend_errors"):
            if value := getattr(self, name):
                text += f", {value} {name.replace('_', ' ')}"
        return text


_FIELDS = dataclasses.fields(CacheStats)
_SECONDS = {field.name for field in _FIELDS if isinstance(field.default, float)}
_INDEX = {field.name: position for position, field in enumerate(_FIELDS)}
_HITS, _BYTES_READ = _INDEX["hits"], _INDEX["bytes_read"]
_SECONDS_GET, _SECONDS_DECODE = _INDEX["seconds_get"], _INDEX["seconds_decode"]
_LAYOUT = struct.Struct("".join("d" if f.name in _SECONDS else "q" for f in _FIELDS))


def _values(stats: CacheStats) -> list[float]:
    return [getattr(stats, field.name) for field in _FIELDS]


def _from_values(values: Iterable[float]) -> CacheStats:
    named: dict[str, Any] = dict(zip(_INDEX, values, strict=True))
    return CacheStats(**named)


class Counters:
    """This process's counters, one slot among those of all processes that share a namespace.

    A slot is a small mapped file. Its owner holds a kernel lock on it; when the owner ends, the
    next process goes on counting in the same slot, so sums stay exact and files few.

    Args:
        namespace: processes that name the same one are summed.
    """

    def __init__(self, namespace: str) -> None:
        self._tenancy: Tenancy | None = None
        self._count_in(bytearray(_LAYOUT.size))
        self._final = CacheStats()
        self._lock = threading.Lock()
        if is_supported():
            parent = user_folder("stats")
            collect(parent)
            self._tenancy = Tenancy(parent / namespace)
            fd, slot = _take_slot(self._tenancy.folder)
            self._give_back = own_lock(self, fd)
            if slot is not None:
                self._count_in(slot)

    @property
    def folder(self) -> Path | None:
        """A folder of all processes that share the namespace; None where there is no such thing."""
        return None if self._tenancy is None else self._tenancy.folder

    def add(self, **amounts: float) -> None:
        """Add to counters, by the names of :class:`CacheStats`."""
        with self._lock:
            for name, amount in amounts.items():
                self._views[name in _SECONDS][_INDEX[name]] += amount

    def add_hits(self, hits: int, size: int, seconds_get: float, seconds_decode: float) -> None:
        """Do as :meth:`add` for what counts in every batch, without what that costs."""
        integers, floats = self._views
        with self._lock:
            integers[_HITS] += hits
            integers[_BYTES_READ] += size
            floats[_SECONDS_GET] += seconds_get
            floats[_SECONDS_DECODE] += seconds_decode

    def total(self) -> CacheStats:
        """Return the sum over all processes; after :meth:`close` the sum at that moment."""
        if self._tenancy is None:
            return self._final if is_supported() else self._own()
        try:
            names = os.listdir(self._tenancy.folder)  # noqa: PTH208 - names suffice
        except FileNotFoundError:  # somebody has removed it: what is left is this process's own
            return self._own()
        total = CacheStats()
        if isinstance(self._slot, bytearray):  # there was no room to count where others see it
            total = self._own()
        for name in names:
            if name.startswith("slot-"):
                data = (self._tenancy.folder / name).read_bytes()
                if len(data) >= _LAYOUT.size:
                    total += _from_values(_LAYOUT.unpack_from(data))
        return total

    def _count_in(self, slot: mmap.mmap | bytearray) -> None:
        # Every number is read and written in one piece, so others never see half of one.
        self._slot = slot
        self._views: tuple[Any, Any] = (memoryview(slot).cast("q"), memoryview(slot).cast("d"))

    def _own(self) -> CacheStats:
        return _from_values(_LAYOUT.unpack_from(self._slot))

    def first_to(self, what: str) -> bool:
        """Return True for exactly one caller among all processes that share the namespace."""
        return self._tenancy is None or self._tenancy.first_to(what)

    def close(self) -> bool:
        """Give the slot back; return whether this was the last process that counted."""
        if self._tenancy is None:
            return False
        self._final = self.total()
        self._count_in(bytearray(_LAYOUT.size))  # what a straggler counts is nobody's
        self._give_back()
        tenancy, self._tenancy = self._tenancy, None
        return tenancy.leave()


def _take_slot(folder: Path) -> tuple[int, mmap.mmap | None]:
    """Lock a slot and map it; None in its place if the memory behind the folder is used up."""
    number = 0
    while True:
        path = folder / f"slot-{number:04d}"
        fd = open_private(path)
        try:
            flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, path)
        except BlockingIOError:
            os.close(fd)
            number += 1
            continue
        except BaseException:
            os.close(fd)
            raise
        if os.fstat(fd).st_size < _LAYOUT.size:
            # Written rather than truncated to size: memory that is not there is found out here.
            try:
                os.pwrite(fd, bytes(_LAYOUT.size), 0)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                return fd, None
        return fd, mmap.mmap(fd, _LAYOUT.size)
