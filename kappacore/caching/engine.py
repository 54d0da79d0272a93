"""The engine: reads samples through a backend, each from its source once."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kappacore.caching.codec import default_codec
from kappacore.caching.record import agree, compare
from kappacore.caching.session import CLAIM_TTL, Session
from kappacore.errors import (
    CacheClosedError,
    CacheError,
    CacheWarning,
    CorruptValueError,
    DatasetTypeError,
    IndexOutOfRangeError,
    InvalidOptionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kappacore.caching.backend import BackendInfo, Buffer
    from kappacore.caching.codec import Codec
    from kappacore.caching.namespace import Identity
    from kappacore.caching.stats import CacheStats
    from kappacore.plugins import PluginRef

    Load = Callable[[list[int]], Sequence[Any]]

__all__ = ["SampleCache"]

_WAIT_FIRST, _WAIT_MOST = 0.0005, 0.05  # seconds between looks at what others are loading
_VERIFY = ("first", "always", "never")


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
    ) -> None:
        if verify not in _VERIFY:
            raise InvalidOptionError(
                f"verify={verify!r} is not known. Use one of {', '.join(map(repr, _VERIFY))}."
            )
        self.ref = ref
        self.identity = identity
        self.length = length
        self.codec = default_codec() if codec is None else codec
        self.keep = keep
        self.strict = strict
        self.verify = verify
        self.copy = copy
        self._name = identity.digest_name
        self._closed = False
        self._current: Session | None = None

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
        missing, corrupt = self._look_up(session, keys, samples)
        if missing or corrupt:
            granted = session.claim_many(missing, CLAIM_TTL) if missing else []
            mine = [key for key, ok in zip(missing, granted, strict=True) if ok]
            self._load(session, mine, corrupt, load, samples)
            others = [key for key, ok in zip(missing, granted, strict=True) if not ok]
            if others:
                self._wait(session, others, load, samples)
        if len(keys) == len(indices):
            return [samples[key] for key in keys]
        return self._repeat(indices, samples)

    def _look_up(
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
        decode, name, copy = self.codec.decode, self._name, self.copy
        verified, never = session.verified, self.verify == "never"
        always = self.verify == "always" or session.backend.scope == "network"
        for key, buffer in zip(keys, buffers, strict=True):
            if buffer is None:
                missing.append(key)
                continue
            try:
                check = always or not (never or verified[key])
                samples[key] = decode(buffer, key, name, verify=check, copy=copy)
            except CorruptValueError:
                corrupt.append(key)
                continue
            verified[key] = 1
            size += len(buffer)
        hits = len(keys) - len(missing) - len(corrupt)
        session.counters.add_hits(hits, size, got - started, clock() - got)
        if corrupt:
            session.counters.add(corrupt=len(corrupt))
        return missing, corrupt

    def _load(
        self,
        session: Session,
        claimed: list[int],
        unclaimed: list[int],
        load: Load,
        samples: dict[int, Any],
    ) -> None:
        """Read from the source and store; claims are renewed meanwhile and always given back."""
        keys = claimed + unclaimed
        if not keys:
            return
        try:
            with _renewing(session, claimed):
                started = time.perf_counter()
                values = load(keys)
                session.counters.add(
                    misses=len(keys),
                    source_reads=len(keys),
                    seconds_source=time.perf_counter() - started,
                )
                if len(values) != len(keys):
                    raise DatasetTypeError(
                        f"The dataset {self.identity.description['dataset']} returned "
                        f"{len(values)} samples when asked for a batch of {len(keys)}; expected "
                        f"one for each index."
                    )
                samples.update(zip(keys, values, strict=True))
                self._store(session, keys, values)
        finally:
            session.release_many(claimed)

    def _store(self, session: Session, keys: list[int], values: Sequence[Any]) -> None:
        name = self._name
        items: list[tuple[int, Sequence[Buffer]]] = []
        sizes: list[int] = []
        for key, value in zip(keys, values, strict=True):
            pieces = self.codec.encode(value, key, name)
            size = sum(map(len, pieces))
            if session.has_room_for(size):
                items.append((key, pieces))
                sizes.append(size)
        stored = session.put_many(items) if items else []
        if stored is None:
            return
        good = sum(stored)
        session.counters.add(
            stores=good,
            refused=len(keys) - good,
            bytes_stored=sum(size for size, ok in zip(sizes, stored, strict=True) if ok),
        )
        for (key, _), size, ok in zip(items, sizes, stored, strict=True):
            session.verified[key] = 0
            if not ok:
                session.refused(size)

    def _wait(
        self, session: Session, others: list[int], load: Load, samples: dict[int, Any]
    ) -> None:
        """Wait for what other processes are loading; load what they gave up."""
        session.counters.add(waits=len(others))
        pause = _WAIT_FIRST
        while others:
            time.sleep(pause)
            pause = min(2 * pause, _WAIT_MOST)
            others, corrupt = self._look_up(session, others, samples)
            granted = session.claim_many(others, CLAIM_TTL) if others else []
            mine = [key for key, ok in zip(others, granted, strict=True) if ok]
            self._load(session, mine, corrupt, load, samples)
            others = [key for key, ok in zip(others, granted, strict=True) if not ok]

    def _repeat(self, indices: Sequence[int], samples: dict[int, Any]) -> list[Any]:
        """Lay the samples out by index; a sample's second occurrence is a copy."""
        result = []
        seen: set[int] = set()
        for key in indices:
            sample = samples[key]
            if key in seen:
                name = self._name
                pieces = self.codec.encode(sample, key, name)
                sample = self.codec.decode(b"".join(pieces), key, name, verify=False)
            seen.add(key)
            result.append(sample)
        return result

    def attach(self, load: Load, check: bool = True) -> None:
        """Open the backend and make sure that its namespace holds this dataset's samples.

        Args:
            load: as for :meth:`fetch`.
            check: whether to compare two entries with the source where only a name, and no
                fingerprint, says what the namespace holds.

        Raises:
            NamespaceMismatchError: if it holds another dataset's.
            CacheError: if that cannot be found out, because the backend fails.
        """
        session = self._session()
        agreed = agree(session, self.codec, self.identity, self.length)
        if self.identity.fingerprint is not None or self.identity.private:
            return  # content of another identity is a miss
        if not agreed and session.failing:
            raise CacheError(
                f"The cache backend {session.name!r} fails (the log says how), and only the name "
                f"{self.identity.namespace!r} says what it holds, which cannot be checked now. "
                f"Repair it, or let the dataset define fingerprint(item, raw)."
            )
        if agreed and check:
            compare(session, self.codec, self.identity, self.length, load)

    # ---- lifetime

    def _session(self) -> Session:
        if self._closed:
            raise CacheClosedError(
                f"The cache of {self.identity.description['dataset']} was closed. "
                f"Make a new one to go on reading."
            )
        session = self._current
        if session is None or session.pid != os.getpid():
            session = Session(
                self.ref, self.identity.namespace, self.length, keep=self.keep, strict=self.strict
            )
            self._current = session
            _warn_if_useless(session)
        return session

    def stats(self) -> CacheStats:
        """Return the counters, summed over all processes of the machine that use the cache."""
        session = self._current if self._closed and self._current else self._session()
        return session.counters.total()

    def info(self) -> BackendInfo | None:
        """Return how full the backend is; None if it cannot say."""
        return self._session().info()

    def clear(self) -> None:
        """Remove all samples, for all users of the namespace."""
        session = self._session()
        session.clear()
        agree(session, self.codec, self.identity, self.length)

    def close(self) -> None:
        """Let go of the backend; entries that are not kept go with their last user."""
        self._closed = True
        if self._current is not None:
            self._current.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_current": None}


@contextmanager
def _renewing(session: Session, keys: list[int]) -> Iterator[None]:
    """Renew claims from a thread as long as the block runs."""
    if not (session.claims and keys):
        yield
        return
    done = threading.Event()

    def renew() -> None:
        while not done.wait(CLAIM_TTL / 3):
            session.claim_many(keys, CLAIM_TTL)

    thread = threading.Thread(target=renew, name="kappacore-claims", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _warn_if_useless(session: Session) -> None:
    """Say once that a worker's own, empty cache will hardly ever hit."""
    if session.backend.scope != "process":
        return
    data = sys.modules.get("torch.utils.data")
    if data is None or data.get_worker_info() is None:
        return
    info = session.info()
    if info is not None and info.entries <= 1 and session.counters.first_to("report-unfilled"):
        warnings.warn(
            f"The cache backend {session.name!r} keeps samples in each DataLoader worker apart: "
            f"every worker reads the source for itself, and again in every epoch unless "
            f"persistent_workers=True. Use the backend 'shared' (pip install kappa-shared).",
            CacheWarning,
            stacklevel=2,
        )
