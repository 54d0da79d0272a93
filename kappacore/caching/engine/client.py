"""One process's use of a cache backend: opened here, guarded, counted, closed."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore._warn import warn
from kappacore.caching.backends.base import CacheBackend, backend_class, takes_keep
from kappacore.caching.engine.cleanup import LastUserCleanup
from kappacore.caching.stats import Counters
from kappacore.errors import (
    BrokenPluginError,
    CacheClosedError,
    CacheWarning,
    InvalidOptionError,
    KappaError,
    StorageError,
)
from kappacore.machine.locks import is_supported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.backends.base import BackendInfo, Buffer, Located
    from kappacore.plugins import PluginRef

__all__ = ["BackendClient"]

log = logging.getLogger("kappacore.cache")

_RETRY_AFTER = 5.0  # seconds that a failing backend is left alone
_EXIT_PRIORITY = -5  # before the leases of counters and backends end by themselves
_BLOCK = 31 * 2**20  # just below glibc's DEFAULT_MMAP_THRESHOLD_MAX, above which it is ignored


class BackendClient:
    """This process's handle on one namespace of a backend.

    A backend that fails costs its samples' time, not the run: the operation counts as a miss, one
    warning is given, and the backend is left alone for some seconds before it is tried again.

    Args:
        ref: The backend and its options.
        namespace: The namespace.
        length: The number of keys.
        keep: How long entries stay after the last user left, in seconds.
        strict: Raise what a failing backend raises.
        private: Whether the namespace belongs to one object alone, and its entries go with it.
        token: Keeps apart the counters of caches that share a namespace but, each in its process's
            memory, no entry.
        required: Raise if the backend cannot be opened, instead of trying again later.
    """

    def __init__(
        self,
        ref: PluginRef,
        namespace: str,
        length: int,
        *,
        keep: float,
        strict: bool,
        private: bool = False,
        token: str = "",
        required: bool = True,
    ) -> None:
        cls = backend_class(ref)
        given = {"keep": keep} if takes_keep(cls) else {}
        if keep and not given and cls.scope == "process":
            raise InvalidOptionError(
                f"keep= was given, but entries of the cache backend {ref.name!r} cannot "
                f"outlive the process. Use a backend that can, such as 'shared' "
                f"(pip install kappa-shared), or leave keep out."
            )
        _keep_freed_memory()
        self.name = ref.name
        self.scope = cls.scope
        self.length = length
        self.has_claims = cls.claim_many is not CacheBackend.claim_many
        self.locates = cls.locate_many is not CacheBackend.locate_many
        self.verify_always = cls.scope == "network"
        owner = f".{token}" if cls.scope == "process" else ""
        self.counters = Counters(f"{ref.name}.{namespace}{owner}")
        self._strict = strict
        self._lock: AbstractContextManager[Any] = (
            nullcontext() if cls.thread_safe else threading.Lock()
        )
        self._down_until = 0.0
        self._closed = False
        self._open_backend = partial(ref.open, namespace, length, **given)
        self._opened: list[CacheBackend] = []
        forgotten = cls.scope == "network" and private and not cls.is_temporary(**ref.options)
        cleanup = None
        if is_supported() and ((cls.scope == "machine" and not given) or forgotten):
            cleanup = LastUserCleanup(ref, namespace, keep, collects=required)
        self._end = Finalize(
            self,
            _end,
            args=(self._opened, self.counters, cleanup, strict),
            exitpriority=_EXIT_PRIORITY,
        )
        self.backend: CacheBackend | None = None
        try:
            self._open()
        except Exception as error:
            if required:
                self._end()
                raise
            self._fail(error)

    def _open(self) -> CacheBackend:
        if self._closed:
            raise CacheClosedError(
                f"The cache {self.name!r} was closed. Make a new one to go on reading."
            )
        backend: CacheBackend = self._open_backend()
        self._opened.append(backend)
        self.verify_always = self.verify_always or backend.verify_always
        self.backend = backend
        return backend

    def get(self, key: int) -> Buffer | None:
        """Look one key up; absent if the backend fails."""
        if self._down_until and self.failing:
            return None
        try:  # as _guard, which would cost a small sample a tenth more
            with self._lock:
                backend = self.backend
                return (self._open() if backend is None else backend).get(key)
        except Exception as error:
            self._fail(error)
            return None

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        """Look keys up; all absent if the backend fails."""
        found: list[Buffer | None] | None = self._guard_many("get_many", keys)
        return [None] * len(keys) if found is None else found

    def locate_many(self, keys: np.ndarray[Any, np.dtype[np.int64]]) -> Located | None:
        """Return where values lie; None if the backend cannot say, or fails."""
        located: Located | None = self._guard("locate_many", keys)
        if located is None:
            return None
        if located.region.shape != keys.shape or located.offset.shape != keys.shape:
            raise BrokenPluginError(
                f"The cache backend {self.name!r} answered {located!r:.200} to locate_many for "
                f"{len(keys)} keys; expected a Located whose arrays have an entry for each."
            )
        return located

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool] | None:
        """Store values; None if the backend fails."""
        stored: list[bool] | None = self._guard_many("put_many", items)
        if stored is not None and not all(isinstance(answer, bool) for answer in stored):
            raise BrokenPluginError(
                f"The cache backend {self.name!r} answered {stored!r} to put; expected True "
                f"(stored) or False (no room) for each value."
            )
        return stored

    def claim_many(self, keys: list[int], ttl: float) -> list[int]:
        """Return the keys that the backend's own claims grant; all of them if it fails."""
        granted = self._guard_many("claim_many", keys, ttl)
        if granted is None:
            return keys
        return [key for key, ok in zip(keys, granted, strict=True) if ok]

    def release_many(self, keys: Sequence[int]) -> None:
        """Release the backend's own claims."""
        self._guard("release_many", keys)

    def info(self) -> BackendInfo | None:
        """Return how full the namespace is; None if unknown."""
        info: BackendInfo | None = self._guard("info")
        return info

    def clear(self) -> None:
        """Remove all entries; a failure is raised, because the caller relies on it."""
        with self._lock:
            (self._open() if self.backend is None else self.backend).clear()

    def close(self) -> None:
        """Close the backend, but not while another thread of this process uses it."""
        with self._lock:
            self._closed = True
            self.backend = None
            self._end()

    @property
    def failing(self) -> bool:
        """Whether the backend failed a moment ago."""
        return time.monotonic() < self._down_until

    def _guard_many(self, method: str, keys: Sequence[Any], *arguments: Any) -> Any:
        """Call the backend and check that there is an answer for each key."""
        answer = self._guard(method, keys, *arguments)
        if answer is not None and (not isinstance(answer, list) or len(answer) != len(keys)):
            raise BrokenPluginError(
                f"The cache backend {self.name!r} answered {answer!r:.200} to {method} for "
                f"{len(keys)} keys; expected a list with one entry for each."
            )
        return answer

    def _guard(self, method: str, *arguments: Any) -> Any:
        """Call the backend; None if it fails, or did so a moment ago."""
        if self._down_until and self.failing:
            return None
        try:
            with self._lock:
                backend = self._open() if self.backend is None else self.backend
                return getattr(backend, method)(*arguments)
        except Exception as error:
            self._fail(error)
            return None

    def _fail(self, error: Exception) -> None:
        """Leave the backend alone for a while; raise the errors that need the user."""
        misused = isinstance(error, KappaError) and not isinstance(error, StorageError)
        if self._strict or misused:
            raise error
        self._down_until = time.monotonic() + _RETRY_AFTER
        self.counters.add(backend_errors=1)
        if self.counters.first_to("report-failure"):
            reason = f"{type(error).__name__}: {error}".rstrip(".")
            warn(
                f"The cache backend {self.name!r} failed: {reason}. "
                f"Samples are read from the source meanwhile; it is tried again every "
                f"{_RETRY_AFTER:.0f} s. strict=True would raise instead.",
                CacheWarning,
            )
        log.info("cache backend %r failed", self.name, exc_info=error)


def _end(
    opened: list[CacheBackend], counters: Counters, cleanup: LastUserCleanup | None, strict: bool
) -> None:
    counters.close()
    try:
        if cleanup is not None:
            cleanup.leave(opened[-1] if opened else None)
    except Exception as error:
        if strict:
            raise
        log.warning(
            "a cache could not be cleared at its end; the next one to open it will: %s", error
        )
    finally:
        for backend in opened:
            backend.close()


def _keep_freed_memory() -> None:
    """Have the C allocator keep up to 62 MiB that this process has freed.

    glibc gives free memory above 128 KiB at the end of the heap back at once, so a DataLoader
    worker that frees a batch faults all its pages in again for the next one, which costs several
    times the copying of the samples. Freeing one large block raises that limit to twice its size
    (mallopt(3), "dynamic mmap threshold"). Elsewhere this does nothing.
    """
    np.empty(_BLOCK, np.uint8)  # freed at once; its pages are never touched
