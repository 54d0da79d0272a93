"""The engine: reads samples through a backend, each from its source once."""

from __future__ import annotations

import os
import threading
import time
import uuid
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

from kappacore.caching.codec import default_codec
from kappacore.caching.engine.client import VERIFY, Session, warn_if_useless
from kappacore.caching.engine.integer_column import read_column, take_from_column
from kappacore.caching.engine.loader import load_claimed, load_missing
from kappacore.caching.identity.verify import attach, refresh
from kappacore.errors import (
    CacheClosedError,
    CorruptValueError,
    IndexOutOfRangeError,
    InvalidOptionError,
    UncacheableValueError,
)
from kappacore.machine.folders import default_base, set_default_base

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from kappacore.caching.backends.base import BackendInfo, Scope
    from kappacore.caching.codec import Codec
    from kappacore.caching.identity.determinism import Evidence
    from kappacore.caching.identity.namespace import Identity
    from kappacore.caching.stats import CacheStats
    from kappacore.plugins import PluginRef

    Load = Callable[[list[int]], Sequence[Any]]

__all__ = ["SampleCache"]


class SampleCache:
    """A backend, a codec, a namespace and counters: what stands between a dataset and its source.

    It opens its backend anew in every process that uses it and pickles as its description.

    Args:
        ref: the backend and its options.
        identity: what is cached.
        length: number of samples.
        codec: turns samples into bytes and back; default :func:`default_codec`.
        keep: seconds that entries stay after their last user left; ``inf``: for ever.
        strict: raise what a failing backend raises instead of reading the source.
        verify: check a value's digest on its ``"first"`` read in a process, ``"always"`` or
            ``"never"``; values from the network are always checked.
        copy: see :meth:`Codec.decode`.
        columns: whether the values may be integers, and :meth:`column` be called.
        alone: whether no other cache lies behind this one.
    """

    def __init__(
        self,
        ref: PluginRef,
        identity: Identity,
        length: int,
        *,
        codec: Codec | None = None,
        keep: float = 0.0,
        strict: bool = False,
        verify: str = "first",
        copy: bool = True,
        columns: bool = False,
        alone: bool = True,
    ) -> None:
        if verify not in VERIFY:
            raise InvalidOptionError(
                f"verify={verify!r} is not known. Use one of {', '.join(map(repr, VERIFY))}."
            )
        self.ref = ref
        self.identity = identity
        self.length = length
        self.codec = default_codec() if codec is None else codec
        self.keep = keep
        self.strict = strict
        self.verify = verify
        self.copy = copy
        self.columns = columns
        self.alone = alone
        self.digest_name = identity.digest_name
        self._evidence: Evidence = {}
        self._token = uuid.uuid4().hex  # of this object and its copies in workers
        self._closed = False
        self._attached = False
        self._current: Session | None = None
        self._opening: dict[int, threading.Lock] = {}
        self._place = default_base()

    # ---- reading

    def fetch(self, indices: Sequence[int], load: Load) -> list[Any]:
        """Return the samples at ``indices``; those that are not cached come from ``load``.

        The order is fixed, so that processes never wait for each other in a circle: look all up,
        claim the misses, load, store and release what was claimed, and only then wait for what
        others have claimed, as long as their claims live.

        Args:
            indices: (N,) positions of the samples, ``0 … length - 1``; may repeat.
            load: reads the samples at the given positions from the source, in one call.

        Returns:
            N samples. Repeated ones are independent of each other.
        """
        session = self._session()
        keys = list(dict.fromkeys(indices))
        if keys and not (min(keys) >= 0 and max(keys) < self.length):
            raise IndexOutOfRangeError(
                f"The indices {keys} are not all in range for {self.length} samples."
            )
        samples: dict[int, Any] = {}
        missing, corrupt = self.look_up(session, keys, samples)
        if missing or corrupt:
            self._complete(session, missing, corrupt, load, samples)
        if len(keys) == len(indices):
            return [samples[key] for key in keys]
        return self._repeat(indices, samples, load)

    def fetch_one(self, index: int, load: Load) -> Any:
        """Return the sample at ``index``: what :meth:`fetch` gives for a batch of one, sooner.

        Args:
            index: position of the sample, ``0 … length - 1``.
            load: as for :meth:`fetch`.
        """
        session = self._session()
        if not 0 <= index < self.length:
            return self.fetch([index], load)[0]
        clock = time.perf_counter
        started = clock()
        buffer = session.get(index)
        samples: dict[int, Any] = {}
        if buffer is None:
            session.counters.add(seconds_get=clock() - started)
            self._complete(session, [index], [], load, samples)
            return samples[index]
        got = clock()
        verified = session.verified
        try:
            sample = self.codec.decode(
                buffer,
                index,
                self.digest_name,
                verify=not verified[index],
                copy=self.copy,
            )
        except CorruptValueError:
            session.counters.add(corrupt=1)
            self._complete(session, [], [index], load, samples)
            return samples[index]
        verified[index] = session.after_check
        session.counters.add_hits(1, len(buffer), got - started, clock() - got)
        return sample

    def look_up(
        self, session: Session, keys: list[int], samples: dict[int, Any]
    ) -> tuple[list[int], list[int]]:
        """Put what is cached into ``samples``; return the missing and the corrupt keys."""
        missing: list[int] = []
        corrupt: list[int] = []
        size = 0
        clock = time.perf_counter
        started = clock()
        buffers = session.get_many(keys)
        got = clock()
        decode, name, copy = self.codec.decode, self.digest_name, self.copy
        verified, after_check = session.verified, session.after_check
        for key, buffer in zip(keys, buffers, strict=True):
            if buffer is None:
                missing.append(key)
                continue
            try:
                samples[key] = decode(buffer, key, name, verify=not verified[key], copy=copy)
            except CorruptValueError:
                corrupt.append(key)
                continue
            verified[key] = after_check
            size += len(buffer)
        hits = len(keys) - len(missing) - len(corrupt)
        session.counters.add_hits(hits, size, got - started, clock() - got)
        if corrupt:
            session.counters.add(corrupt=len(corrupt))
        return missing, corrupt

    def _complete(
        self,
        session: Session,
        missing: list[int],
        corrupt: list[int],
        load: Load,
        samples: dict[int, Any],
    ) -> None:
        """Put what was not found into ``samples``, in the order that :meth:`fetch` promises."""
        if self.columns and missing:
            missing = take_from_column(self, session, missing, samples)
        load_missing(self, session, missing, corrupt, load, samples)

    @property
    def full_lately(self) -> bool:
        """Whether a sample found no room a moment ago."""
        return self._session().fullness.lately

    @property
    def failing(self) -> bool:
        """Whether the backend failed a moment ago."""
        return self._session().failing

    def take_cached(self, indices: Sequence[int]) -> dict[int, Any]:
        """Return those of the samples that are cached."""
        samples: dict[int, Any] = {}
        self.look_up(self._session(), list(indices), samples)
        return samples

    def fill(self, indices: Sequence[int], load: Load) -> int:
        """Load what is neither cached nor being loaded by another process; decode nothing.

        Returns:
            Number of samples loaded.
        """
        session = self._session()
        keys = list(dict.fromkeys(indices))
        found = session.get_many(keys)
        missing = [key for key, buffer in zip(keys, found, strict=True) if buffer is None]
        return load_claimed(self, session, missing, [], load, {})[0]

    def column(self, load: Load) -> np.ndarray[Any, Any] | None:
        """Return all values as one int64 array, read once and kept as such; None if not all int."""
        return read_column(self, self._session(), load)

    def _repeat(self, indices: Sequence[int], samples: dict[int, Any], load: Load) -> list[Any]:
        """Lay the samples out by index; a sample's second occurrence is another object."""
        result = []
        seen: set[int] = set()
        for key in indices:
            sample = samples[key]
            if key in seen:
                try:
                    pieces = self.codec.encode(sample, key, self.digest_name)
                    sample = self.codec.decode(
                        b"".join(pieces), key, self.digest_name, verify=False
                    )
                except UncacheableValueError:
                    if self.copy:
                        raise
                    sample = self.fetch_one(key, load)  # it has views: they come from the cache
            seen.add(key)
            result.append(sample)
        return result

    def attach(self, load: Load, check: bool = True, *, known: Evidence | None = None) -> Evidence:
        """Open the backend and make sure that its namespace holds this dataset's samples.

        See :func:`kappacore.caching.identity.verify.attach`.
        """
        self._evidence = attach(self, self._session(), load, check, known)
        self._attached = True
        return self._evidence

    # ---- lifetime

    def _session(self) -> Session:
        if self._closed:
            raise CacheClosedError(
                f"The cache of {self.identity.description['dataset']} was closed. "
                f"Make a new one to go on reading."
            )
        pid = os.getpid()
        session = self._current
        if session is not None and session.pid == pid:
            return session
        # Of this process: at a fork another thread may hold the parent's.
        with self._opening.setdefault(pid, threading.Lock()):
            session = self._current
            if session is None or session.pid != pid:
                session = Session(
                    self.ref,
                    self.identity.namespace,
                    self.length,
                    keep=self.keep,
                    strict=self.strict,
                    verify=self.verify,
                    columns=self.columns,
                    private=self.identity.private,
                    token=self._token,
                    required=not self._attached,
                )
                if self.alone:
                    warn_if_useless(session)
                self._current = session
        return session

    def stats(self) -> CacheStats:
        """Return the counters, summed over all processes of the machine that use the cache."""
        session = self._current if self._closed and self._current else self._session()
        return session.counters.total()

    def infos(self) -> list[BackendInfo | None]:
        """Return how full the backend is, as a list of one; None if it cannot say."""
        return [self._session().info()]

    @property
    def tiers(self) -> tuple[SampleCache]:
        """This cache, as the only tier."""
        return (self,)

    @property
    def scope(self) -> Scope:
        """Who shares the entries: this process, the machine, or the network."""
        return self._session().scope

    def clear(self) -> None:
        """Remove all samples, for all users of the namespace."""
        session = self._session()
        session.clear()
        refresh(self, session, self._evidence)

    def close(self) -> None:
        """Let go of the backend; entries that are not kept go with their last user."""
        self._closed = True
        if self._current is not None:
            self._current.close()

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_current": None, "_opening": {}}
        if get_spawning_popen() is None:  # not for a child: perhaps for another machine
            del state["_place"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "_place" in state:  # a fork server has the environment of the moment when it started
            set_default_base(self._place)
        else:
            self._place = default_base()
