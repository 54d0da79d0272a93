"""A column of integers, such as all labels: one array, read once and kept as such."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.caching.claims import CLAIM_TTL, renewing

if TYPE_CHECKING:
    from kappacore.caching.engine import Load, SampleCache
    from kappacore.caching.session import Session

__all__ = ["read_column"]

_BATCH = 256  # values read from the source at once
_WAIT_FIRST, _WAIT_MOST = 0.0005, 0.05  # seconds between looks at what another process is reading


def read_column(cache: SampleCache, session: Session, load: Load) -> np.ndarray[Any, Any] | None:
    """Return all values of a cache as one int64 array; None if they are not all such integers.

    It lies under a key of its own, 8 bytes a value, whether single values are cached or not.

    Args:
        cache: the cache of the item.
        session: this process's use of its backend.
        load: reads values from the source.
    """
    key = cache.length + 1
    pause = _WAIT_FIRST
    while True:
        samples: dict[int, Any] = {}
        _, corrupt = cache.look_up(session, [key], samples)
        if samples:
            column: np.ndarray[Any, Any] | None = samples[key]
            return column
        if corrupt or session.claim_many([key], CLAIM_TTL)[0]:
            try:
                with renewing(session, [key], CLAIM_TTL):
                    column = _collect(cache, session, load)
                    if column is not None:
                        cache.store(session, [key], [column])
                    return column
            finally:
                session.release_many([key])
        time.sleep(pause)
        pause = min(2 * pause, _WAIT_MOST)


def _collect(cache: SampleCache, session: Session, load: Load) -> np.ndarray[Any, Any] | None:
    column = np.empty(cache.length, np.int64)
    for start in range(0, cache.length, _BATCH):
        keys = list(range(start, min(start + _BATCH, cache.length)))
        found: dict[int, Any] = {}
        missing, corrupt = cache.look_up(session, keys, found)
        if missing or corrupt:
            found.update(cache.read(session, missing + corrupt, load))
        batch = [found[key] for key in keys]
        if any(type(value) is not int or not -(2**63) <= value < 2**63 for value in batch):
            return None
        column[start : start + len(batch)] = batch
    return column
