"""Claims among the processes of one machine: who loads a sample while the others wait.

A claim lives as long as the load it was made for. A load is an open file that holds the kernel's
lock on a slot of it. The word of a key names the slot, and which of its many loads it is. Whatever
ends the load closes its file: its end, an error, an interrupt, a kill. Then the kernel frees the
lock, and the claim is void at once, even where its word still stands. So no thread has to renew
claims, which could not run while a source keeps the interpreter to itself.

The lock is the open file's (``F_OFD_SETLK``), not the process's, so threads exclude each other too.
A forked child closes its copy. One that cannot, because Python did not fork it or it has not run
yet, keeps the lock, but not the claim: the slot says which process the load belongs to.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import threading
import time
import weakref
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.machine.locks import LockFile, keep_from_children, locked, open_lock
from kappacore.machine.mapping import map_file
from kappacore.machine.processes import Claimant, ProcessId, look_at, own_id
from kappacore.machine.system import NO_SPACE, allocate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

log = logging.getLogger("kappacore.cache")

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

_SLOT_BITS = 20  # of a word, below the number of the load
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_SLOT = struct.Struct("=QQQQd")  # number of the load, pid, its namespace and start; since when
_SLOT_SIZE = 64
_FLOCK = struct.Struct("hhqqi4x")  # fcntl(2)'s struct flock on Linux: type, whence, start, len, pid


class Load(LockFile):
    """One load in progress. Closing it voids its claims.

    Use it in a ``with`` statement without ``as``. That ends in C, where no interrupt can come in
    between, and a traceback that somebody keeps holds on to names, not to what has none.
    """

    word = 0  # of its claims


class ClaimWords:
    """Claims in words that processes share; their lock must be held to claim and release.

    Args:
        words: A word per key, as unsigned 64-bit integers; 0 is no claim.
        path: The file with the slots.
        start: Where in the file the slots begin, in bytes.
    """

    def __init__(self, words: memoryview, path: Path, start: int = 0) -> None:
        self.words = words
        self._path = str(path)
        self._start = start
        self._slot = 0  # where the last load was
        self._stopped: dict[int, float] = {}  # words of stopped processes, and since when
        self._own: Load | None = None
        self._reported = False

    def begin_load(self) -> Load | None:
        """Begin a load; None if the system does not let it, for want of space, files or locks.

        Claims only spare work, so that is no error: it is logged once.
        """
        load: Load | None = None
        try:
            load = Load(self._path, "r+")
            keep_from_children(load)
            self._take_slot(load)
        except BaseException as error:
            if load is not None:
                load.close()
            if not isinstance(error, OSError):
                raise
            if not self._reported:
                self._reported = True
                log.warning("samples may be read twice, as none can be claimed: %s", error)
            return None
        return load

    def _take_slot(self, load: Load) -> None:
        fd = load.fileno()
        for slot in count(self._slot):
            start = self._start + _SLOT_SIZE * slot
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(start))
                break
            except (BlockingIOError, PermissionError):  # another load's
                continue
        before = os.pread(fd, _SLOT.size, start)
        number = 1 + (_SLOT.unpack(before)[0] if len(before) == _SLOT.size else 0)
        own = own_id()
        os.pwrite(fd, _SLOT.pack(number, own.pid, own.space, own.started, time.time()), start)
        load.word = number << _SLOT_BITS | slot
        self._slot = slot

    def own_load(self) -> Load | None:
        """Return a load that lasts as long as this object; None if there is no space for it."""
        if self._own is None or self._own.closed:
            self._own = self.begin_load()
            if self._own is not None:
                weakref.finalize(self, self._own.close)
        return self._own

    def claim_many(
        self, keys: Sequence[int], ttl: float, load: Load, stored: Sequence[int] | None = None
    ) -> list[bool]:
        """Claim keys for a load.

        Args:
            keys: The keys.
            ttl: Seconds after which the claims of a stopped process are void.
            load: The load.
            stored: A number per key, not 0 where there is nothing left to load.

        Returns:
            For each key whether it was granted: neither claimed by another load nor stored.
        """
        words, word, fd = self.words, load.word, load.fileno()
        free = {0: True, word: True}
        granted = []
        for key in keys:
            other = words[key]
            if other not in free:
                free[other] = self._is_void(other, ttl, fd)
            ok = free[other] and not (stored is not None and stored[key])
            if ok:
                words[key] = word
            granted.append(ok)
        return granted

    def release_many(self, keys: Sequence[int], load: Load) -> None:
        """Release a load's claims; other keys are left alone.

        Args:
            keys: Keys that the load may have claimed.
            load: The load.
        """
        for key in keys:
            if self.words[key] == load.word:
                self.words[key] = 0

    def live_words(self) -> set[int]:
        """Return the words of all claims that are not void; a stopped process's are not."""
        claimed = np.asarray(self.words)
        words = set(claimed[claimed.nonzero()].tolist())
        if not words:
            return words
        with io.FileIO(self._path) as file:
            return {word for word in words if self._find(word, file.fileno()) is not None}

    def claimants(self, keys: Sequence[int]) -> list[Claimant | None]:
        """Return who has claimed keys; None where nobody has.

        Args:
            keys: (N,) keys.
        """
        with io.FileIO(self._path) as file:
            return [self._claimant(self.words[key], file.fileno()) for key in keys]

    def _is_void(self, word: int, ttl: float, fd: int) -> bool:
        found = self._find(word, fd)
        if found is None or found[0].state() not in ("T", "t"):
            self._stopped.pop(word, None)
            return found is None
        now = time.monotonic()
        return now - self._stopped.setdefault(word, now) >= ttl

    def _find(self, word: int, fd: int) -> tuple[ProcessId, float] | None:
        """Return who has made a claim, and when its load began; None if it is void."""
        start = self._start + _SLOT_SIZE * (word & _SLOT_MASK)
        held = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(start))
        slot = os.pread(fd, _SLOT.size, start)
        if _FLOCK.unpack(held)[0] == fcntl.F_UNLCK or len(slot) < _SLOT.size:
            return None
        number, pid, space, started, since = _SLOT.unpack(slot)
        process = ProcessId(pid, space, started)
        if number != word >> _SLOT_BITS or not process.state():
            return None
        return process, since

    def _claimant(self, word: int, fd: int) -> Claimant | None:
        found = self._find(word, fd) if word else None
        return None if found is None else look_at(*found)


def _flock(start: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, _SLOT_SIZE, 0)


class MachineClaims:
    """Claims in a small mapped file, for backends that have none of their own.

    Nothing is known here of what a claimant stored: look it up in the backend after the claim.

    Args:
        folder: A folder that this process has a :class:`SharedFolderLease` on.
        length: Number of keys.

    Raises:
        OSError: One of ``NO_SPACE`` if the file does not fit.
    """

    def __init__(self, folder: Path, length: int) -> None:
        self._lock = threading.RLock()
        self._lock_path = folder / "claims"
        self._file = open_lock(self._lock_path)
        self._lock_fd = self._file.fileno()
        self._open(length)

    @locked
    def _open(self, length: int) -> None:
        size = 8 * length
        # So that missing space is an error here rather than a bus error at first use.
        allocate(self._lock_fd, size)
        words = map_file(self._lock_fd, size, writable=True).cast("Q")
        # The slots lie behind the words, as many as there are loads at the same time.
        self._words = ClaimWords(words, self._lock_path, start=size)

    def begin_load(self) -> Load | None:
        """See :meth:`ClaimWords.begin_load`."""
        with self._lock:
            return self._words.begin_load()

    def claim_many(self, keys: Sequence[int], ttl: float, load: Load | None = None) -> list[bool]:
        """Claim keys; False where another load has one.

        Args:
            keys: The keys.
            ttl: Seconds after which the claims of a stopped process are void.
            load: The load; None: one that lasts as long as this object.
        """
        with self._lock:
            load = load or self._words.own_load()
            if load is None:
                return [True] * len(keys)
            granted: list[bool] = self._locked(self._words.claim_many, keys, ttl, load)
        return granted

    def release_many(self, keys: Sequence[int], load: Load | None = None) -> None:
        """Release the claims of a load."""
        with self._lock:
            load = load or self._words.own_load()
            if load is not None:
                self._locked(self._words.release_many, keys, load)

    def claimants(self, keys: Sequence[int]) -> list[Claimant | None]:
        """Return who has claimed keys; None where nobody has.

        Args:
            keys: (N,) keys.
        """
        return self._words.claimants(keys)

    @locked
    def _locked(self, method: Callable[..., Any], *arguments: Any) -> Any:
        return method(*arguments)


def open_claims(folder: Path | None, length: int) -> MachineClaims | None:
    """Return the claims in a folder; None without a folder or without space for them."""
    if folder is None or not hasattr(fcntl, "F_OFD_SETLK"):
        return None
    try:
        return MachineClaims(folder, length)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        return None
