"""Claims: who is loading what, so that no two processes read the same sample at the same time."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kappacore.caching.engine.client import Session
    from kappacore.machine.claims import MachineClaims

__all__ = ["CLAIM_TTL", "Claims", "claim_many", "holding"]

log = logging.getLogger("kappacore.cache")

CLAIM_TTL = 5.0  # seconds; claims are renewed while a source is slower than that


class Claims:
    """Where a session's claims are, and those that it holds.

    Args:
        of_backend: whether the backend has claims of its own.
        of_machine: claims for a backend without, which all processes of the machine see.
    """

    def __init__(self, *, of_backend: bool, of_machine: MachineClaims | None) -> None:
        self.of_backend = of_backend
        self.of_machine = of_machine
        self.held: dict[int, float] = {}  # by a thread of this process, until when
        self.lock = threading.Lock()

    @property
    def shared(self) -> bool:
        """Whether other processes see them."""
        return self.of_backend or self.of_machine is not None


def claim_many(session: Session, keys: Sequence[int], ttl: float) -> list[bool]:
    """Claim keys, against other processes and other threads; False also for what is there.

    Args:
        session: this process's use of a backend.
        keys: what is to be loaded.
        ttl: seconds after which the claims end if they are not renewed.
    """
    claims = session.claims
    now = time.monotonic()
    with claims.lock:
        mine = [key for key in keys if claims.held.get(key, 0.0) <= now]
        claims.held.update(dict.fromkeys(mine, now + ttl))
    claimed: set[int] = set()
    try:
        if mine:
            claimed.update(_claim_from_processes(session, mine, ttl))
    finally:
        for key in mine:
            if key not in claimed:
                claims.held.pop(key, None)
    return [key in claimed for key in keys]


def _claim_from_processes(session: Session, keys: list[int], ttl: float) -> list[int]:
    """Return those of the keys that no other process loads or has stored."""
    claims = session.claims
    if claims.of_backend:
        granted = session.claim_in_backend(keys, ttl)
        if granted is None:
            return keys
        return [key for key, ok in zip(keys, granted, strict=True) if ok]
    machine = claims.of_machine
    if session.failing or (machine is None and threading.active_count() == 1):
        return keys
    # Claims that are not the backend's cannot know what was stored since it was looked up.
    claimed: list[int] = []
    absent: list[int] = []
    try:
        claimed = keys
        if machine is not None:
            granted = machine.claim_many(keys, ttl)
            claimed = [key for key, ok in zip(keys, granted, strict=True) if ok]
        found = session.get_many(claimed) if claimed else []
        absent = [key for key, value in zip(claimed, found, strict=True) if value is None]
        return absent
    finally:
        if machine is not None and len(absent) < len(claimed):
            machine.release_many(sorted(set(claimed) - set(absent)))


def _renew_many(session: Session, keys: list[int], ttl: float) -> None:
    claims = session.claims
    claims.held.update(dict.fromkeys(keys, time.monotonic() + ttl))
    if claims.of_backend:
        session.claim_in_backend(keys, ttl)
    elif claims.of_machine is not None:
        claims.of_machine.claim_many(keys, ttl)


def _release_many(session: Session, keys: list[int]) -> None:
    claims = session.claims
    try:
        if claims.of_backend and keys:
            session.release_in_backend(keys)
        elif claims.of_machine is not None:
            claims.of_machine.release_many(keys)
    finally:
        for key in keys:
            claims.held.pop(key, None)


@contextmanager
def holding(session: Session, keys: list[int], ttl: float = CLAIM_TTL) -> Iterator[None]:
    """Renew claims as long as the block runs, and give them back after it."""
    try:
        with _renewing(session, keys, ttl):
            yield
    except BaseException:
        try:
            _release_many(session, keys)
        except Exception:  # what went wrong first is what the caller must see
            log.info("claims were not given back", exc_info=True)
        raise
    _release_many(session, keys)


@contextmanager
def _renewing(session: Session, keys: list[int], ttl: float) -> Iterator[None]:
    # Nobody else can be waiting: a thread would only cost time.
    if not keys or not (session.claims.shared or threading.active_count() > 1):
        yield
        return
    done = threading.Event()
    failed: list[Exception] = []

    def renew() -> None:
        try:
            while not done.wait(ttl / 3):
                _renew_many(session, keys, ttl)
        except Exception as error:  # raised below, in the thread that can tell the user
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
