"""One process's use of a cache backend: opened here, guarded, counted, closed."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from multiprocessing.util import Finalize
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore._warn import warn
from kappacore.caching.backends.base import (
    BackendInfo,
    CacheBackend,
    FailedKeysError,
    backend_class,
    takes_keep,
)
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
    from collections.abc import Callable, Sequence

    from kappacore.caching.backends.base import Buffer, Located
    from kappacore.locations import IntArray
    from kappacore.machine.claims import Load
    from kappacore.machine.processes import Claimant
    from kappacore.plugins import PluginRef

__all__ = ["BackendClient"]

log = logging.getLogger("kappacore.cache")

_RETRY_AFTER = 5.0  # seconds that a failing backend is left alone
_EXIT_PRIORITY = -5  # before the leases of counters and backends end by themselves
#: The types of what a backend finds; others are looked at more closely.
_FOUND = frozenset({bytes, bytearray, memoryview, type(None)})
_FAILED: Any = object()  # in place of an answer
_ENDS = {
    "uncleared": "could not be cleared at its end; the next one to open it will try again",
    "unclosed": "failed when it was closed, which costs no sample",
}
_BLOCK = 31 * 2**20  # just below glibc's DEFAULT_MMAP_THRESHOLD_MAX, above which it is ignored


class BackendClient:
    """This process's handle on one namespace of a backend.

    A backend that raises costs its samples' time, not the run, from its ``__init__`` to its
    ``close``: the operation counts as a miss and in ``backend_errors``, one warning is given, and
    the backend is left alone for some seconds before it is tried again. Two things are raised: a
    :class:`KappaError` of the backend, which says what only the user can mend, and an answer of the
    wrong type or length, which is its author's mistake.

    Args:
        ref: The backend and its options.
        namespace: The namespace.
        length: The number of keys.
        keep: How long entries stay after the last user left, in seconds.
        strict: Raise what a failing backend raises.
        private: Whether the namespace belongs to one object alone, and its entries go with it.
        token: Keeps apart the counters of caches that share a namespace but, each in its process's
            memory, no entry.
        at_start: Whether the cache is being made, and not opened by a worker. A
            :class:`StorageError` of the backend is then raised, too.

    Raises:
        KappaError: If the backend, or how it is used, needs a change.
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
        at_start: bool = True,
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
        self.has_loads = cls.begin_load is not CacheBackend.begin_load
        self.locates = cls.locate_many is not CacheBackend.locate_many
        self.verify_always = cls.scope == "network"
        owner = f".{token}" if cls.scope == "process" else ""
        self.counters = Counters(f"{ref.name}.{namespace}{owner}")
        self._strict = strict
        self._lock: AbstractContextManager[Any] = (
            # Reentrant: an interrupt may leave it with its thread, which must not wait for itself.
            nullcontext() if cls.thread_safe else threading.RLock()
        )
        self._down_until = 0.0
        self._closed = False
        self._ref, self._namespace, self._keep = ref, namespace, given
        self._opened: list[CacheBackend] = []
        forgotten = cls.scope == "network" and private and not _is_temporary(ref)
        cleanup = None
        if is_supported() and ((cls.scope == "machine" and not given) or forgotten):
            cleanup = LastUserCleanup(ref, namespace, keep, collects=at_start)
        self._end = Finalize(
            self,
            _end,
            args=(self.name, self._opened, self.counters, cleanup, strict),
            exitpriority=_EXIT_PRIORITY,
        )
        self.backend: CacheBackend | None = None
        try:
            self._open()
        except Exception as error:
            try:
                self._fail(error, at_start=at_start)
            except BaseException:
                self._end()
                raise

    def _open(self) -> CacheBackend:
        if self._closed:
            raise CacheClosedError(
                f"The cache {self.name!r} was closed. Make a new one to go on reading."
            )
        # Not ref.open(), which takes whatever the backend raises for its author's mistake.
        cls: Callable[..., CacheBackend] = self._ref.load()
        backend = cls(self._namespace, self.length, **self._keep, **self._ref.options)
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
                found = (self._open() if backend is None else backend).get(key)
        except FailedKeysError as error:
            self._note_failed_keys(error)
            return None
        except Exception as error:
            self._fail(error)
            return None
        if type(found) not in _FOUND:
            self._check_found("get", [found])
        return found

    def get_many(self, keys: Sequence[int]) -> list[Buffer | None]:
        """Look keys up; all absent if the backend fails."""
        found: list[Buffer | None] = self._guard_many("get_many", keys)
        if found is _FAILED:
            return [None] * len(keys)
        if not _FOUND.issuperset(map(type, found)):
            found = [None if value is _FAILED else value for value in found]
            self._check_found("get_many", found)
        return found

    def _check_found(self, method: str, found: list[Any]) -> None:
        """Raise if the backend has found something that is neither None nor a buffer."""
        for value in found:
            if value is not None:
                try:
                    memoryview(value)
                except (TypeError, ValueError):  # of another type; released
                    raise self._wrong(
                        method, value, "the bytes that were put, or None if the key is absent"
                    ) from None

    def locate_many(self, keys: IntArray) -> Located | None:
        """Return where values lie; None if the backend cannot say, or fails."""
        located: Located | None = self._guard("locate_many", keys)
        if located is _FAILED or located is None:
            return None
        if located.region.shape != keys.shape or located.offset.shape != keys.shape:
            raise BrokenPluginError(
                f"The cache backend {self.name!r} answered {located!r:.200} to locate_many for "
                f"{len(keys)} keys; expected a Located whose arrays have an entry for each."
            )
        return located

    def put_many(self, items: Sequence[tuple[int, Sequence[Buffer]]]) -> list[bool | None] | None:
        """Store values; None if the backend fails, and for each value that it fails for alone."""
        stored: list[Any] = self._guard_many("put_many", items)
        if stored is _FAILED:
            return None
        if not all(answer is _FAILED or isinstance(answer, bool) for answer in stored):
            raise self._wrong("put", stored, "True (stored) or False (no room) for each value")
        return [None if answer is _FAILED else answer for answer in stored]

    def begin_load(self) -> Load | None:
        """Begin a load, which the backend's claims end with; None if it fails or cannot."""
        load: Load | None = self._guard("begin_load")
        return None if load is _FAILED else load

    def claim_many(self, keys: list[int], ttl: float, load: Load | None = None) -> list[int]:
        """Return the keys that the backend's own claims grant; all of them if it fails."""
        granted = self._guard_many("claim_many", keys, ttl, *((load,) if load else ()))
        if granted is _FAILED:
            return keys
        if not all(isinstance(answer, int | np.bool_) for answer in granted):
            raise self._wrong("claim_many", granted, "True (claimed) or False for each key")
        return [key for key, ok in zip(keys, granted, strict=True) if ok]

    def release_many(self, keys: Sequence[int], load: Load | None = None) -> None:
        """Release the backend's own claims."""
        self._guard("release_many", keys, *((load,) if load else ()))

    def claimants(self, keys: Sequence[int]) -> list[Claimant | None]:
        """Return who has claimed keys; None where nobody is known to have."""
        found: list[Claimant | None] = self._guard_many("claimants", keys)
        return [None] * len(keys) if found is _FAILED else found

    def info(self) -> BackendInfo | None:
        """Return how full the namespace is; None if unknown."""
        info = self._guard("info")
        if info is _FAILED or info is None:
            return None
        if not (
            isinstance(info, BackendInfo)
            and isinstance(info.entries, Real)  # of NumPy, too
            and isinstance(info.bytes, Real)
            and isinstance(info.capacity, Real | None)
        ):
            raise self._wrong("info", info, "a BackendInfo, or None if nothing is known")
        known: BackendInfo = info
        return known

    def generation(self) -> object:
        """Return what changes when the namespace is cleared, as last seen; None if unknown."""
        generation = self._guard("generation")
        return None if generation is _FAILED else generation

    def clear(self) -> None:
        """Remove all entries; a failure is raised, because the caller relies on it."""
        try:
            with self._lock:
                (self._open() if self.backend is None else self.backend).clear()
        except Exception:
            self.counters.add(backend_errors=1)
            raise

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

    @property
    def has_failed(self) -> bool:
        """Whether the backend has ever failed in this process."""
        return self._down_until > 0

    def _guard_many(self, method: str, keys: Sequence[Any], *arguments: Any) -> Any:
        """Call the backend and check that there is an answer for each key."""
        answer = self._guard(method, keys, *arguments)
        if answer is not _FAILED and (not isinstance(answer, list) or len(answer) != len(keys)):
            raise self._wrong(
                f"{method} for {len(keys)} keys", answer, "a list with one entry for each"
            )
        return answer

    def _guard(self, method: str, *arguments: Any) -> Any:
        """Call the backend; ``_FAILED`` if it fails, or did so a moment ago."""
        if self._down_until and self.failing:
            return _FAILED
        try:
            with self._lock:
                backend = self._open() if self.backend is None else self.backend
                return getattr(backend, method)(*arguments)
        except FailedKeysError as error:
            return self._note_failed_keys(error)
        except Exception as error:
            self._fail(error)
            return _FAILED

    def _note_failed_keys(self, error: FailedKeysError) -> list[Any]:
        """Count the keys that the backend failed for alone.

        Returns:
            The answers, ``_FAILED`` in place of those that were not given.
        """
        reason = error.reasons[0]
        if self._strict:
            raise reason
        self.counters.add(backend_errors=len(error.reasons))
        if self.counters.first_to("report-failed-keys"):
            warn(
                f"The cache backend {self.name!r} failed for a sample: {_describe(reason)}. "
                f"It is read from the source, as all that it fails for. strict=True would raise "
                f"instead.",
                CacheWarning,
            )
        return [_FAILED if isinstance(each, Exception) else each for each in error.answers]

    def _wrong(self, asked: str, answer: object, expected: str) -> BrokenPluginError:
        return BrokenPluginError(
            f"The cache backend {self.name!r} answered {answer!r:.200} to {asked}; expected "
            f"{expected}."
        )

    def _fail(self, error: Exception, *, at_start: bool = False) -> None:
        """Leave the backend alone for a while; raise the errors that need the user."""
        misused = isinstance(error, KappaError) and (
            at_start or not isinstance(error, StorageError)
        )
        if self._strict or misused:
            raise error
        own = None if self.backend is None else self.backend.retry_after
        pause = _RETRY_AFTER if own is None else own
        self._down_until = time.monotonic() + pause
        self.counters.add(backend_errors=1)
        if self.counters.first_to("report-failure"):
            warn(
                f"The cache backend {self.name!r} failed: {_describe(error)}. "
                f"Samples are read from the source meanwhile; it is tried again every "
                f"{pause:g} s. strict=True would raise instead.",
                CacheWarning,
            )
        log.info("cache backend %r failed", self.name, exc_info=error)


def _is_temporary(ref: PluginRef) -> bool:
    try:
        return bool(ref.load().is_temporary(**ref.options))
    except Exception:  # then its entries are cleared in vain
        log.warning("is_temporary of the cache backend %r failed", ref.name, exc_info=True)
        return False


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".: ")


def _end(
    name: str,
    opened: list[CacheBackend],
    counters: Counters,
    cleanup: LastUserCleanup | None,
    strict: bool,
) -> None:
    """Clear as the last user, close the backend and end the counting, whatever of it fails."""
    errors: list[Exception] = []

    def attempt(step: Callable[[], object], failure: str) -> None:
        try:
            step()
        except Exception as error:
            errors.append(error)
            counters.add(backend_errors=1)
            if not strict and counters.first_to(f"report-{failure}"):
                log.warning("The cache backend %r %s: %s.", name, _ENDS[failure], _describe(error))

    with ExitStack() as stack:  # the last one first, whatever is raised
        stack.callback(counters.close)
        for backend in opened:
            stack.callback(attempt, backend.close, "unclosed")
        if cleanup is not None:
            stack.callback(attempt, partial(_leave, cleanup, opened), "uncleared")
    if strict and errors:
        raise errors[0]


def _leave(cleanup: LastUserCleanup, opened: list[CacheBackend]) -> None:
    cleanup.leave(opened[-1] if opened else None)


def _keep_freed_memory() -> None:
    """Have the C allocator keep up to 62 MiB that this process has freed.

    glibc gives free memory above 128 KiB at the end of the heap back at once, so a DataLoader
    worker that frees a batch faults all its pages in again for the next one, which costs several
    times the copying of the samples. Freeing one large block raises that limit to twice its size
    (mallopt(3), "dynamic mmap threshold"). Elsewhere this does nothing.
    """
    np.empty(_BLOCK, np.uint8)  # freed at once; its pages are never touched
