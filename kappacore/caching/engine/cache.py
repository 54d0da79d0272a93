"""The engine: reads samples through a backend, each from its source once."""

from __future__ import annotations

import os
import sys
import threading
import uuid
from dataclasses import KW_ONLY, dataclass, field
from multiprocessing import parent_process
from multiprocessing.context import get_spawning_popen
from typing import TYPE_CHECKING, Any

from kappacore._warn import warn
from kappacore.caching.codec import Codec, check_copy, default_codec
from kappacore.caching.engine.claims import Claims
from kappacore.caching.engine.client import BackendClient
from kappacore.caching.engine.integer_column import IntegerColumn
from kappacore.caching.engine.loader import (
    load_claimed,
    load_missing,
    load_nested,
    read_source,
)
from kappacore.caching.engine.located import Absence
from kappacore.caching.engine.store import CHECK_DIGESTS, Store
from kappacore.caching.identity.namespace import EXTRA_KEYS
from kappacore.caching.identity.verify import NamespaceProof
from kappacore.errors import (
    CacheClosedError,
    CacheWarning,
    IndexOutOfRangeError,
    InvalidOptionError,
    UncacheableValueError,
)
from kappacore.machine.folders import default_base, set_default_base

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from kappacore.caching.backends.base import BackendInfo, Scope
    from kappacore.caching.identity.determinism import LoadSamples
    from kappacore.caching.identity.header import SampleDigests
    from kappacore.caching.identity.namespace import Identity
    from kappacore.caching.stats import CacheStats
    from kappacore.locations import BatchLocation, IntArray
    from kappacore.plugins import PluginRef

__all__ = ["SampleCache"]


@dataclass(frozen=True)
class _Opened:
    """What a cache consists of in one process."""

    pid: int
    client: BackendClient
    store: Store
    claims: Claims
    column: IntegerColumn
    proof: NamespaceProof


@dataclass(eq=False, repr=False)
class SampleCache:
    """A backend, a codec, a namespace and counters: what stands between a dataset and its source.

    It opens its backend anew in every process that uses it and pickles as its description.

    Args:
        ref: The backend and its options.
        identity: What is cached.
        length: The number of samples.
        codec: Turns samples into bytes and back.
        keep: How long entries stay after their last user left, in seconds; ``inf``: for ever.
        strict: Raise what a failing backend raises instead of reading the source.
        check_digests: Check a value's digest on its ``"first"`` read in a process, ``"always"`` or
            ``"never"``; values from the network are always checked.
        copy: See :meth:`Codec.decode`.
        columns: Whether the values may be integers, and :meth:`column` be called.
        alone: Whether no other cache lies behind this one.
        check: Whether to look at a few samples of the source before the first is stored or
            served; see :class:`NamespaceProof`.
    """

    ref: PluginRef
    identity: Identity
    length: int
    _: KW_ONLY
    codec: Codec = field(default_factory=default_codec)
    keep: float = 0.0
    strict: bool = False
    check_digests: str = "first"
    copy: bool | str = True
    columns: bool = False
    alone: bool = True
    check: bool = True

    def __post_init__(self) -> None:
        if self.check_digests not in CHECK_DIGESTS:
            raise InvalidOptionError(
                f"check_digests={self.check_digests!r} is not known. Use one of "
                f"{', '.join(map(repr, CHECK_DIGESTS))}."
            )
        check_copy(self.copy)
        self._token = uuid.uuid4().hex  # of this object and its copies in workers
        self._closed = False
        self._attached = False
        self._current: _Opened | None = None
        self._opening: dict[int, Any] = {}
        self._place = default_base()

    # ---- reading

    def fetch(self, indices: Sequence[int], load: LoadSamples) -> list[Any]:
        """Return the samples at ``indices``; those that are not cached come from ``load``.

        Args:
            indices: (N,) indices of the samples, ``0 … length - 1``; may repeat.
            load: Reads the samples at the given indices from the source, in one call.

        Returns:
            N samples. Repeated ones are independent of each other.
        """
        opened = self._open()
        keys = list(dict.fromkeys(indices))
        if keys and not (min(keys) >= 0 and max(keys) < self.length):
            raise IndexOutOfRangeError(
                f"The indices {keys} are not all in range for {self.length} samples."
            )
        if self._is_proved(opened, load):
            samples, missing, corrupt = opened.store.get_many(keys)
            if missing or corrupt:
                samples |= self._load(opened, missing, corrupt, load)
        else:
            samples = self._read_past(opened, keys, load)
        if len(keys) == len(indices):
            return [samples[key] for key in keys]
        return self._repeat(opened.store, indices, samples, load)

    def fetch_one(self, index: int, load: LoadSamples) -> Any:
        """Return the sample at ``index``: what :meth:`fetch` gives for a batch of one, sooner.

        Args:
            index: The index of the sample, ``0 … length - 1``.
            load: As for :meth:`fetch`.
        """
        opened = self._open()
        if not (opened.store.ready and 0 <= index < self.length):
            return self.fetch([index], load)[0]
        sample = opened.store.get(index)
        if type(sample) is not Absence:
            return sample
        if sample is Absence.MISSING:
            return self._load(opened, [index], [], load)[index]
        return self._load(opened, [], [index], load)[index]

    def locate(self, indices: IntArray, load: LoadSamples) -> BatchLocation | None:
        """Return where the samples at ``indices`` lie in memory; those that are there are hits.

        Args:
            indices: (N,) int64 indices, ``0 … length - 1``; may repeat.
            load: As for :meth:`fetch`.

        Returns:
            None where samples cannot be located: read them by :meth:`fetch`, as those that are
            missing in the location.
        """
        opened = self._open()
        if not opened.store.ready:
            opened.proof.establish(load)
        return opened.store.locate_many(indices)

    def pick_column(self, indices: IntArray) -> IntArray | None:
        """Return samples of the column of integers, if that is known already; see :meth:`column`.

        Args:
            indices: (N,) int64 indices, ``0 … length - 1``; may repeat.
        """
        opened = self._open()
        return opened.column.pick(indices) if self.columns and opened.store.ready else None

    def how_located(self) -> tuple[bool, str]:
        """Return whether samples are located in memory, and how or why not, for people."""
        store = self._open().store
        if store.why_not_located:
            return False, f"sample by sample, as {store.why_not_located}"
        checked = ", after the digest of each was checked" if store.checks_always else ""
        return True, f"gathered from the cache {store.name!r}{checked}"

    def _load(
        self, opened: _Opened, missing: list[int], corrupt: list[int], load: LoadSamples
    ) -> dict[int, Any]:
        """Return samples that the store does not have."""
        samples: dict[int, Any] = {}
        if not opened.claims.loads_here() and opened.proof.renew(load, looked_up=not corrupt):
            opened.column.forget()
            if not opened.store.ready:
                return self._read_past(opened, missing + corrupt, load)
            samples, missing, corrupt = opened.store.get_many(missing + corrupt)
        if self.columns and missing:
            missing = opened.column.take(missing, samples)
        name = opened.store.digest_name
        samples |= load_missing(opened.store, opened.claims, missing, corrupt, load)
        if corrupt and opened.store.fails_again(corrupt, name):
            if opened.proof.renew(load):  # somebody has cleared the namespace meanwhile
                opened.column.forget()
            else:
                opened.store.report_corrupt(strict=self.strict)
        return samples

    def _is_proved(self, opened: _Opened, load: LoadSamples) -> bool:
        """Prove the namespace if need be.

        Returns:
            False if its backend fails, or while this thread is at it already: then the source reads
            through its own cache, of which nothing is known yet.
        """
        if not opened.store.ready:
            opened.proof.establish(load)
        return opened.store.ready

    def _read_past(self, opened: _Opened, keys: list[int], load: LoadSamples) -> dict[int, Any]:
        """Read samples without the backend: it is down, or this thread looks at the source."""
        if opened.proof.looking_here:
            return load_nested(opened.store, opened.claims, keys, load)
        read = zip(keys, read_source(opened.store, keys, load), strict=True)
        return {key: opened.store.detach(key, sample)[1] for key, sample in read}

    def _repeat(
        self, store: Store, indices: Sequence[int], samples: dict[int, Any], load: LoadSamples
    ) -> list[Any]:
        """Lay the samples out by index; a sample's second occurrence is another object."""
        result = []
        seen: set[int] = set()
        for key in indices:
            sample = samples[key]
            if key in seen:
                try:
                    sample = store.duplicate(sample, key)
                except UncacheableValueError:
                    if self.copy is True:
                        raise
                    sample = self.fetch_one(key, load)  # it has views: they come from the cache
            seen.add(key)
            result.append(sample)
        return result

    def take_cached(self, indices: Sequence[int]) -> dict[int, Any]:
        """Return copies of those samples that are cached, and proved to be the source's."""
        store = self._open().store
        return store.get_many(list(indices), copy=True)[0] if store.ready else {}

    def fill(
        self, indices: Sequence[int], load: LoadSamples, *, front: SampleCache | None = None
    ) -> int:
        """Load what is neither cached nor being loaded by another process; decode nothing.

        Args:
            indices: The samples.
            load: Reads samples from the source.
            front: A cache whose samples are taken instead.

        Returns:
            Number of samples loaded.
        """
        opened = self._open()
        if not self._is_proved(opened, load):
            return 0
        if opened.proof.renew(load):
            opened.column.forget()
            if not opened.store.ready:
                return 0
        keys = list(dict.fromkeys(indices))
        found = opened.store.get_buffers(keys)
        missing = [key for key, buffer in zip(keys, found, strict=True) if buffer is None]
        if front is not None and missing and opened.store.ready:
            taken = front.take_cached(missing)
            opened.store.put_many({key: opened.store.encode(key, taken[key]) for key in taken})
            missing = [key for key in missing if key not in taken]
        return len(load_claimed(opened.store, opened.claims, missing, [], load, wanted=False)[0])

    def column(self, load: LoadSamples) -> IntArray | None:
        """Return all values as one int64 array, read once and kept as such.

        None if they are not all int, or the backend fails.
        """
        opened = self._open()
        return opened.column.read(load) if self._is_proved(opened, load) else None

    # ---- opening and closing

    def attach(self) -> None:
        """Open the backend and compare what its namespace is said to hold; read no sample.

        See :meth:`NamespaceProof.attach`.
        """
        self._open()

    def prove(self, load: LoadSamples, known: SampleDigests | None = None) -> SampleDigests:
        """Prove that the namespace holds the source's samples, unless that was done.

        See :meth:`NamespaceProof.establish`.
        """
        return self._open().proof.establish(load, known)

    def _open(self) -> _Opened:
        """Return the parts of this process, opened at the first call."""
        if self._closed:
            raise CacheClosedError(
                f"The cache of {self.identity.description['dataset']} was closed. "
                f"Make a new one to go on reading."
            )
        pid = os.getpid()
        opened = self._current
        if opened is not None and opened.pid == pid:
            return opened
        # A lock of this process: at a fork another thread may hold the parent's.
        with self._opening.setdefault(pid, threading.RLock()):
            opened = self._current
            if opened is None or opened.pid != pid:
                opened = self._current = self._open_here()
        return opened

    def _open_here(self) -> _Opened:
        client = BackendClient(
            self.ref,
            self.identity.namespace,
            self.length + EXTRA_KEYS,
            keep=self.keep,
            strict=self.strict,
            private=self.identity.private,
            token=self._token,
            at_start=not self._attached,
        )
        store = Store(
            client,
            self.codec,
            self.identity,
            self.length,
            check_digests=self.check_digests,
            copy=self.copy,
            columns=self.columns,
        )
        claims = Claims(client, self.identity.description["dataset"])
        if self.alone:
            _warn_if_useless(store)
        proof = NamespaceProof(
            store,
            claims,
            check=self.check,
            token=self._token,
            folder=client.counters.folder,
            own_entries=client.scope == "process",
        )
        if not self._attached:
            try:
                proof.attach()
            except BaseException:
                client.close()
                raise
            self._attached = True
        return _Opened(os.getpid(), client, store, claims, IntegerColumn(store, claims), proof)

    def clear(self) -> None:
        """Remove all samples, for all users of the namespace, and what was proved of them."""
        opened = self._open()
        opened.proof.clear(opened.client.clear)
        opened.store.forget()
        opened.column.forget()

    def close(self) -> None:
        """Close the backend; entries that are not kept go with their last user."""
        self._closed = True
        if self._current is not None:
            self._current.client.close()
            self._current.claims.close()
            self._current.store.release()

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_current": None, "_opening": {}}
        if get_spawning_popen() is None:  # not for a child: perhaps for another machine
            del state["_place"]
            state["_maker"] = os.getpid()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        maker = state.pop("_maker", None)
        self.__dict__.update(state)
        parent = parent_process()
        if maker not in (None, os.getpid(), None if parent is None else parent.pid):
            self._token = uuid.uuid4().hex  # the dataset may be another one by now: proved anew
        if "_place" in state:  # a fork server has the environment of the moment when it started
            set_default_base(self._place)
        else:
            self._place = default_base()

    # ---- what users see of it

    @property
    def full_lately(self) -> bool:
        """Whether a sample found no room a moment ago."""
        return self._open().store.capacity.refused_lately

    @property
    def failing(self) -> bool:
        """Whether the backend failed a moment ago."""
        return self._open().client.failing

    def stats(self) -> CacheStats:
        """Return the counters, summed over all processes of the machine that use the cache."""
        opened = self._current if self._closed and self._current else self._open()
        return opened.client.counters.total()

    def counted_apart(self) -> AbstractContextManager[Callable[[], CacheStats]]:
        """Keep what this process reads in the block out of :meth:`stats`; see Counters.apart."""
        return self._open().client.counters.apart()

    def infos(self) -> list[BackendInfo | None]:
        """Return how full the backend is, as a list of one; None if unknown."""
        return [self._open().store.info()]

    @property
    def tiers(self) -> tuple[SampleCache]:
        """This cache, as the only tier."""
        return (self,)

    @property
    def scope(self) -> Scope:
        """Who shares the entries: this process, the machine, or the network."""
        return self._open().client.scope


def _warn_if_useless(store: Store) -> None:
    """Warn once that a worker's own, empty cache will hardly ever hit."""
    data = sys.modules.get("torch.utils.data")
    if store.client.scope != "process" or data is None or data.get_worker_info() is None:
        return
    info = store.info()
    if info is not None and not info.entries and store.counters.first_to("report-unfilled"):
        warn(
            f"The cache backend {store.name!r} keeps samples in each DataLoader worker apart: "
            f"every worker reads the source for itself, and again in every epoch unless "
            f"persistent_workers=True. Use the backend 'shared' (pip install kappa-shared).",
            CacheWarning,
        )
