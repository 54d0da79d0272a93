"""Samples by key: turned into bytes and back, and kept by a backend."""

from __future__ import annotations

import logging
import sys
import time
import uuid
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kappacore._warn import warn
from kappacore.caching.codec.layout import shorten
from kappacore.caching.engine.capacity import CapacityTracker
from kappacore.caching.engine.located import Absence, LocatedValues
from kappacore.errors import CacheWarning, CorruptValueError, UncacheableValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.backends.base import BackendInfo, Buffer
    from kappacore.caching.codec import Codec
    from kappacore.caching.engine.client import BackendClient
    from kappacore.caching.engine.located import Found
    from kappacore.caching.identity.namespace import Identity
    from kappacore.locations import BatchLocation, IntArray

#: Types whose values nobody can change.
_IMMUTABLE = frozenset({bytes, str, int, float, complex, bool, type(None)})

__all__ = ["CHECK_DIGESTS", "Store"]

_CORRUPT_AGAIN = 3  # values, before it is the backend

#: When a value's digest is checked: the mark of a value not read yet, and of one that was.
CHECK_DIGESTS = {"first": (0, 1), "always": (0, 0), "never": (1, 1)}

_NO_LOCATIONS = "the backend {!r} does not say where values lie (locate_many)"
_NO_NUMBERS = "the samples are not single numbers, images, tensors or native arrays of numbers"

log = logging.getLogger("kappacore.cache")


@dataclass(eq=False)
class Store:
    """One process's samples of one namespace.

    Everything that turns keys into samples is here: a batch is looked up, checked, decoded and
    counted as a whole; or it is located in the backend's memory, to be gathered there.

    Args:
        client: This process's use of the backend.
        codec: Turns samples into bytes and back.
        identity: What is cached.
        length: The number of samples.
        check_digests: One of :data:`CHECK_DIGESTS`; ``"always"`` where the backend demands it.
        copy: See :meth:`Codec.decode`.
        columns: Whether the namespace may hold a column of integers.
    """

    client: BackendClient
    codec: Codec
    identity: Identity
    length: int
    _: KW_ONLY
    check_digests: str
    copy: bool | str
    columns: bool

    def __post_init__(self) -> None:
        self.name = self.client.name
        self.counters = self.client.counters
        self._before_check, self._after_check = CHECK_DIGESTS[self.check_digests]
        self._look_for_tensors = self.copy is False
        self._corrupt = 0  # values that were replaced
        self.forget()

    def forget(self) -> None:
        """Start over with a namespace whose header is not known."""
        self.adopt(uuid.uuid4().hex)  # nobody has stored anything under it
        self.ready = False

    def adopt(self, stamp: str) -> None:
        """Read and store values under a header from now on.

        Args:
            stamp: The header's.
        """
        self.digest_name = self.identity.digest_name(stamp)
        self.ready = True
        # A byte a value: whether its digest needs no check (any more).
        self._checked = bytearray([self._before_check]) * self.client.length
        self._located: LocatedValues | None = None  # made when a batch is first located
        #: Why samples are not located in memory; empty as long as they are.
        self.why_not_located = "" if self.client.locates else _NO_LOCATIONS.format(self.name)
        self._corrupt_again = 0  # values in a row that failed their check and did so again
        self.capacity = CapacityTracker(self.name, self.length, self.counters)

    def release(self) -> None:
        """Let go of the backend's memory, which is not to be read any more."""
        self._located = None

    @property
    def failing(self) -> bool:
        """Whether the backend failed a moment ago."""
        return self.client.failing

    @property
    def has_failed(self) -> bool:
        """Whether the backend has ever failed in this process."""
        return self.client.has_failed

    # ---- samples

    def get(self, key: int) -> Any:
        """Return one sample, or an :class:`Absence`; sooner than :meth:`get_many` does."""
        clock = time.perf_counter
        started = clock()
        buffer = self.client.get(key)
        got = clock()
        if buffer is None:
            self.counters.add(seconds_get=got - started)
            return Absence.MISSING
        verify = self.client.verify_always or not self._checked[key]
        try:
            sample = self.codec.decode(buffer, key, self.digest_name, verify=verify, copy=self.copy)
        except CorruptValueError:
            self.counters.add(corrupt=1)
            return Absence.CORRUPT
        self._checked[key] = self._after_check
        self.counters.add_hits(1, len(buffer), got - started, clock() - got)
        if self._look_for_tensors:
            self._report_copied_tensors(sample)
        return sample

    def get_many(
        self, keys: list[int], *, waited: bool = False, copy: bool | str | None = None
    ) -> tuple[dict[int, Any], list[int], list[int]]:
        """Look samples up.

        Args:
            keys: Distinct keys.
            waited: Whether to count them as waited for, and not as hits.
            copy: See :meth:`Codec.decode`; default this store's.

        Returns:
            The samples found, by key; the missing keys; the keys of corrupt values.
        """
        samples: dict[int, Any] = {}
        missing: list[int] = []
        corrupt: list[int] = []
        size = 0
        clock = time.perf_counter
        started = clock()
        buffers = [*self.client.get_many(keys)]  # emptied below; the backend may keep its list
        got = clock()
        decode, name = self.codec.decode, self.digest_name
        copy = self.copy if copy is None else copy
        always = self.client.verify_always
        seen, after_check = self._checked, self._after_check
        for place, key in enumerate(keys):
            buffer = buffers[place]
            if buffer is None:
                missing.append(key)
                continue
            buffers[place] = None  # freed when it is decoded: its memory serves the next sample
            try:
                samples[key] = decode(buffer, key, name, verify=always or not seen[key], copy=copy)
            except CorruptValueError:
                corrupt.append(key)
                continue
            seen[key] = after_check
            size += len(buffer)
        hits = 0 if waited else len(samples)
        self.counters.add_hits(hits, size, got - started, clock() - got)
        if waited:
            self.counters.add(waits=len(samples))
        if corrupt:
            self.counters.add(corrupt=len(corrupt))
        if self._look_for_tensors and samples:
            self._report_copied_tensors(next(iter(samples.values())))
        return samples, missing, corrupt

    def locate_many(self, keys: IntArray) -> BatchLocation | None:
        """Return where samples lie in the backend's memory, and count those as hits.

        A value that this process has not seen yet is checked as :meth:`get` does. Those that are
        absent or corrupt are missing in the location.

        Args:
            keys: (N,) keys; may repeat.

        Returns:
            None if the backend cannot locate values, or one is neither an array, a tensor, an
            image nor a byte string.
        """
        if self.why_not_located:
            return None
        started = time.perf_counter()
        found = self.client.locate_many(keys)
        if found is None:
            if not self.failing:
                self.why_not_located = _NO_LOCATIONS.format(self.name)
            return None
        if self._located is None:
            self._located = LocatedValues(self.client.length)
        answer = self._located.locate(keys, found, self._check, again=self.checks_always)
        if answer is None:
            self.why_not_located = _NO_NUMBERS
            return None
        location, size = answer
        hits = len(keys) - len(location.missing)
        self.counters.add_hits(hits, size, time.perf_counter() - started, 0.0)
        return location

    @property
    def checks_always(self) -> bool:
        """Whether the digest of a value is checked at each read."""
        return self.client.verify_always or not self._after_check

    def _check(self, key: int, view: memoryview) -> Found | Absence | None:
        """Check a value that is to be located, and find the numbers in it."""
        verify = self.client.verify_always or not self._checked[key]
        try:
            found = self.codec.locate(view, key, self.digest_name, verify=verify)
        except CorruptValueError:  # counted by who replaces it
            return Absence.CORRUPT
        self._checked[key] = self._after_check
        return found

    def _report_copied_tensors(self, sample: Any) -> None:
        """Say once, at the first sample, that ``copy=False`` copies tensors."""
        self._look_for_tensors = False
        if _holds_tensor(sample) and self.counters.first_to("report-copied-tensors"):
            log.warning(
                "copy=False gives read-only views, which torch's tensors cannot be: the tensors "
                "of %s are copied. copy='unsafe' gives tensors that lie in the cache; writing to "
                "one changes the sample for everybody.",
                self.identity.description["dataset"],
            )

    def encode(self, key: int, sample: Any) -> list[Buffer]:
        """Return a sample as it is stored; the pieces may lie in the sample's own memory.

        Raises:
            UncacheableValueError: If it holds what the codec cannot keep.
        """
        return self._encode(key, sample, self.digest_name)

    def _encode(self, key: int, sample: Any, name: str) -> list[Buffer]:
        try:
            pieces = self.codec.encode(sample, key, name)
        except UncacheableValueError as error:
            raise UncacheableValueError(
                f"Sample {key} of {self.identity.description['dataset']}: {error}"
            ) from error
        # A server's memory is for all machines, and no value is located there.
        return shorten(pieces, key, name) if self.client.scope == "network" else pieces

    def detach(self, key: int, sample: Any, *, wanted: bool = True) -> tuple[Sequence[Buffer], Any]:
        """Return a sample of the source, which may use its memory again, as what nobody changes.

        Args:
            key: Its key.
            sample: The sample.
            wanted: Whether it is to be used, and not only stored.

        Returns:
            The sample as it is stored, and the sample as a later read will give it.

        Raises:
            UncacheableValueError: If it holds what the codec cannot keep.
        """
        name = self.digest_name  # once: another thread may find the namespace cleared meanwhile
        pieces = self._encode(key, sample, name)
        if self._is_final(sample):
            return pieces, sample
        data = bytearray().join(pieces)
        return [data], self._decode_own(data, key, name) if wanted else None

    def _is_final(self, sample: Any) -> bool:
        """Return whether nobody can change a sample, and a later read gives the same types."""
        kind = type(sample)
        if kind is tuple:
            return all(map(self._is_final, sample))
        return kind in _IMMUTABLE and (self.copy is True or kind is not bytes)

    def _decode_own(self, data: bytearray, key: int, name: str) -> Any:
        """Decode a sample from bytes that only it, and the backend to copy them, will use."""
        copy = "own" if self.copy is True else self.copy
        return self.codec.decode(data, key, name, verify=False, copy=copy)

    def decode_pieces(self, key: int, pieces: Sequence[Buffer]) -> Any:
        """Return a sample that :meth:`detach` has encoded, and count it as a hit."""
        started = time.perf_counter()
        data = b"".join(pieces)
        sample = self.codec.decode(data, key, self.digest_name, verify=False, copy=self.copy)
        self.counters.add_hits(1, len(data), 0.0, time.perf_counter() - started)
        return sample

    def put_many(self, values: dict[int, Sequence[Buffer]]) -> None:
        """Store encoded samples by their keys; those without room are counted as refused."""
        if not self.ready:  # the namespace was cleared a moment ago, or its backend is down
            return
        items: list[tuple[int, Sequence[Buffer]]] = []
        sizes: list[int] = []
        for key, pieces in values.items():
            size = sum(map(len, pieces))
            if self.capacity.has_room_for(size):
                items.append((key, pieces))
                sizes.append(size)
        stored = self.client.put_many(items) if items else []
        if stored is None:
            return
        self.counters.add(
            stores=stored.count(True),
            refused=len(values) - len(items) + stored.count(False),
            bytes_stored=sum(size for size, ok in zip(sizes, stored, strict=True) if ok),
        )
        for (key, _), size, ok in zip(items, sizes, stored, strict=True):
            self._checked[key] = self._before_check
            if ok is False:
                self.capacity.note_refusal(size, self.info())

    def fails_again(self, keys: Sequence[int], name: str) -> bool:
        """Return whether values that replaced corrupt ones fail their check as well.

        One corrupt value is an accident, and one stored under an older header is none. Only when
        some in a row fail right after they were stored, the backend does not keep what it is given.

        Args:
            keys: Keys whose values were replaced just now.
            name: The :attr:`digest_name` before that.
        """
        most = min(_CORRUPT_AGAIN, self.length)
        self._corrupt += len(keys)
        if self._corrupt == 1 or self._corrupt_again >= most:  # an accident; said already
            return False
        keys = keys[:most]
        again = self._corrupt_again
        for key, buffer in zip(keys, self.client.get_many(keys), strict=True):
            if buffer is not None:
                again = again + 1 if self._is_corrupt(key, buffer, name) else 0
        self._corrupt_again = again if name == self.digest_name else 0
        return self._corrupt_again >= most

    def report_corrupt(self, *, strict: bool) -> None:
        """Say once that the backend does not return what it was given.

        Raises:
            CorruptValueError: If ``strict``.
        """
        stats = self.counters.total()
        text = (
            f"The cache backend {self.name!r} does not return what it was given: {stats.corrupt} "
            f"values have failed their check and {stats.hits} have passed it; the last ones "
            f"failed again right after they were stored anew. These samples are read from the "
            f"source each time. Repair what stores them, or use another backend."
        )
        if strict:
            raise CorruptValueError(text)
        if self.counters.first_to("report-corrupt"):
            warn(f"{text} strict=True would raise instead.", CacheWarning)

    def _is_corrupt(self, key: int, buffer: Buffer, name: str) -> bool:
        try:
            self.codec.decode(buffer, key, name, copy=False)
        except CorruptValueError:
            return True
        return False

    def duplicate(self, sample: Any, key: int) -> Any:
        """Return a copy that shares nothing with the sample, as a hit of its own.

        Raises:
            UncacheableValueError: If it holds what the codec cannot keep, such as views.
        """
        started = time.perf_counter()
        if not self._is_final(sample):
            name = self.digest_name
            data = bytearray().join(self.codec.encode(sample, key, name))
            sample = self._decode_own(data, key, name)
        self.counters.add_hits(1, 0, 0.0, time.perf_counter() - started)
        return sample

    # ---- what is not a sample

    def get_buffers(self, keys: Sequence[int]) -> list[Buffer | None]:
        """Return what is stored under keys, as bytes."""
        return self.client.get_many(keys)

    def get_column(self) -> Any:
        """Return what is stored as the column: an array of shape (N,), None, or an absence."""
        key = self.length + 1
        buffer = self.client.get(key)
        if buffer is None:
            return Absence.MISSING
        verify = self.client.verify_always or not self._checked[key]
        try:
            values = self.codec.decode(buffer, key, self.digest_name, verify=verify, copy=False)
            if values is not None and np.shape(values) != (self.length,):
                raise CorruptValueError(f"A column of {self.length} integers is {values!r:.200}.")
        except CorruptValueError:
            self.counters.add(corrupt=1)
            return Absence.CORRUPT
        self._checked[key] = self._after_check
        return values

    def put_column(self, values: Any) -> bool:
        """Store an array of shape (N,), or None, as the column; return False if that fails."""
        key = self.length + 1
        stored = self.client.put_many([(key, self.codec.encode(values, key, self.digest_name))])
        self._checked[key] = self._before_check
        return bool(stored and stored[0])

    def generation(self) -> object:
        """Return what changes when the namespace is cleared, as last seen; None if unknown."""
        return self.client.generation()

    def put_header(self, pieces: Sequence[Buffer]) -> bool:
        """Store the header of the namespace; return False if that fails.

        Raises:
            SizeLimitError: If the backend has no room even for that.
        """
        stored = self.client.put_many([(self.length, pieces)])
        if stored == [False]:
            self.capacity.note_refusal(sum(map(len, pieces)), self.info(), header=True)
        return stored == [True]

    def info(self) -> BackendInfo | None:
        """Return how full the backend is, its entries being the samples alone."""
        info = self.client.info()
        if info is None:
            return None
        others = 1  # the header
        if self.columns and self.client.get(self.length + 1) is not None:
            others = 2
        return replace(info, entries=min(max(0, info.entries - others), self.length))


def _holds_tensor(value: Any) -> bool:
    """Return whether a decoded value is a tensor or holds one."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return True
    if type(value) is dict:
        return any(map(_holds_tensor, value.values()))
    return type(value) in (tuple, list) and any(map(_holds_tensor, value))
