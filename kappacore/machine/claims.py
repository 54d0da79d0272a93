"""Claims among the processes of one machine: who loads a sample while the others wait."""

from __future__ import annotations

import mmap
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from kappacore.machine.folders import open_private
from kappacore.machine.locks import locked, own_lock
from kappacore.machine.system import NO_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_OWNER_BITS = 20
_OWNER_MASK = (1 << _OWNER_BITS) - 1


class ClaimWords:
    """Claims of one process in memory that it shares with others; a lock must be held for each use.

    A word per key holds the end of the claim, in milliseconds of the monotonic clock, above 20 bits
    for the owner. The word 0 is no claim.

    Args:
        words: The words, as unsigned 64-bit integers.
        users: How many owners these words have had before.
    """

    def __init__(self, words: memoryview, users: int) -> None:
        self.words = words
        self._owner = users % _OWNER_MASK + 1

    def claim_many(
        self, keys: Sequence[int], ttl: float, stored: Sequence[int] | None = None
    ) -> list[bool]:
        """Claim keys, or renew this owner's claims.

        Args:
            keys: The keys.
            ttl: Seconds until the claims expire.
            stored: A number per key, not 0 where there is nothing left to load.

        Returns:
            For each key whether it was granted: neither claimed by another owner nor stored.
        """
        words, owner = self.words, self._owner
        now = int(time.monotonic() * 1000)
        claim = (now + int(ttl * 1000)) << _OWNER_BITS | owner
        granted = []
        for key in keys:
            word = words[key]
            free = word & _OWNER_MASK == owner or word >> _OWNER_BITS <= now
            if free and stored is not None and stored[key]:
                free = False
            if free:
                words[key] = claim
            granted.append(free)
        return granted

    def release_many(self, keys: Sequence[int]) -> None:
        """Release this owner's claims; other keys are left alone."""
        for key in keys:
            if self.words[key] & _OWNER_MASK == self._owner:
                self.words[key] = 0


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
        self._lock = threading.Lock()
        self._lock_path = folder / "claims"
        self._lock_fd = open_private(self._lock_path)
        self._close = own_lock(self, self._lock_fd)
        self._open(length)

    @locked
    def _open(self, length: int) -> None:
        size = 8 * (length + 1)
        # So that missing space is an error here rather than a bus error at first use.
        os.posix_fallocate(self._lock_fd, 0, size)
        words = memoryview(mmap.mmap(self._lock_fd, size)).cast("Q")
        self._claims = ClaimWords(words, words[length])
        words[length] += 1  # the last word counts the users

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        """Claim keys, or renew this process's claims; False where another process has one."""
        with self._lock:
            granted: list[bool] = self._locked(self._claims.claim_many, keys, ttl)
        return granted

    def release_many(self, keys: Sequence[int]) -> None:
        """Release this process's claims."""
        with self._lock:
            self._locked(self._claims.release_many, keys)

    @locked
    def _locked(self, method: Callable[..., Any], *arguments: Any) -> Any:
        return method(*arguments)


def open_claims(folder: Path | None, length: int) -> MachineClaims | None:
    """Return the claims in a folder; None without a folder or without space for them."""
    if folder is None:
        return None
    try:
        return MachineClaims(folder, length)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        return None
