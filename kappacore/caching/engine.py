"""The engine: reads samples through a backend, each from its source once."""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore.caching.claims import CLAIM_TTL, renewing
from kappacore.caching.codec import default_codec
from kappacore.caching.guard import Evidence, compare_with_source, look_at_source
from kappacore.caching.record import agree
from kappacore.caching.session import Session, warn_if_useless
from kappacore.errors import (
    CacheClosedError,
    CacheError,
    CorruptValueError,
    DatasetTypeError,
    IndexOutOfRangeError,
    InvalidOptionError,
    UncacheableValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappacore.caching.backend import BackendInfo, Buffer, Scope
    from kappacore.caching.codec import Codec
    from kappacore.caching.namespace import Identity
    from kappacore.caching.stats import CacheStats
    from kappacore.plugins import PluginRef

    Load = Callable[[list[int]], Sequence[Any]]

__all__ = ["SampleCache"]

_WAIT_FIRST, _WAIT_MOST = 0.0005, 0.05  # seconds between looks at what others are loading
_COLUMN_BATCH = 256
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
        alone: bool = True,
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
        self.alone = alone
        self._name = identity.digest_name
        self._evidence: Evidence = {}
        self._token = uuid.uuid4().hex  # of this object and its copies in workers
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
        always = self.verify == "always" or session.backend.verify_always
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
            with renewing(session, claimed, CLAIM_TTL):
                found = self._read(session, keys, load)
                samples.update(found)
                self._store(session, keys, list(found.values()))
        finally:
            session.release_many(claimed)

    def _read(self, session: Session, keys: list[int], load: Load) -> dict[int, Any]:
        """Read samples from the source."""
        started = time.perf_counter()
        values = load(keys)
        session.counters.add(
            misses=len(keys),
            source_reads=len(keys),
            seconds_source=time.perf_counter() - started,
        )
        if len(values) != len(keys):
            raise DatasetTypeError(
                f"The dataset {self.identity.description['dataset']} returned {len(values)} "
                f"samples when asked for a batch of {len(keys)}; expected one for each index."
            )
        return dict(zip(keys, values, strict=True))

    def _store(self, session: Session, keys: list[int], values: Sequence[Any]) -> None:
        name = self._name
        items: list[tuple[int, Sequence[Buffer]]] = []
        sizes: list[int] = []
        for key, value in zip(keys, values, strict=True):
            try:
                pieces = self.codec.encode(value, key, name)
            except UncacheableValueError as error:
                raise UncacheableValueError(
                    f"Sample {key} of {self.identity.description['dataset']}: {error}"
                ) from error
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

    def fill(self, indices: Sequence[int], load: Load) -> int:
        """Load what is neither cached nor being loaded by another process; decode nothing.

        Returns:
            Number of samples loaded.
        """
        session = self._session()
        keys = list(dict.fromkeys(indices))
        found = session.get_many(keys)
        missing = [key for key, buffer in zip(keys, found, strict=True) if buffer is None]
        granted = session.claim_many(missing, CLAIM_TTL) if missing else []
        mine = [key for key, ok in zip(missing, granted, strict=True) if ok]
        self._load(session, mine, [], load, {})
        return len(mine)

    def column(self, load: Load) -> np.ndarray[Any, Any] | None:
        """Return all values as one int64 array, read once and kept as such; None if not all int.

        It lies under a key of its own, 8 bytes a value, whether single values are cached or not.
        """
        session = self._session()
        key = self.length + 1
        pause = _WAIT_FIRST
        while True:
            samples: dict[int, Any] = {}
            _, corrupt = self._look_up(session, [key], samples)
            if samples:
                column: np.ndarray[Any, Any] | None = samples[key]
                return column
            if corrupt or session.claim_many([key], CLAIM_TTL)[0]:
                try:
                    with renewing(session, [key], CLAIM_TTL):
                        return self._read_column(session, key, load)
                finally:
                    session.release_many([key])
            time.sleep(pause)
            pause = min(2 * pause, _WAIT_MOST)

    def _read_column(self, session: Session, key: int, load: Load) -> np.ndarray[Any, Any] | None:
        values: list[Any] = []
        for start in range(0, self.length, _COLUMN_BATCH):
            keys = list(range(start, min(start + _COLUMN_BATCH, self.length)))
            found: dict[int, Any] = {}
            missing, corrupt = self._look_up(session, keys, found)
            if missing or corrupt:
                found.update(self._read(session, missing + corrupt, load))
            batch = [found[key] for key in keys]
            if any(type(value) is not int or not -(2**63) <= value < 2**63 for value in batch):
                return None
            values.extend(batch)
        column = np.array(values, np.int64)
        self._store(session, [key], [column])
        return column

    def _repeat(self, indices: Sequence[int], samples: dict[int, Any]) -> list[Any]:
        """Lay the samples out by index; a sample's second occurrence is a copy."""
        result = []
        seen: set[int] = set()
        for key in indices:
            sample = samples[key]
            if key in seen:
                try:
                    pieces = self.codec.encode(sample, key, self._name)
                    sample = self.codec.decode(b"".join(pieces), key, self._name, verify=False)
                except UncacheableValueError:
                    if self.copy:
                        raise  # else it is a read-only view, which may be given twice
            seen.add(key)
            result.append(sample)
        return result

    def attach(self, load: Load, check: bool = True, *, known: Evidence | None = None) -> Evidence:
        """Open the backend and make sure that its namespace holds this dataset's samples.

        Args:
            load: as for :meth:`fetch`.
            check: whether to load a few samples twice before the first is stored; and to compare
                two entries with the source where only a name, and no fingerprint, says what the
                namespace holds.
            known: what the samples look like, where that was looked at already.

        Returns:
            What the samples look like.

        Raises:
            NondeterministicSourceError: if a sample differs between two reads.
            NamespaceMismatchError: if the namespace holds another dataset's.
            CacheError: if that cannot be found out, because the backend fails.
        """
        session = self._session()

        proved: Evidence | None = None

        def look() -> Evidence:
            nonlocal proved
            proved = known
            if proved is None:
                identity, length = self.identity, self.length
                proved = look_at_source(load, self.codec, identity, length) if check else {}
            return proved

        found = agree(session, self.codec, self.identity, self.length, look)
        self._evidence = found or {}
        if self.identity.fingerprint is not None or self.identity.private:
            return self._evidence  # content of another identity is a miss
        if found is None and session.failing:
            raise CacheError(
                f"The cache backend {session.name!r} fails (the log says how), and only the name "
                f"{self.identity.namespace!r} says what it holds, which cannot be checked now. "
                f"Repair it, or let the dataset define fingerprint(item, raw)."
            )
        if check and proved is None:
            compare_with_source(self._evidence, load, self.codec, self.identity)
        return self._evidence

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
                self.ref,
                self.identity.namespace,
                self.length,
                keep=self.keep,
                strict=self.strict,
                token=self._token,
            )
            self._current = session
            if self.alone:
                warn_if_useless(session)
        return session

    def stats(self) -> CacheStats:
        """Return the counters, summed over all processes of the machine that use the cache."""
        session = self._current if self._closed and self._current else self._session()
        return session.counters.total()

    def infos(self) -> list[BackendInfo | None]:
        """Return how full the backend is, as a list of one; None if it cannot say."""
        return [self._session().info()]

    @property
    def scope(self) -> Scope:
        """Who shares the entries: this process, the machine, or the network."""
        return self._session().backend.scope

    def clear(self) -> None:
        """Remove all samples, for all users of the namespace."""
        session = self._session()
        session.clear()
        agree(session, self.codec, self.identity, self.length, lambda: self._evidence)

    def close(self) -> None:
        """Let go of the backend; entries that are not kept go with their last user."""
        self._closed = True
        if self._current is not None:
            self._current.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_current": None}
