"""A column of integers, such as all labels: one array, read once and kept as such."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.caching.engine.claims import CLAIM_TTL, claim_many, holding
from kappacore.caching.engine.loader import read, store
from kappacore.errors import CorruptValueError

if TYPE_CHECKING:
    from kappacore.caching.engine.cache import Load, SampleCache
    from kappacore.caching.engine.client import Session

    Array = np.ndarray[Any, Any]

__all__ = ["Column", "read_column", "take_from_column"]

_BATCH = 256  # values read from the source at once
_LOOK_EVERY = 5.0  # seconds
_WAIT_FIRST, _WAIT_MOST = 0.0005, 0.05  # seconds between looks at what another process is reading


@dataclass(frozen=True)
class Column:
    """What a process knows of the column of a namespace.

    Args:
        known: whether it is known at all.
        values: (N,) int64; None if the values are not all such integers.
        until: when to look again, on the clock of ``time.monotonic``.
    """

    known: bool = False
    values: Array | None = None
    until: float = -math.inf


def read_column(cache: SampleCache, session: Session, load: Load) -> Array | None:
    """Return all values of a cache as one new int64 array; None if they are not all such integers.

    It lies under a key of its own, 8 bytes a value, whether single values are cached or not. Where
    it finds no room, this process keeps it for itself.

    Args:
        cache: the cache of the item.
        session: this process's use of its backend.
        load: reads values from the source.
    """
    key = cache.length + 1
    pause = _WAIT_FIRST
    while True:
        usable = _look(cache, session)
        if not session.column.known and (not usable or claim_many(session, [key], CLAIM_TTL)[0]):
            with holding(session, [key]):
                _keep(cache, session, _collect(cache, session, load))
        if session.column.known:
            values = session.column.values
            return None if values is None else values.copy()
        time.sleep(pause)
        pause = min(2 * pause, _WAIT_MOST)
        session.column = Column()  # look again


def take_from_column(
    cache: SampleCache, session: Session, missing: list[int], samples: dict[int, Any]
) -> list[int]:
    """Put values that the column has into ``samples``; return the keys that are still missing."""
    _look(cache, session)
    values = session.column.values
    if values is None:
        return missing
    samples.update(zip(missing, values[missing].tolist(), strict=True))
    session.counters.add_hits(len(missing), 8 * len(missing), 0.0, 0.0)
    return []


def _look(cache: SampleCache, session: Session) -> bool:
    """Learn of the column, if there is one; return False if what is there cannot be used."""
    now = time.monotonic()
    if now < session.column.until:
        return True
    key = cache.length + 1
    column = Column(until=now + _LOOK_EVERY)
    buffer = session.get(key)
    if buffer is not None:
        try:
            values = cache.codec.decode(
                buffer, key, cache.digest_name, verify=not session.verified[key], copy=False
            )
            if values is not None and np.shape(values) != (cache.length,):
                raise CorruptValueError(f"A column of {cache.length} integers is {values!r:.200}.")
        except CorruptValueError:
            session.counters.add(corrupt=1)
            session.column = Column()
            return False
        session.verified[key] = session.after_check
        column = Column(known=True, values=values, until=column.until)
    session.column = column
    return True


def _collect(cache: SampleCache, session: Session, load: Load) -> Array | None:
    """Read all values; where they make no column, what was read is stored one by one."""
    column = np.empty(cache.length, np.int64)
    loaded: dict[int, Any] = {}
    for start in range(0, cache.length, _BATCH):
        keys = list(range(start, min(start + _BATCH, cache.length)))
        found: dict[int, Any] = {}
        missing, corrupt = cache.look_up(session, keys, found)
        if missing or corrupt:
            values = read(cache, session, missing + corrupt, load)
            loaded.update(values)
            found.update(values)
        batch = [found[key] for key in keys]
        if any(type(value) is not int or not -(2**63) <= value < 2**63 for value in batch):
            store(cache, session, loaded)
            return None
        column[start : start + len(batch)] = batch
    return column


def _keep(cache: SampleCache, session: Session, values: Array | None) -> None:
    key = cache.length + 1
    stored = session.put_many([(key, cache.codec.encode(values, key, cache.digest_name))])
    session.verified[key] = session.before_check
    until = time.monotonic() + _LOOK_EVERY if stored and stored[0] else math.inf
    session.column = Column(known=True, values=values, until=until)
