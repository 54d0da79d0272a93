"""A column of integers, such as all labels: one array, read once and kept as such."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.caching.engine.loader import read_source
from kappacore.caching.engine.located import Absence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.engine.claims import Claims, Progress
    from kappacore.caching.engine.store import Store
    from kappacore.caching.identity.determinism import LoadSamples
    from kappacore.locations import IntArray

__all__ = ["IntegerColumn"]

_BATCH = 256  # values read from the source at once
_LOOK_EVERY = 5.0  # seconds


@dataclass(frozen=True)
class _State:
    """What a process knows of the column, replaced as a whole because threads share it."""

    known: bool = False
    values: IntArray | None = None  # (N,) int64; None if the values are not all such integers
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

    def read(self, load: LoadSamples) -> IntArray | None:
        """Return the values as a new array of shape (N,); None if they are not all integers.

        Args:
            load: Reads values from the source.
        """
        key = self._store.length + 1
        dataset = self._store.identity.description["dataset"]
        wait = self._claims.wait_for([key], f"the column of all values of {dataset}")
        while True:
            usable = self._look()
            if not self._state.known:

                def collect(progress: Progress, usable: bool = usable) -> None:
                    if progress.claimed or not usable:
                        self._keep(self._collect(load))

                self._claims.hold([key], collect)
            state = self._state
            if state.known:
                return None if state.values is None else state.values.copy()
            wait.pause()
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

    def pick(self, keys: IntArray) -> IntArray | None:
        """Return the values at ``keys``, which count as hits; None if there is no column yet."""
        self._look()
        values = self._state.values
        if values is None:
            return None
        self._store.counters.add_hits(len(keys), 8 * len(keys), 0.0, 0.0)
        picked: IntArray = values[keys]
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

    def _collect(self, load: LoadSamples) -> IntArray | None:
        """Read all values; where they make no column, what was read is stored one by one."""
        store = self._store
        column = np.empty(store.length, np.int64)
        loaded: dict[int, int] = {}
        others: dict[int, Sequence[Buffer]] = {}
        stop = 0
        while stop < store.length:
            # Only integers are worth an array of their own; the first value alone mostly shows it.
            start, stop = stop, min(stop + (_BATCH if stop else 1), store.length)
            keys = list(range(start, stop))
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

    def _keep(self, values: IntArray | None) -> None:
        stored = self._store.put_column(values)
        look_again = time.monotonic() + _LOOK_EVERY if stored else math.inf
        self._state = _State(known=True, values=values, look_again=look_again)


def _is_int64(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63
