"""Claims: who is loading what, so that no two processes read the same sample at the same time."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappacore.caching.session import Session

__all__ = ["CLAIM_TTL", "renewing"]

CLAIM_TTL = 5.0  # seconds; claims are renewed while a source is slower than that


@contextmanager
def renewing(session: Session, keys: list[int], ttl: float = CLAIM_TTL) -> Iterator[None]:
    """Renew claims from a thread as long as the block runs."""
    if not (session.shares_claims and keys):
        yield
        return
    done = threading.Event()

    def renew() -> None:
        while not done.wait(ttl / 3):
            session.renew_many(keys, ttl)

    thread = threading.Thread(target=renew, name="kappacore-claims", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
