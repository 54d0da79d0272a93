"""One process's use of a cache backend: opened here, guarded, counted, closed."""

from __future__ import annotations

import inspect
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

from kappacore._options import check_options
from kappacore._warn import warn
from kappacore.caching.allocator import keep_freed_memory
from kappacore.caching.backend import BackendInfo, Buffer, CacheBackend
from kappacore.caching.column import Column
from kappacore.caching.fullness import Fullness
from kappacore.caching.lifetime import open_lifetime
from kappacore.caching.machine_claims import open_claims
from kappacore.caching.stats import Counters
from kappacore.errors import (
    BrokenPluginError,
    CacheClosedError,
    CacheWarning,
    InvalidOptionError,
    KappaError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.lifetime import Lifetime
    from kappacore.plugins import PluginRef

__all__ = ["VERIFY", "Session", "backend_class", "warn_if_useless"]

log = logging.getLogger("kappacore.cache")

#: When a value's digest is checked: the mark of one that was not read yet, and of one that was.
VERIFY = {"first": (0, 1), "always": (0, 0), "never": (1, 1)}

_RETRY_AFTER = 5.0  # seconds that a failing backend is left alone
# Before the tenancies of counters and backends end by themselves (see tenancy).
_EXIT_PRIORITY = -5


def backend_class(ref: PluginRef) -> type[CacheBackend]:
    """Import the backend that ``ref`` names and check the options given with it.

    Raises:
        BrokenPluginError: if it cannot be imported or is no :class:`CacheBackend`.
        UnknownOptionError: if the backend does not take one of the options.
    """
    cls = ref.load()
    if not (isinstance(cls, type) and issubclass(cls, CacheBackend)):
        raise BrokenPluginError(
            f"The cache backend {ref.name!r} is {cls!r}; expected a class derived from "
            f"kappacore.CacheBackend."
        )
    if getattr(cls, "scope", None) not in ("process", "machine", "network"):
        raise BrokenPluginError(
            f"The cache backend {ref.name!r} ({cls.__qualname__}) has "
            f"scope={getattr(cls, 'scope', None)!r}; expected the class attribute scope to be "
            f"'process', 'machine' or 'network'."
        )
    check_options(str(ref), cls, ref.options, positional=2, fixed=("keep",))
    return cls


def takes_keep(cls: type[CacheBackend]) -> bool:
    """Return whether the backend looks after the lifetime of its entries itself."""
    return "keep" in inspect.signature(cls).parameters


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
        self.has_claims = cls.claim_many is not CacheBackend.claim_many
        self._machine_claims = (
            None
            if self.has_claims or cls.scope == "process"
            else open_claims(self.counters.folder, length + 2)
        )
        self.before_check, self.after_check = VERIFY[verify]
        # A byte a value: whether its digest needs no check (any more).
        self.verified = bytearray([self.before_check]) * (length + 2)
        self.fullness = Fullness(self.name, length, self.counters)
        self._lock: AbstractContextManager[Any] = (
            nullcontext() if cls.thread_safe else threading.Lock()
        )
        self._down_until = 0.0
        self._loading: dict[int, float] = {}  # by a thread of this process, until when
        self._loading_lock = threading.Lock()
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

    def claim_many(self, keys: Sequence[int], ttl: float) -> list[bool]:
        """Claim keys, against other processes and other threads; False also for what is there."""
        now = time.monotonic()
        with self._loading_lock:
            mine = [key for key in keys if self._loading.get(key, 0.0) <= now]
            self._loading.update(dict.fromkeys(mine, now + ttl))
        claimed: set[int] = set()
        try:
            if mine:
                claimed.update(self._claim(mine, ttl))
        finally:
            for key in mine:
                if key not in claimed:
                    self._loading.pop(key, None)
        return [key in claimed for key in keys]

    def _claim(self, keys: list[int], ttl: float) -> list[int]:
        """Return those of the keys that no other process loads or has stored."""
        if self.has_claims:
            granted: list[bool] | None = self._guard("claim_many", keys, ttl)
            if granted is None:
                return keys
            self._check_answer("claim_many", granted, len(keys))
            return [key for key, ok in zip(keys, granted, strict=True) if ok]
        if self.failing or (self._machine_claims is None and threading.active_count() == 1):
            return keys
        # Claims that are not the backend's cannot know what was stored since it was looked up.
        claimed: list[int] = []
        absent: list[int] = []
        try:
            claimed = keys
            if self._machine_claims is not None:
                granted = self._machine_claims.claim_many(keys, ttl)
                claimed = [key for key, ok in zip(keys, granted, strict=True) if ok]
            found = self.get_many(claimed) if claimed else []
            absent = [key for key, value in zip(claimed, found, strict=True) if value is None]
            return absent
        finally:
            if self._machine_claims is not None and len(absent) < len(claimed):
                self._machine_claims.release_many(sorted(set(claimed) - set(absent)))

    @property
    def shares_claims(self) -> bool:
        """Whether other processes see the claims."""
        return self.has_claims or self._machine_claims is not None

    def renew_many(self, keys: Sequence[int], ttl: float) -> None:
        """Renew claims of this process."""
        self._loading.update(dict.fromkeys(keys, time.monotonic() + ttl))
        if self.has_claims:
            self._guard("claim_many", keys, ttl)
        elif self._machine_claims is not None:
            self._machine_claims.claim_many(keys, ttl)

    def release_many(self, keys: Sequence[int]) -> None:
        """Give claims back."""
        try:
            if self.has_claims and keys:
                self._guard("release_many", keys)
            elif self._machine_claims is not None:
                self._machine_claims.release_many(keys)
        finally:
            for key in keys:
                self._loading.pop(key, None)

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
                f"The cache backend {self.name!r} failed: {type(error).__name__}: {error}. "
                f"Samples are read from the source meanwhile; it is tried again every "
                f"{_RETRY_AFTER:.0f} s. strict=True would raise instead.",
                CacheWarning,
            )
        log.info("cache backend %r failed", self.name, exc_info=error)


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
