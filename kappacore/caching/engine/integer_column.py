"""A column of integers, such as all labels: one array, read once and kept as such."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.caching.engine.loader import read_source
from kappacore.caching.engine.store import Absence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.engine.claims import Claims
    from kappacore.caching.engine.loader import Load
    from kappacore.caching.engine.store import Store

    Array = np.ndarray[Any, Any]

__all__ = ["IntegerColumn"]

_BATCH = 256  # values read from the source at once
_LOOK_EVERY = 5.0  # seconds
_WAIT_FIRST, _WAIT_MOST = 0.0005, 0.05  # seconds between looks at what another process is reading


@dataclass(frozen=True)
class _State:
    """What a process knows of the column, replaced as a whole because threads share it."""

    known: bool = False
    values: Array | None = None  # (N,) int64; None if the values are not all such integers
    look_again: float = -math.inf  # on the clock of time.monotonic


class IntegerColumn:
    """All values of a cache as one int64 array, where they are all such integers.

    It lies under a key of its own, 8 bytes a value, whether single values are cached or not. Where
    it finds no room, this process keeps it for itself.

    Args:
        store: The store.
        claims: Claims on its keys.
    """

    def __init__(self, store: Store, claims: Claims) -> None:
        self._store = store
        self._claims = claims
        self.forget()

    def forget(self) -> None:
        """Start over with a namespace that was cleared."""
        self._state = _State()

    def read(self, load: Load) -> Array | None:
        """Return the values as a new array of shape (N,); None if they are not all integers.

        Args:
            load: Reads values from the source.
        """
        key = self._store.length + 1
        pause = _WAIT_FIRST
        while True:
            usable = self._look()
            if not self._state.known:
                with self._claims.hold_claims([key]) as claimed:
                    if claimed or not usable:
                        self._keep(self._collect(load))
            state = self._state
            if state.known:
                return None if state.values is None else state.values.copy()
            time.sleep(pause)
            pause = min(2 * pause, _WAIT_MOST)
            self.forget()

    def take(self, missing: list[int], samples: dict[int, Any]) -> list[int]:
        """Add the values that the column has to ``samples``; return the keys still missing."""
        self._look()
        values = self._state.values
        if values is None:
            return missing
        samples.update(zip(missing, values[missing].tolist(), strict=True))
        self._store.counters.add_hits(len(missing), 8 * len(missing), 0.0, 0.0)
        return []

    def pick(self, keys: np.ndarray[Any, np.dtype[np.int64]]) -> Array | None:
        """Return the values at ``keys``, which count as hits; None if there is no column yet."""
        self._look()
        values = self._state.values
        if values is None:
            return None
        self._store.counters.add_hits(len(keys), 8 * len(keys), 0.0, 0.0)
        picked: Array = values[keys]
        return picked

    def _look(self) -> bool:
        """Look for a stored column, now and then; return False if it cannot be used."""
        now = time.monotonic()
        if now < self._state.look_again:
            return True
        values = self._store.get_column()
        if values is Absence.CORRUPT:
            self.forget()
            return False
        found = values is not Absence.MISSING
        self._state = _State(found, values if found else None, now + _LOOK_EVERY)
        return True

    def _collect(self, load: Load) -> Array | None:
        """Read all values; where they make no column, what was read is stored one by one."""
        store = self._store
        column = np.empty(store.length, np.int64)
        loaded: dict[int, int] = {}
        others: dict[int, Sequence[Buffer]] = {}
        for start in range(0, store.length, _BATCH):
            keys = list(range(start, min(start + _BATCH, store.length)))
            found, missing, corrupt = store.get_many(keys)
            if missing or corrupt:
                absent = missing + corrupt
                for key, value in zip(absent, read_source(store, absent, load), strict=True):
                    if _is_int64(value):
                        loaded[key] = found[key] = value
                    else:
                        others[key] = store.detach(key, value, wanted=False)[0]
            if others or not all(map(_is_int64, found.values())):
                for key, value in loaded.items():
                    others[key] = store.encode(key, value)
                store.put_many(others)
                return None
            batch = [found[key] for key in keys]
            column[start : start + len(batch)] = batch
        return column

    def _keep(self, values: Array | None) -> None:
        stored = self._store.put_column(values)
        look_again = time.monotonic() + _LOOK_EVERY if stored else math.inf
        self._state = _State(known=True, values=values, look_again=look_again)


def _is_int64(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63
