"""Claims: who is loading what, so that no two processes read the same sample at the same time."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappacore.caching.session import Session

__all__ = ["CLAIM_TTL", "holding"]

log = logging.getLogger("kappacore.cache")

CLAIM_TTL = 5.0  # seconds; claims are renewed while a source is slower than that


@contextmanager
def holding(session: Session, keys: list[int], ttl: float = CLAIM_TTL) -> Iterator[None]:
    """Renew claims as long as the block runs, and give them back after it."""
    try:
        with _renewing(session, keys, ttl):
            yield
    except BaseException:
        try:
            session.release_many(keys)
        except Exception:  # what went wrong first is what the caller must see
            log.info("claims were not given back", exc_info=True)
        raise
    session.release_many(keys)


@contextmanager
def _renewing(session: Session, keys: list[int], ttl: float) -> Iterator[None]:
    # Nobody else can be waiting: a thread would only cost time.
    if not keys or not (session.shares_claims or threading.active_count() > 1):
        yield
        return
    done = threading.Event()
    failed: list[Exception] = []

    def renew() -> None:
        try:
            while not done.wait(ttl / 3):
                session.renew_many(keys, ttl)
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
