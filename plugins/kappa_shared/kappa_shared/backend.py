"""The backend ``shared``: one copy of each sample in memory, for all processes of the machine."""

from __future__ import annotations

import os
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from kappacore.errors import CacheClosedError, CacheWarning, InvalidOptionError, StorageError
from kappacore.plugin_api import (
    BackendInfo,
    CacheBackend,
    Scope,
    SharedFolderLease,
    collect,
    is_in_memory,
    make_base,
    remove,
    user_folder,
)

if sys.platform == "linux":
    from kappa_shared.arena import Arena
    from kappa_shared.budget import Budget, plan
    from kappa_shared.layout import inspect, map_index, memory_taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import numpy as np

    from kappacore.plugin_api import Buffer, Located

_NOTE_USE = 60.0  # seconds between notes that the cache is still in use


class SharedBackend(CacheBackend):
    """Keeps samples in memory shared by DataLoader workers, ranks and unrelated processes.

    Processes share a namespace through a folder of the user's own in ``/dev/shm``. Reading takes no
    lock and copies nothing. The entries are removed with the last process that uses them, even if
    it is killed, unless they are to be kept.

    Args:
        namespace: See :class:`kappacore.CacheBackend`.
        length: Number of keys.
        max_bytes: Limit on the samples' size, as ``"64GiB"``, a number of bytes, or a fraction of
            what is free; default 0.8. Free is what the file system, the limit of the container or
            job, and the machine's memory all leave. Of this, 256 MiB (or half, if that is less)
            always stay for the DataLoader's batches, whatever else takes memory later. Where
            processes disagree, the largest limit counts.
        path: A folder to use in place of ``/dev/shm``, made if its parent exists; on a local disk
            the cache outlives a reboot.
        keep: Seconds that the entries stay after their last use.

    Raises:
        StorageError: On systems other than Linux, or if the folder cannot be used.
        InvalidOptionError: If ``max_bytes`` is not a size, or ``path`` not a path.
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
        parent = _parent(path, make=True)
        folder = parent / namespace
        collect(parent)
        base = parent.parent.parent
        memory = is_in_memory(base)
        self.verify_always = not memory  # a disk may lose or change data
        budget = plan(max_bytes, base, memory=memory, used=memory_taken(folder))
        self._namespace = namespace
        self._advice = budget.warning
        self._note_at = time.monotonic() + _NOTE_USE
        self._lease = SharedFolderLease(folder, keep)
        self._arena: Arena | None = None
        try:
            if budget.warning and self._lease.first_to("report-budget"):
                warnings.warn(budget.warning, CacheWarning, stacklevel=2)
            self._arena = Arena(folder, length, budget, grow=max_bytes is not None)
        except BaseException:
            self.close()
            raise

    @property
    def arena(self) -> Arena:
        """The files behind the backend.

        Raises:
            CacheClosedError: After :meth:`close`.
        """
        if self._arena is None:
            raise CacheClosedError(
                f"The shared cache {self._namespace!r} was closed. Open a new one to use it."
            )
        return self._arena

    def get(self, key: int) -> Buffer | None:
        if time.monotonic() > self._note_at:
            self._note_use()
        return self.arena.get(key)

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        if time.monotonic() > self._note_at:
            self._note_use()
        get = self.arena.get
        return [get(key) for key in keys]

    def locate_many(self, keys: np.ndarray[Any, np.dtype[np.int64]]) -> Located:
        if time.monotonic() > self._note_at:
            self._note_use()
        return self.arena.locate_many(keys)

    def _note_use(self) -> None:
        self._note_at = time.monotonic() + _NOTE_USE
        self._lease.note_use()

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
        self._lease.release()

    def info(self) -> BackendInfo:
        arena = self.arena
        return BackendInfo(
            namespace=self._namespace,
            **arena.index.fill(),
            where=str(arena.folder),
            advice=self._advice,
        )

    @classmethod
    def namespaces(
        cls, *, path: str | os.PathLike[str] | None = None, **_: Any
    ) -> Iterable[BackendInfo]:
        parent = _parent(path)
        folders = sorted(parent.iterdir()) if parent.is_dir() else []
        return [inspect(folder) for folder in folders if _is_namespace(folder)]

    @classmethod
    def remove(
        cls, namespace: str, *, path: str | os.PathLike[str] | None = None, **_: Any
    ) -> bool:
        folder = _parent(path) / namespace
        if not _is_namespace(folder):
            return False
        if remove(folder, kept=True):
            return True
        lease = SharedFolderLease(folder)  # others use it, and while this process does, it stays
        try:
            index = map_index(folder)
            if index is not None:
                Arena(folder, index.length, Budget(capacity=1), grow=False).clear()
        finally:
            lease.release()
        return index is not None

    @classmethod
    def collect(cls, *, path: str | os.PathLike[str] | None = None, **_: Any) -> list[str]:
        return collect(_parent(path))


def _parent(path: str | os.PathLike[str] | None, *, make: bool = False) -> Path:
    """Return the folder of all arenas, which need not exist; ``make`` creates ``path``."""
    if sys.platform != "linux":
        raise StorageError(
            f"The cache backend 'shared' needs Linux; this is {sys.platform}. "
            f"Use the backend 'memory' here."
        )
    if path is not None and not (isinstance(path, (str, os.PathLike)) and os.fspath(path)):
        raise InvalidOptionError(
            f"path={path!r} is not a folder. Give one that exists, best on a local disk, or leave "
            f"path out."
        )
    if make and path is not None:
        make_base(path)
    return user_folder("shared", path, make=False)


def _is_namespace(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith(".")  # as those being removed
