"""The backend ``shared``: one copy of each sample in memory, for all processes of the machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

from kappacore.caching.backend import BackendInfo, CacheBackend, Scope
from kappacore.caching.sizes import available_memory, free_space, parse_size
from kappacore.caching.tenancy import Tenancy, collect, user_folder
from kappacore.errors import CacheClosedError, StorageError

if sys.platform == "linux":
    from kappa_shared.arena import Arena

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from kappacore.caching.backend import Buffer

__all__ = ["SharedBackend"]

_DEFAULT_SHARE = 0.8  # of what is free; the rest is for the DataLoader's own batches


class SharedBackend(CacheBackend):
    """Keeps samples in memory shared by DataLoader workers, ranks and unrelated processes.

    Processes meet by namespace, in a folder of the user's own under ``/dev/shm``. Reading takes no
    lock and copies nothing. The entries go with the last process that uses them, also when that
    one is killed, unless they are to be kept.

    Args:
        namespace: see :class:`kappacore.CacheBackend`.
        length: number of keys.
        max_bytes: limit on the samples' size in bytes, as ``"64GiB"``, a number of bytes, or a
            fraction of what is free; default 0.8 of what is free. Where processes disagree, the
            largest that was asked for counts.
        path: a folder to use in place of ``/dev/shm``; on a local disk the cache outlives a
            reboot.
        keep: seconds that the entries stay after the last user left.

    Raises:
        StorageError: on systems other than Linux, or if the folder cannot be used.
    """

    scope: ClassVar[Scope] = "machine"

    def __init__(
        self,
        namespace: str,
        length: int,
        *,
        max_bytes: float | str | None = None,
        path: str | os.PathLike[str] | None = None,
        keep: float = 0,
    ) -> None:
        if sys.platform != "linux":
            raise StorageError(
                f"The cache backend 'shared' needs Linux; this is {sys.platform}. "
                f"Use the backend 'memory' here."
            )
        parent = user_folder("shared", path)
        collect(parent)
        free = min(free_space(parent), available_memory()) if path is None else free_space(parent)
        capacity = parse_size(_DEFAULT_SHARE if max_bytes is None else max_bytes, free)
        self.verify_always = path is not None  # a disk forgets and changes what memory does not
        self._namespace = namespace
        self._tenancy = Tenancy(parent / namespace, keep)
        self._arena: Arena | None = Arena(
            self._tenancy.folder, length, capacity, grow=max_bytes is not None
        )

    @property
    def arena(self) -> Arena:
        """The files behind the backend.

        Raises:
            CacheClosedError: after :meth:`close`.
        """
        if self._arena is None:
            raise CacheClosedError(
                f"The shared cache {self._namespace!r} was closed. Open a new one to use it."
            )
        return self._arena

    def get(self, key: int) -> Buffer | None:
        return self.arena.get(key)

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        get = self.arena.get
        return [get(key) for key in keys]

    def put(self, key: int, value: Sequence[Buffer]) -> bool:
        return self.arena.put_many([(key, value)])[0]

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool]:
        return self.arena.put_many(items)

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        return self.arena.claim_many(keys, ttl)

    def release_many(self, keys: Sequence[int]) -> None:
        self.arena.release_many(keys)

    def clear(self) -> None:
        self.arena.clear()

    def close(self) -> None:
        self._arena = None
        self._tenancy.leave()

    def info(self) -> BackendInfo:
        arena = self.arena
        return BackendInfo(
            namespace=self._namespace,
            entries=arena.entries,
            bytes=arena.used,
            capacity=arena.capacity,
            full=arena.full,
            where=str(arena.folder),
        )
