"""Claims: which process loads which sample, so that no two read the same one at the same time."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kappacore.machine.claims import open_claims

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kappacore.caching.engine.client import BackendClient

__all__ = ["CLAIM_TTL", "Claims"]

log = logging.getLogger("kappacore.cache")

CLAIM_TTL = 5.0  # seconds; claims are renewed while a source is slower than that


class Claims:
    """The claims of one process on keys of a namespace, against other processes and threads.

    They are the backend's where it has claims of its own. Otherwise they are the machine's, or of
    this process alone if its entries are too.

    Args:
        client: This process's use of the backend.
    """

    def __init__(self, client: BackendClient) -> None:
        self._client = client
        without = not client.has_claims and client.scope != "process"
        self._machine = open_claims(client.counters.folder, client.length) if without else None
        self._held: dict[int, float] = {}  # by a thread of this process, until when
        self._lock = threading.Lock()

    @contextmanager
    def hold_claims(self, keys: list[int]) -> Iterator[list[int]]:
        """Claim keys, renew the claims while the block runs, and release them after it.

        Yields:
            The keys that were claimed.
        """
        claimed: list[int] = []
        try:
            claimed = self.claim_many(keys)
            with self._renewing(claimed):
                yield claimed
        except BaseException:
            try:
                self.release_many(claimed)
            except Exception:  # the caller must see what went wrong first
                log.info("claims were not released", exc_info=True)
            raise
        self.release_many(claimed)

    def claim_many(self, keys: Sequence[int]) -> list[int]:
        """Return those of the keys that are claimed now: neither another's nor stored."""
        now = time.monotonic()
        with self._lock:
            mine = [key for key in keys if self._held.get(key, 0.0) <= now]
            self._held.update(dict.fromkeys(mine, now + CLAIM_TTL))
        claimed: list[int] = []
        try:
            if mine:
                claimed = self._claim_from_processes(mine)
        finally:
            for key in set(mine).difference(claimed):
                self._held.pop(key, None)
        return claimed

    def _claim_from_processes(self, keys: list[int]) -> list[int]:
        """Return those of the keys that no other process loads or has stored."""
        if self._client.has_claims:
            return self._client.claim_many(keys, CLAIM_TTL)
        machine = self._machine
        if self._client.failing or (machine is None and threading.active_count() == 1):
            return keys
        # Claims that are not the backend's do not know what was stored since it was looked up.
        claimed: list[int] = []
        absent: list[int] = []
        try:
            claimed = keys
            if machine is not None:
                granted = machine.claim_many(keys, CLAIM_TTL)
                claimed = [key for key, ok in zip(keys, granted, strict=True) if ok]
            found = self._client.get_many(claimed) if claimed else []
            absent = [key for key, value in zip(claimed, found, strict=True) if value is None]
            return absent
        finally:
            if machine is not None and len(absent) < len(claimed):
                machine.release_many(sorted(set(claimed) - set(absent)))

    def renew_many(self, keys: list[int]) -> None:
        """Let claims last from now on."""
        self._held.update(dict.fromkeys(keys, time.monotonic() + CLAIM_TTL))
        if self._client.has_claims:
            self._client.claim_many(keys, CLAIM_TTL)
        elif self._machine is not None:
            self._machine.claim_many(keys, CLAIM_TTL)

    def release_many(self, keys: list[int]) -> None:
        """Release claims, whether the keys were stored or not."""
        if not keys:
            return
        try:
            if self._client.has_claims:
                self._client.release_many(keys)
            elif self._machine is not None:
                self._machine.release_many(keys)
        finally:
            for key in keys:
                self._held.pop(key, None)

    @contextmanager
    def _renewing(self, keys: list[int]) -> Iterator[None]:
        shared = self._client.has_claims or self._machine is not None
        if not keys or not (shared or threading.active_count() > 1):
            yield  # nobody else can be waiting, and a thread costs time
            return
        done = threading.Event()
        failed: list[Exception] = []

        def renew() -> None:
            try:
                while not done.wait(CLAIM_TTL / 3):
                    self.renew_many(keys)
            except Exception as error:  # raised below, in the thread of the caller
                failed.append(error)

        thread = threading.Thread(target=renew, name="kappacore-claims", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        if failed:
            raise failed[0]
