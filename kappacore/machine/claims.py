"""Claims among the processes of one machine, for backends that have none of their own."""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from typing import TYPE_CHECKING

from kappacore.machine.folders import open_private
from kappacore.machine.locks import locked, own_lock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["MachineClaims"]

_CHUNK = 1 << 20  # bytes
_OWNER_BITS = 20
_OWNER_MASK = (1 << _OWNER_BITS) - 1


class MachineClaims:
    """A small mapped file with one word a key: until when it is claimed, and by which process.

    What a claimant stored is not known here: a backend is to be asked after the claim.

    Args:
        folder: a folder that this process uses (see ``Tenancy``), and that goes with its users.
        length: number of keys.

    Raises:
        OSError: ``ENOSPC`` if there is no room for it.
    """

    def __init__(self, folder: Path, length: int) -> None:
        self._lock = threading.Lock()
        self._lock_path = folder / "claims"
        self._lock_fd = open_private(self._lock_path)
        self._close = own_lock(self, self._lock_fd)
        self._open(length)

    @locked
    def _open(self, length: int) -> None:
        size = 8 * (length + 1)
        missing = size - os.fstat(self._lock_fd).st_size
        # Written: room that is not there is found out here, not by a bus error at a touch.
        while missing > 0:
            missing -= os.pwrite(self._lock_fd, bytes(min(missing, _CHUNK)), size - missing)
        self._words = memoryview(mmap.mmap(self._lock_fd, size)).cast("Q")
        self._words[length] += 1  # the last word counts those who came
        self._owner = self._words[length] & _OWNER_MASK

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        """Claim keys, or renew this process's claims; False where another process has one."""
        with self._lock:
            return self._claim_many(keys, ttl)

    @locked
    def _claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        granted = []
        now = int(time.monotonic() * 1000)
        claim = (now + int(ttl * 1000)) << _OWNER_BITS | self._owner
        for key in keys:
            held = self._words[key]
            free = held >> _OWNER_BITS <= now or held & _OWNER_MASK == self._owner
            if free:
                self._words[key] = claim
            granted.append(free)
        return granted

    def release_many(self, keys: Sequence[int]) -> None:
        """Give this process's claims back."""
        with self._lock:
            self._release_many(keys)

    @locked
    def _release_many(self, keys: Sequence[int]) -> None:
        for key in keys:
            if self._words[key] & _OWNER_MASK == self._owner:
                self._words[key] = 0


def open_claims(folder: Path | None, length: int) -> MachineClaims | None:
    """Return the claims kept in a folder; None where that is not possible."""
    if folder is None:
        return None
    try:
        return MachineClaims(folder, length)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        return None
