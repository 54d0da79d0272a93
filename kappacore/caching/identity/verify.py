"""Verifying that a namespace holds the samples of the dataset at hand, and no other's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.caching.identity.determinism import (
    Source,
    check_determinism,
    random_states_restored,
)
from kappacore.caching.identity.header import read_or_write_header
from kappacore.errors import CacheError, NamespaceMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from kappacore.caching.identity.header import Entries, KeyClaims, SampleDigests
    from kappacore.caching.identity.namespace import Identity

__all__ = ["rewrite_header", "verify_identity"]

_COMPARED = 2  # samples
_PROBED = 1024  # keys looked up at once


def verify_identity(
    entries: Entries,
    claims: KeyClaims,
    load: Callable[[list[int]], Iterable[Any]],
    *,
    check: bool = True,
    known: SampleDigests | None = None,
) -> SampleDigests:
    """Verify that a namespace holds the samples of its user's dataset.

    Args:
        entries: The entries of the namespace.
        claims: Claims on their keys.
        load: Reads samples from the source.
        check: Whether to read a few samples twice before the first is stored, and to compare two
            entries with the source where only a name, and no fingerprint, identifies the content.
        known: Digests of the source's samples, where they were taken already.

    Returns:
        Digests of a few samples.

    Raises:
        NondeterministicSourceError: If two reads of a sample differ.
        NamespaceMismatchError: If the namespace holds another dataset's samples.
        CacheError: If the backend fails, and only a name identifies the content.
    """
    identity = entries.identity
    source = Source(load, entries.codec, identity)
    named = identity.fingerprint is None and not identity.private  # a name alone identifies it
    proved: SampleDigests | None = None

    def prove() -> SampleDigests:
        nonlocal proved
        proved = known
        if proved is None:
            proved = check_determinism(source, entries.length) if check else {}
        if check and named:  # there may be entries whose header was lost
            _compare_entries(entries, source)
        return proved

    found = read_or_write_header(entries, claims, prove)
    digests = found or {}
    if not named:
        return digests  # content of another identity is a miss
    if found is None and entries.failing:
        raise CacheError(
            f"The cache backend {entries.name!r} fails (the log says how), and only the name "
            f"{identity.namespace!r} says what it holds, which cannot be checked now. "
            f"Repair it, or let the dataset define fingerprint(item, raw)."
        )
    if check and proved is None:
        if digests:
            _compare_digests(digests, source)
        else:  # the header was written with check=False, or is lost
            _compare_entries(entries, source)
    return digests


def rewrite_header(entries: Entries, claims: KeyClaims, digests: SampleDigests) -> None:
    """Write the header again after the namespace was cleared.

    Raises:
        NamespaceMismatchError: If another dataset has taken the namespace meanwhile.
    """
    found = read_or_write_header(entries, claims, lambda: digests)
    if found is not None and digests and found and found != digests:
        raise NamespaceMismatchError(
            f"The cache namespace {entries.identity.namespace!r} was cleared, and another dataset "
            f"has taken it at that moment. Give one of the two another namespace=."
        )


def _compare_digests(digests: SampleDigests, source: Source) -> None:
    """Compare the digests in a header with the source."""
    with random_states_restored():
        for idx in sorted(digests)[:: max(1, len(digests) - 1)][:_COMPARED]:
            if source.digest(idx) != digests[idx]:
                raise _mismatch(source.identity, idx)


def _compare_entries(entries: Entries, source: Source) -> None:
    """Compare two entries of a namespace, if it has any, with the source."""
    info = entries.info()
    if info is not None and not info.entries:
        return
    compared = 0
    with random_states_restored():
        for start in range(0, entries.length, _PROBED):
            keys = range(start, min(start + _PROBED, entries.length))
            for idx, stored in zip(keys, entries.get_buffers(list(keys)), strict=True):
                if stored is None:
                    continue
                if b"".join(source.encode(idx)) != bytes(stored):
                    raise _mismatch(source.identity, idx)
                compared += 1
                if compared == _COMPARED:
                    return


def _mismatch(identity: Identity, idx: int) -> NamespaceMismatchError:
    return NamespaceMismatchError(
        f"The cache namespace {identity.namespace!r} holds other samples than this dataset: "
        f"sample {idx} differs. Either it was filled from another dataset (give this one another "
        f"namespace=), or the dataset returns something new at each read (cache what is below the "
        f"random part). check=False skips this comparison."
    )
