"""The backend ``memory``: samples in this process's own memory."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from kappacore.caching.backends.base import BackendInfo, Buffer, CacheBackend, Scope
from kappacore.sizes import available_memory, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MemoryBackend"]


@dataclass
class _Store:
    capacity: int
    values: dict[int, bytes] = field(default_factory=dict)
    used: int = 0
    full: bool = False
    users: int = 0


# One store per namespace, so that what was filled before a fork is found after it.
_stores: dict[str, _Store] = {}


class MemoryBackend(CacheBackend):
    """Keeps samples in the memory of this process.

    Workers started by ``fork`` see what was there at that moment (prefill first); what they add is
    theirs alone and goes with them. To share among workers and ranks use the backend ``shared``.

    Args:
        namespace: see :class:`CacheBackend`.
        length: number of keys.
        max_bytes: limit on the values' size in bytes, as ``"8GiB"``, a number of bytes, or a
            fraction of the memory available now; default half of it.
    """

    scope: ClassVar[Scope] = "process"

    def __init__(
        self, namespace: str, length: int, *, max_bytes: float | str | None = None
    ) -> None:
        del length  # a dict needs none
        self._namespace = namespace
        store = _stores.get(namespace)
        if store is None:
            available = available_memory()
            capacity = parse_size(0.5 if max_bytes is None else max_bytes, available)
            store = _stores[namespace] = _Store(capacity)
        elif max_bytes is not None:
            store.capacity = max(store.capacity, parse_size(max_bytes, available_memory()))
        store.users += 1
        self._store = store
        self._finalize = weakref.finalize(self, _release, namespace, store)

    def get(self, key: int) -> Buffer | None:
        return self._store.values.get(key)

    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        store = self._store
        old = len(store.values.get(key, b""))
        size = sum(memoryview(piece).nbytes for piece in value)
        if store.used - old + size > store.capacity:
            store.full = True
            return False
        store.values[key] = b"".join(value)
        store.used += size - old
        return True

    def clear(self) -> None:
        self._store.values = {}
        self._store.used = 0
        self._store.full = False

    def close(self) -> None:
        self._finalize()

    def info(self) -> BackendInfo:
        store = self._store
        return BackendInfo(
            namespace=self._namespace,
            entries=len(store.values),
            bytes=store.used,
            capacity=store.capacity,
            full=store.full,
            where="this process",
        )


def _release(namespace: str, store: _Store) -> None:
    store.users -= 1
    if store.users == 0 and _stores.get(namespace) is store:
        del _stores[namespace]
