"""Proving that a namespace holds the samples of the dataset at hand, and no other's.

A name or a fingerprint is a claim; the digests in the namespace's header are what proves it. They
are made at the first read of an empty namespace, and compared with the source at the first read of
one that somebody has filled.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import xxhash

from kappacore.caching.identity.determinism import (
    Source,
    check_determinism,
    random_states_restored,
    samples_looked_at,
    value_digest,
)
from kappacore.caching.identity.header import NamespaceHeader
from kappacore.errors import (
    CacheError,
    CorruptValueError,
    NamespaceMismatchError,
    UncacheableValueError,
)
from kappacore.machine.locks import locked, open_lock
from kappacore.machine.system import NO_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.codec import Codec
    from kappacore.caching.identity.determinism import LoadSamples
    from kappacore.caching.identity.header import SampleDigests
    from kappacore.caching.identity.namespace import Identity
    from kappacore.machine.waiting import Wait

__all__ = ["NamespaceProof"]

LOOKING = -1  # the key of a load that is a look at the source


class Entries(Protocol):
    """The entries of one namespace: what is asked here of the engine's store."""

    name: str
    codec: Codec
    identity: Identity
    length: int

    @property
    def failing(self) -> bool: ...
    @property
    def has_failed(self) -> bool: ...
    def get_buffers(self, keys: Sequence[int]) -> list[Buffer | None]: ...
    def put_header(self, pieces: Sequence[Buffer]) -> bool: ...
    def generation(self) -> object: ...
    def adopt(self, stamp: str) -> None: ...
    def forget(self) -> None: ...


class KeyClaims(Protocol):
    """Claims on keys, so that one process writes and the others wait."""

    def hold(
        self, keys: list[int], work: Callable[[Any], Any], *, unclaimed: Iterable[int] = ()
    ) -> Any: ...
    def loads_here(self) -> list[Any]: ...
    def alone(self, key: int, work: Callable[[], bool], what: str) -> bool: ...
    def wait_for(self, keys: list[int], what: str = "") -> Wait: ...


@dataclass(eq=False)
class NamespaceProof:
    """What one process knows about whose samples a namespace holds.

    Args:
        entries: The entries of the namespace.
        claims: Claims on their keys.
        check: Whether to read samples of the source, to look at its determinism and to compare
            them with the header.
        token: Names the cache object, in all processes that use it.
        folder: Where these processes note what was proved; None if there is none.
        own_entries: Whether each process has entries of its own.
    """

    entries: Entries
    claims: KeyClaims
    _: KW_ONLY
    check: bool
    token: str
    folder: Path | None
    own_entries: bool
    #: The header that was proved to be this source's, and that samples are stored under.
    header: NamespaceHeader | None = field(default=None, init=False)
    _attached: bool = field(default=False, init=False)
    _kept: bool = field(default=True, init=False)  # whether the backend has the header
    _generation: object = field(default=None, init=False)  # that the header was seen in

    @property
    def looking_here(self) -> bool:
        """Whether this thread is looking at the source, which reads through its own cache."""
        return any(LOOKING in load.keys for load in self.claims.loads_here())

    def attach(self) -> None:
        """Compare the claims in the header, if there is one; no sample is read.

        A backend that is down is compared when it answers again: see :meth:`establish`.

        Raises:
            NamespaceMismatchError: If it is another dataset's.
        """
        self._find()
        self._attached = True

    @property
    def _may_be_down(self) -> bool:
        return self.entries.has_failed or not self._attached

    def establish(self, load: LoadSamples, known: SampleDigests | None = None) -> SampleDigests:
        """Prove the header, or write it if there is none, unless that was done.

        While the backend fails, nothing is proved; its entries are not to be used before.

        Args:
            load: Reads samples from the source.
            known: Digests of the source's samples, where they were taken just now.

        Returns:
            Digests of a few samples of the source; none if the backend fails.

        Raises:
            NondeterministicSourceError: If two reads of a sample differ.
            NamespaceMismatchError: If the namespace holds another dataset's samples.
        """
        if self.header is None and not self.looking_here:
            self._alone(lambda: self._establish_first(load, known))
        header = self.header
        return {} if header is None else header.digests

    def _establish_first(self, load: LoadSamples, known: SampleDigests | None) -> bool:
        # A backend that is down shows it here, and not while others wait for the note.
        if self.header is None and not self.entries.failing and self._may_be_down:
            self._find()
        if self.header is None and not self.entries.failing:
            self._noting(lambda noted: self._establish(load, known, noted, None))
        return True

    def renew(self, load: LoadSamples, *, looked_up: bool = False) -> bool:
        """Look at a miss whether the namespace was cleared meanwhile, and start over if it was.

        Args:
            load: Reads samples from the source.
            looked_up: Whether a key was looked up just now, and found absent. The backend may then
                know that nobody has cleared the namespace.

        Returns:
            Whether it was.
        """
        before = self.header
        if before is not None and looked_up and self._is_same_generation():
            return False
        if before is not None and self._is_current(before)[0]:
            return False  # as nearly always: without waiting for other threads
        return self._alone(lambda: self._renew(load))

    def _renew(self, load: LoadSamples) -> bool:
        before = self.header
        if before is None:
            return False
        current, corrupt = self._is_current(before)
        if corrupt:  # it alone: what was stored under it is as good as before
            self._write(before)
        if corrupt or current:
            return False
        self._noting(lambda noted: self._establish(load, None, noted, before))
        return True

    def _is_current(self, header: NamespaceHeader) -> tuple[bool, bool]:
        """Return whether the namespace has this header still, as far as known; and as _find()."""
        if not self._kept:
            return True, False
        found, corrupt = self._find()
        same = found is not None and found.stamp == header.stamp
        return same or self.entries.failing, corrupt

    def clear(self, clear: Callable[[], None]) -> None:
        """Clear the namespace, and forget what was proved: the source may have changed."""
        nested = self.looking_here  # then this thread has the note already

        def forget(_: NamespaceHeader | None = None) -> None:
            clear()
            self.header = None

        def do() -> bool:
            if nested:
                forget()
            else:
                self._noting(forget)
            return True

        self._alone(do)

    def _alone(self, work: Callable[[], bool]) -> bool:
        """Do what one thread at a time may do."""
        return self.claims.alone(LOOKING, work, self._look)

    @property
    def _look(self) -> str:
        name = self.entries.identity.namespace
        return f"the first look at the samples of the cache namespace {name!r} is being taken"

    def _noting(self, work: Callable[[NamespaceHeader | None], NamespaceHeader | None]) -> None:
        """Do what only one process that uses the cache object may do; note what it returns."""
        note = None if self.folder is None else _open_note(self.folder, self.token)
        if note is None:
            work(None)
        else:
            note.update(work)

    def _establish(
        self,
        load: LoadSamples,
        known: SampleDigests | None,
        noted: NamespaceHeader | None,
        cleared: NamespaceHeader | None,
    ) -> NamespaceHeader | None:
        """Prove the header, or write it; return what is proved of it on this machine."""
        entries = self.entries
        codec, identity, key = entries.codec, entries.identity, entries.length
        load = getattr(load, "source", load)  # not what another cache gives
        source = Source(load, codec, identity)
        self.header = None
        entries.forget()
        wait = self.claims.wait_for([key], self._look)
        while True:
            header, corrupt = self._find()
            if header is not None:
                if self.check and (noted is None or noted.stamp != header.stamp):
                    header = self._prove(header, source)
                break
            if entries.failing:
                return noted

            def write_first(progress: Any, corrupt: bool = corrupt) -> NamespaceHeader | None:
                if not (progress.claimed or corrupt):
                    return None
                if noted is not None and self.own_entries and cleared is None:
                    digests, stamp = noted.digests, noted.stamp  # another process has looked
                else:
                    digests, stamp = known or {}, uuid.uuid4().hex
                    if self.check and not known:
                        look = getattr(load, "look", None)  # of an ItemLoad
                        if look is not None:
                            indices = samples_looked_at(identity.namespace, entries.length)
                            look(indices, source.digest_value)
                        digests = check_determinism(source, entries.length)
                written = NamespaceHeader.of(identity, digests, stamp)
                self._write(written)
                return written

            header = self.claims.hold([key], write_first)
            if header is not None:
                if not self._kept and entries.failing:
                    return noted
                break
            wait.pause()
        self.header = header
        entries.adopt(header.stamp)
        return header

    def _is_same_generation(self) -> bool:
        """Return whether the backend knows that the header is where it was last seen."""
        return self._generation is not None and self._generation == self.entries.generation()

    def _find(self) -> tuple[NamespaceHeader | None, bool]:
        """Return the header, or None and whether it is there but damaged."""
        codec, identity, key = self.entries.codec, self.entries.identity, self.entries.length
        self._generation = None
        before = self.entries.generation()
        buffer = self.entries.get_buffers([key])[0]
        if buffer is not None and before == self.entries.generation():
            self._generation = before
        if buffer is None:
            return None, False
        try:
            header = NamespaceHeader.decode(codec, buffer, key, identity.namespace)
        except CorruptValueError:
            return None, True
        header.check(identity)
        return header, False

    def _write(self, header: NamespaceHeader) -> None:
        codec, identity, key = self.entries.codec, self.entries.identity, self.entries.length
        self._generation = None
        before = self.entries.generation()
        self._kept = self.entries.put_header(header.encode(codec, key, identity.namespace))
        if self._kept and before == self.entries.generation():
            self._generation = before

    def _prove(self, header: NamespaceHeader, source: Source) -> NamespaceHeader:
        """Compare all digests of a header with the source; sign it if it has none."""
        name, digests = source.identity.namespace, {}
        chosen = list(header.digests) or samples_looked_at(name, self.entries.length)
        idx = 0
        try:
            with random_states_restored():
                for idx in chosen:
                    digests[idx] = source.digest(idx)
        except UncacheableValueError:
            raise
        except Exception as error:
            raise CacheError(
                f"The cache namespace {name!r} was filled by another process or cache. Before its "
                f"samples are used, a few are compared with the source, and sample {idx} cannot "
                f"be read there: {type(error).__name__}: {error}. Repair the source; or, if you "
                f"know that these are its samples, check=False skips the comparison."
            ) from error
        if not header.digests:  # written with check=False
            return self._sign(header, digests)
        for idx, digest in digests.items():
            if digest != header.digests[idx]:
                raise _mismatch(source.identity, idx)
        return header

    def _sign(self, header: NamespaceHeader, digests: SampleDigests) -> NamespaceHeader:
        """Add digests to a header of somebody who took none.

        What was stored under it is believed if those of these samples that are stored are equal.
        """
        codec, identity = self.entries.codec, self.entries.identity
        name = identity.digest_name(header.stamp)
        compared = 0
        for idx, buffer in zip(digests, self.entries.get_buffers(list(digests)), strict=True):
            if buffer is None:
                continue
            try:
                stored = codec.decode(buffer, idx, name)
            except CorruptValueError:
                continue
            if value_digest(codec, stored) != digests[idx]:
                raise _mismatch(identity, idx)
            compared += 1
        stamp = header.stamp
        if not compared:
            stamp = xxhash.xxh3_128_hexdigest(f"{stamp} {sorted(digests.items())}".encode())
        signed = replace(header, digests=digests, stamp=stamp)
        self._write(signed)
        return signed


def _mismatch(identity: Identity, idx: int) -> NamespaceMismatchError:
    claim = "name" if identity.fingerprint is None else f"fingerprint {identity.fingerprint!r}"
    return NamespaceMismatchError(
        f"The cache namespace {identity.namespace!r} holds other samples than this dataset, though "
        f"the {claim} is the same: sample {idx} differs. Either it was filled from other content "
        f"(give this dataset another namespace=, or clear() the cache), or the dataset returns "
        f"something new at each read (cache what is below the random part), or another version of "
        f"a library, such as an image decoder, gives other values (clear() the cache). "
        f"check=False skips this comparison."
    )


class _Note:
    """The header that one cache object has proved on this machine, in a file of its own.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._lock_path = path
        self._file = open_lock(path)  # no child keeps it
        self._lock_fd = self._file.fileno()

    @locked
    def update(self, work: Callable[[NamespaceHeader | None], NamespaceHeader | None]) -> None:
        """Do work that needs the noted header, alone among all processes; note what it returns."""
        fd = self._lock_fd
        text = os.pread(fd, os.fstat(fd).st_size, 0)
        try:
            stamp, digests = json.loads(text)
            noted = NamespaceHeader({}, {int(idx): found for idx, found in digests.items()}, stamp)
        except ValueError:  # nothing yet, or half of it as its writer was killed
            noted = None
        header = work(noted)
        if header is not None and header is noted:
            return
        os.ftruncate(fd, 0)
        if header is not None:
            try:
                os.pwrite(fd, json.dumps([header.stamp, header.digests]).encode(), 0)
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                os.ftruncate(fd, 0)  # the next process proves it again


def _open_note(folder: Path, token: str) -> _Note | None:
    path = folder / f"proved-{token}"
    try:
        return _Note(path)
    except FileNotFoundError:  # somebody has removed the folder
        return None
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        return None
