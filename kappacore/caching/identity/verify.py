"""Attaching a cache to its namespace: does it hold this dataset's samples, and none else's?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.caching.identity.determinism import (
    compare_stored,
    compare_with_source,
    look_at_source,
)
from kappacore.caching.identity.header import agree
from kappacore.errors import CacheError, NamespaceMismatchError

if TYPE_CHECKING:
    from kappacore.caching.engine.cache import Load, SampleCache
    from kappacore.caching.engine.client import Session
    from kappacore.caching.identity.determinism import Evidence

__all__ = ["attach", "refresh"]


def attach(
    cache: SampleCache, session: Session, load: Load, check: bool, known: Evidence | None
) -> Evidence:
    """Make sure that a namespace holds the samples of the cache's dataset.

    Args:
        cache: the cache.
        session: this process's use of its backend.
        load: reads samples from the source.
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
    identity, codec, length = cache.identity, cache.codec, cache.length
    named = identity.fingerprint is None and not identity.private  # only a name says what it holds
    proved: Evidence | None = None

    def look() -> Evidence:
        nonlocal proved
        proved = known
        if proved is None:
            proved = look_at_source(load, codec, identity, length) if check else {}
        if check and named:  # entries without a record: it was lost
            compare_stored(session, load, codec, identity, length)
        return proved

    found = agree(session, codec, identity, length, look)
    evidence = found or {}
    if not named:
        return evidence  # content of another identity is a miss
    if found is None and session.failing:
        raise CacheError(
            f"The cache backend {session.name!r} fails (the log says how), and only the name "
            f"{identity.namespace!r} says what it holds, which cannot be checked now. "
            f"Repair it, or let the dataset define fingerprint(item, raw)."
        )
    if check and proved is None:
        if evidence:
            compare_with_source(evidence, load, codec, identity)
        else:  # whoever made it did not look, or what was noted is lost
            compare_stored(session, load, codec, identity, length)
    return evidence


def refresh(cache: SampleCache, session: Session, evidence: Evidence) -> None:
    """Write the record anew after the namespace was cleared.

    Raises:
        NamespaceMismatchError: if another dataset has taken the name meanwhile.
    """
    found = agree(session, cache.codec, cache.identity, cache.length, lambda: evidence)
    if found is not None and evidence and found and found != evidence:
        raise NamespaceMismatchError(
            f"The cache namespace {cache.identity.namespace!r} was cleared, and another dataset "
            f"has taken it at that moment. Give one of the two another namespace=."
        )
