"""The backend ``memory``: samples in this process's own memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

from kappacore.caching.backends.base import BackendInfo, Buffer, CacheBackend, Scope
from kappacore.sizes import available_memory, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class _Store:
    capacity: int
    values: dict[int, bytes] = field(default_factory=dict)
    used: int = 0
    full: bool = False


# One store per namespace, so that what was filled before a fork is found after it.
_stores: WeakValueDictionary[str, _Store] = WeakValueDictionary()


class MemoryBackend(CacheBackend):
    """Keeps samples in the memory of this process.

    Workers started by ``fork`` see what was there at that moment (prefill first); what they add is
    theirs alone and goes with them. To share among workers and ranks, use the backend ``shared``.

    Args:
        namespace: See :class:`CacheBackend`.
        length: The number of keys.
        max_bytes: The limit on the size of the values: ``"8GiB"``, a number of bytes, or a
            fraction of the memory available now; default half of it.
    """

    scope: ClassVar[Scope] = "process"

    def __init__(
        self, namespace: str, length: int, *, max_bytes: float | str | None = None
    ) -> None:
        del length  # a dict needs none
        self._namespace = namespace
        given = 0.5 if max_bytes is None else max_bytes
        capacity = parse_size(given, available_memory())
        self._store = _stores.setdefault(namespace, _Store(capacity))
        if max_bytes is not None:
            self._store.capacity = max(self._store.capacity, capacity)

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
        self._store = _Store(0)  # the last user's goes from _stores by itself

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
