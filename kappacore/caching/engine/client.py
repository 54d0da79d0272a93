"""One process's use of a cache backend: opened here, guarded, counted, closed."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

from kappacore._warn import warn
from kappacore.caching.backends.base import (
    BackendInfo,
    Buffer,
    CacheBackend,
    backend_class,
    takes_keep,
)
from kappacore.caching.engine.allocator import keep_freed_memory
from kappacore.caching.engine.capacity import Fullness
from kappacore.caching.engine.claims import Claims
from kappacore.caching.engine.cleanup import open_lifetime
from kappacore.caching.engine.integer_column import Column
from kappacore.caching.stats import Counters
from kappacore.errors import (
    BrokenPluginError,
    CacheClosedError,
    CacheWarning,
    InvalidOptionError,
    KappaError,
    StorageError,
)
from kappacore.machine.claims import open_claims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.engine.cleanup import Lifetime
    from kappacore.plugins import PluginRef

__all__ = ["VERIFY", "Session", "warn_if_useless"]

log = logging.getLogger("kappacore.cache")

#: When a value's digest is checked: the mark of one that was not read yet, and of one that was.
VERIFY = {"first": (0, 1), "always": (0, 0), "never": (1, 1)}

_RETRY_AFTER = 5.0  # seconds that a failing backend is left alone
# Before the leases of counters and backends end by themselves (see machine.lease).
_EXIT_PRIORITY = -5


class Session:
    """This process's handle on one namespace of a backend.

    A backend that fails costs its samples' time, not the run: the operation counts as a miss, one
    warning is given, and the backend is left alone for some seconds before it is tried again.

    Args:
        ref: the backend and its options.
        namespace: the namespace.
        length: number of samples; the backend is opened with two keys more, for the record and
            for a column of labels.
        keep: seconds that entries stay after the last user left.
        strict: raise what a failing backend raises.
        verify: one of :data:`VERIFY`; ``"always"`` where the backend or its scope demands it.
        columns: whether there may be a column.
        private: whether the namespace is this object's alone, so that its entries go with it.
        token: tells caches apart that share a namespace but, each in a process's memory, no entry.
        required: raise if the backend cannot be opened, instead of trying again later.
    """

    def __init__(
        self,
        ref: PluginRef,
        namespace: str,
        length: int,
        *,
        keep: float,
        strict: bool,
        verify: str = "first",
        columns: bool = False,
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
        keep_freed_memory()
        self.pid = os.getpid()
        self.name = ref.name
        self.scope = cls.scope
        self.strict = strict
        self.length = length
        self.columns = columns
        self.column = Column()
        owner = f".{token}" if cls.scope == "process" else ""
        self.counters = Counters(f"{ref.name}.{namespace}{owner}")
        of_backend = cls.claim_many is not CacheBackend.claim_many
        without = not of_backend and cls.scope != "process"
        self.claims = Claims(
            of_backend=of_backend,
            of_machine=open_claims(self.counters.folder, length + 2) if without else None,
        )
        self.before_check, self.after_check = VERIFY[verify]
        # A byte a value: whether its digest needs no check (any more).
        self.verified = bytearray([self.before_check]) * (length + 2)
        self.fullness = Fullness(self.name, length, self.counters)
        self._lock: AbstractContextManager[Any] = (
            nullcontext() if cls.thread_safe else threading.Lock()
        )
        self._down_until = 0.0
        self._closed = False
        self._open_backend = partial(ref.open, namespace, length + 2, **given)
        opened: list[CacheBackend] = []
        self._opened = opened
        lifetime = None
        forgotten = cls.scope == "network" and private and not cls.is_temporary(**ref.options)
        if (cls.scope == "machine" and not given) or forgotten:
            lifetime = open_lifetime(ref, namespace, keep, collects=required)
        self._end = Finalize(
            self, _end, args=(opened, self.counters, lifetime, strict), exitpriority=_EXIT_PRIORITY
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
        if self.scope == "network":
            backend.verify_always = True
        if backend.verify_always:
            self.before_check, self.after_check = VERIFY["always"]
            self.verified = bytearray(len(self.verified))
        self.backend = backend
        return backend

    def get(self, key: int) -> Buffer | None:
        """Look one key up; absent if the backend fails."""
        if self._down_until and self.failing:
            return None
        try:
            with self._lock:
                backend = self.backend
                return (self._open() if backend is None else backend).get(key)
        except Exception as error:
            self._fail(error)
            return None

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        """Look keys up; all absent if the backend fails."""
        found: list[Buffer | None] | None = self._guard("get_many", keys)
        if found is None:
            return [None] * len(keys)
        self._check_answer("get_many", found, len(keys))
        return found

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool] | None:
        """Store values; None if the backend fails."""
        stored: list[bool] | None = self._guard("put_many", items)
        if stored is not None:
            self._check_answer("put_many", stored, len(items))
            if not all(isinstance(answer, bool) for answer in stored):
                raise BrokenPluginError(
                    f"The cache backend {self.name!r} answered {stored!r} to put; expected True "
                    f"(stored) or False (no room) for each value."
                )
        return stored

    def claim_in_backend(self, keys: Sequence[int], ttl: float) -> list[bool] | None:
        """Claim keys by the backend's own claims; None if the backend fails."""
        granted: list[bool] | None = self._guard("claim_many", keys, ttl)
        if granted is not None:
            self._check_answer("claim_many", granted, len(keys))
        return granted

    def release_in_backend(self, keys: Sequence[int]) -> None:
        """Give the backend's own claims back."""
        self._guard("release_many", keys)

    def info(self) -> BackendInfo | None:
        """Return how full the namespace is, its entries being the samples alone."""
        info: BackendInfo | None = self._guard("info")
        if info is None:
            return None
        others = 1  # the record
        if self.columns and self.get(self.length + 1) is not None:
            others = 2
        return replace(info, entries=min(max(0, info.entries - others), self.length))

    def clear(self) -> None:
        """Remove all entries; a failure is raised, because the caller relies on it."""
        with self._lock:
            (self._open() if self.backend is None else self.backend).clear()
        self.verified = bytearray([self.before_check]) * len(self.verified)
        self.column = Column()
        self.fullness = Fullness(self.name, self.length, self.counters)

    def close(self) -> None:
        """Close the backend, but not while another thread of this process is at it."""
        with self._lock:
            self._closed = True
            self.backend = None
            self._end()

    @property
    def failing(self) -> bool:
        """Whether the backend failed a moment ago."""
        return time.monotonic() < self._down_until

    def _check_answer(self, method: str, answer: Any, expected: int) -> None:
        if not isinstance(answer, list) or len(answer) != expected:
            raise BrokenPluginError(
                f"The cache backend {self.name!r} answered {answer!r:.200} to {method} for "
                f"{expected} keys; expected a list with one entry for each."
            )

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
        """Leave the backend alone for a while; raise what is not for this to pass over."""
        misused = isinstance(error, KappaError) and not isinstance(error, StorageError)
        if self.strict or misused:
            raise error
        self._down_until = time.monotonic() + _RETRY_AFTER
        self.counters.add(backend_errors=1)
        if self.counters.first_to("report-failure"):
            warn(
                f"The cache backend {self.name!r} failed: {_said(error)}. "
                f"Samples are read from the source meanwhile; it is tried again every "
                f"{_RETRY_AFTER:.0f} s. strict=True would raise instead.",
                CacheWarning,
            )
        log.info("cache backend %r failed", self.name, exc_info=error)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".")


def _end(
    opened: list[CacheBackend], counters: Counters, lifetime: Lifetime | None, strict: bool
) -> None:
    counters.close()
    try:
        if lifetime is not None:
            lifetime.leave(opened[-1] if opened else None)
    except Exception as error:
        if strict:
            raise
        log.warning("a cache could not be cleared at its end, and is when next opened: %s", error)
    finally:
        for backend in opened:
            backend.close()


def warn_if_useless(session: Session) -> None:
    """Say once that a worker's own, empty cache will hardly ever hit."""
    if session.scope != "process":
        return
    data = sys.modules.get("torch.utils.data")
    if data is None or data.get_worker_info() is None:
        return
    info = session.info()
    if info is not None and not info.entries and session.counters.first_to("report-unfilled"):
        warn(
            f"The cache backend {session.name!r} keeps samples in each DataLoader worker apart: "
            f"every worker reads the source for itself, and again in every epoch unless "
            f"persistent_workers=True. Use the backend 'shared' (pip install kappa-shared).",
            CacheWarning,
        )
