"""Claims: which process loads which sample, so that no two read the same one at the same time."""

from __future__ import annotations

import io
import logging
import threading
import time
import weakref
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from kappacore._warn import warn
from kappacore.errors import CacheWarning
from kappacore.machine.claims import Load, open_claims
from kappacore.machine.waiting import PAUSE_MOST, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.engine.client import BackendClient
    from kappacore.machine.processes import Claimant

__all__ = ["CLAIM_TTL", "Claims", "Progress"]

log = logging.getLogger("kappacore.cache")

T = TypeVar("T")

#: Seconds after which the claims of a stopped process are void, and claims among machines that
#: nobody has renewed.
CLAIM_TTL = 5.0

#: Seconds of the longest pause between two questions whether a claim of another machine has ended.
_NETWORK_PAUSE = 0.5

#: Seconds that a claim may last of which nobody knows whose it is.
DOUBT_AFTER = 30.0


@dataclass(eq=False)
class Progress:
    """A load in progress.

    Args:
        thread: The thread that loads.
        keys: The keys that it reads from the source.
        claimed: Those of them that it has claimed.
        values: What it has read so far, as it is stored.
    """

    thread: int
    keys: set[int]
    claimed: list[int] = field(default_factory=list)
    values: dict[int, Sequence[Buffer]] = field(default_factory=dict)
    #: An open file (or what is like one) that is closed by whatever ends the load.
    file: Callable[[], io.IOBase | None] = lambda: None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        file = self.file()
        return file is None or file.closed


class ClaimWait(Wait):
    """A wait for the claims of others on keys to end; it ends claims that are nobody's.

    Args:
        claims: The claims.
        keys: The keys.
        what: See :meth:`Claims.wait_for`.
    """

    def __init__(self, claims: Claims, keys: Sequence[int], what: str) -> None:
        self._claims = claims
        self._keys = list(keys)
        # Not of self: a circle would keep the cache open until it is collected.
        super().__init__(partial(claims.describe, self._keys, what), claims.longest_pause)
        self._doubt_at = time.monotonic() + DOUBT_AFTER

    def pause(self, keys: Sequence[int] | None = None) -> None:
        """Sleep for a moment, and say what is waited for now and then.

        Args:
            keys: Those that are still waited for; default the same as before.
        """
        super().pause()
        now = time.monotonic()
        if keys is not None and len(keys) != len(self._keys):  # others are at work
            self._keys[:] = keys
            self._doubt_at = now + DOUBT_AFTER
        if now >= self._doubt_at:
            self._doubt_at = now + DOUBT_AFTER
            self._claims.doubt(self._keys)


class Claims:
    """The claims of one process on keys of a namespace, against other processes and threads.

    They are the backend's where it has claims of its own. Otherwise they are the machine's, or of
    this process alone if its entries are too.

    Args:
        client: This process's use of the backend.
        what: The dataset, for those who wait.
    """

    def __init__(self, client: BackendClient, what: str = "") -> None:
        self._client = client
        self._what = what
        without = not client.has_claims and client.scope != "process"
        self._machine = open_claims(client.counters.folder, client.length) if without else None
        self._loads: list[Progress] = []  # of all threads of this process
        # Reentrant: an interrupt may leave a lock with its thread, which must not wait for itself.
        self._lock = threading.RLock()
        self._doubted = False  # whether the backend refuses claims that nobody has

    # ---- loading

    def hold(
        self, keys: Sequence[int], work: Callable[[Progress], T], *, unclaimed: Iterable[int] = ()
    ) -> T:
        """Claim keys, do work, and release the claims, whatever ends it.

        Args:
            keys: The keys.
            work: Called with the load; those of its keys that are claimed are to be loaded.
            unclaimed: Keys that are loaded without a claim.

        Returns:
            What ``work`` returns.
        """
        progress = Progress(threading.get_ident(), set(unclaimed))
        with self._begin(progress, keys):  # without a name, see kappacore.machine.claims.Load
            end = self._renew(progress)
            try:
                result = work(progress)
            except BaseException:
                try:
                    end()
                except Exception:  # the caller must see what went wrong first
                    log.info("claims were not released", exc_info=True)
                raise
            end()
        return result

    def alone(self, key: int, work: Callable[[], T], what: str) -> T:
        """Do work that only one thread of this process may do at a time; the others wait for it.

        A thread that is at it already does not wait for itself.

        Args:
            key: Stands for the work among the keys of loads.
            work: The work.
            what: What is being done, for those who wait.

        Returns:
            What ``work`` returns.
        """
        if any(key in load.keys for load in self.loads_here()):
            return work()
        wait = Wait(lambda: f"{what} by another thread of this process")
        while True:
            progress = Progress(threading.get_ident(), set())
            with self._begin_here(progress, key):  # without a name, as in hold()
                if key in progress.keys:
                    return work()
            wait.pause()

    def _begin(self, progress: Progress, keys: Sequence[int]) -> io.IOBase:
        """Claim what can be claimed; closing what this returns gives it up."""
        others = progress.keys.copy()
        load = self._begin_among_processes() if keys else None
        file = load or io.BytesIO()
        try:
            mine = self._register(progress, keys, file)
            if mine:
                progress.claimed = self._claim(mine, load)
                progress.keys = others.union(progress.claimed)
        except BaseException:
            file.close()
            raise
        return file

    def _begin_here(self, progress: Progress, key: int) -> io.IOBase:
        """Claim a key against other threads alone; closing what this returns gives it up."""
        file = io.BytesIO()
        try:
            self._register(progress, [key], file)
        except BaseException:
            file.close()
            raise
        return file

    def _register(self, progress: Progress, keys: Sequence[int], file: io.IOBase) -> list[int]:
        """Add a load to those of this process; return its keys that no other one has."""
        progress.file = weakref.ref(file)
        with self._lock:
            self._loads = [each for each in self._loads if not each.over]
            taken = {key for each in self._loads for key in each.keys}
            mine = [key for key in keys if key not in taken]
            progress.keys.update(mine)
            self._loads.append(progress)
        return mine

    def _begin_among_processes(self) -> Load | None:
        machine = self._machine
        if machine is not None:
            return None if self._client.failing else machine.begin_load()
        return self._client.begin_load() if self._client.has_loads else None

    def _claim(self, keys: list[int], load: Load | None) -> list[int]:
        """Return those of the keys that no other process loads or has stored."""
        client, machine = self._client, self._machine
        if self._doubted:
            return keys
        if client.has_loads and load is None:  # it fails, or has no space to say who loads
            return keys
        if client.has_claims:
            return client.claim_many(keys, CLAIM_TTL, load)
        if client.failing or (machine is None and threading.active_count() == 1):
            return keys
        # Claims that are not the backend's do not know what was stored since it was looked up.
        claimed = keys
        if machine is not None and load is not None:
            granted = machine.claim_many(keys, CLAIM_TTL, load)
            claimed = [key for key, ok in zip(keys, granted, strict=True) if ok]
        found = client.get_many(claimed) if claimed else []
        absent = [key for key, value in zip(claimed, found, strict=True) if value is None]
        if machine is not None and load is not None and len(absent) < len(claimed):
            machine.release_many(sorted(set(claimed).difference(absent)), load)
        return absent

    def _renew(self, progress: Progress) -> Callable[[], None]:
        """Renew claims that end with their ttl; return what ends this, and releases them."""
        client, claimed, load = self._client, progress.claimed, progress.file()
        if not claimed or self._doubted:
            return lambda: None
        if isinstance(load, Load) or not client.has_claims or client.has_loads:
            return partial(self._release, progress)
        done = threading.Event()
        failed: list[Exception] = []

        def renew() -> None:
            try:
                while not done.wait(CLAIM_TTL / 3) and not progress.over:
                    client.claim_many(claimed, CLAIM_TTL)
            except Exception as error:  # raised below, in the thread of the caller
                failed.append(error)

        def end() -> None:
            done.set()
            thread.join()
            client.release_many(claimed)
            if failed:
                raise failed[0]

        thread = threading.Thread(target=renew, name="kappacore-claims", daemon=True)
        thread.start()
        return end

    def _release(self, progress: Progress) -> None:
        load, machine = progress.file(), self._machine
        if isinstance(load, Load) and not load.closed:  # as it is in a forked child
            if machine is not None:
                machine.release_many(progress.claimed, load)
            elif self._client.has_loads:
                self._client.release_many(progress.claimed, load)

    @property
    def longest_pause(self) -> float:
        """Seconds of the longest pause between two questions whether others' claims have ended."""
        return _NETWORK_PAUSE if self._client.scope == "network" else PAUSE_MOST

    def close(self) -> None:
        """Close the file of the machine's claims, once no thread uses it any more."""
        self._machine = None

    # ---- who loads

    def loads_here(self) -> list[Progress]:
        """Return the loads that this thread is in: a source may read through its own cache."""
        if not self._loads:
            return []
        here = threading.get_ident()
        with self._lock:
            return [load for load in self._loads if load.thread == here and not load.over]

    def wait_for(self, keys: Sequence[int], what: str = "") -> ClaimWait:
        """Return a wait for the claims of others on keys to end.

        Args:
            keys: The keys; whoever has claimed one of them is named.
            what: What is being done, for people; default the loading of samples.
        """
        return ClaimWait(self, keys, what)

    def describe(self, keys: Sequence[int], what: str) -> str:
        """Return what is being done with claimed keys, and by whom; see :meth:`wait_for`."""
        key, who = keys[0], "another process (the backend does not know which)"
        here = self._keys_here()
        for each, claimant in zip(keys, self._claimants(keys), strict=True):
            if each in here or claimant is not None:
                key = each
                who = "another thread of this process" if each in here else str(claimant)
                break
        if not what:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            what = f"sample {key}{more} of {self._what} is being loaded"
        return f"{what} by {who}"

    def doubt(self, keys: Sequence[int]) -> None:
        """Claim no more in this process if nobody is known to have the claims on keys."""
        if self._keys_here().intersection(keys):
            return
        if any(found is not None and found.state != "gone" for found in self._claimants(keys)):
            return
        self._doubted = True
        if self._client.counters.first_to("report-claims"):
            warn(
                f"The cache backend {self._client.name!r} has granted no claim on key {keys[0]} "
                f"for {DOUBT_AFTER:.0f} s, and does not say who has it. Samples are read without "
                f"claims now, some of them by several processes. Repair its claim_many, which must "
                f"let claims end with their ttl; or, if a sample takes as long as that, define "
                f"claimants.",
                CacheWarning,
            )

    def _keys_here(self) -> set[int]:
        with self._lock:
            return {key for load in self._loads if not load.over for key in load.keys}

    def _claimants(self, keys: Sequence[int]) -> list[Claimant | None]:
        machine = self._machine
        if machine is not None:
            return machine.claimants(keys)
        return self._client.claimants(keys)
