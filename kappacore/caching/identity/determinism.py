"""A guard against sources that give something new at each read: a cache would freeze the first."""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from kappacore.errors import (
    NamespaceMismatchError,
    NondeterministicSourceError,
    UncacheableValueError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.codec import Codec
    from kappacore.caching.engine.client import Session
    from kappacore.caching.identity.namespace import Identity

__all__ = [
    "Evidence",
    "compare_stored",
    "compare_with_source",
    "look_at_source",
    "random_states_restored",
]

#: Digests of a few samples, by index: what a namespace holds where no fingerprint says so.
Evidence = dict[int, str]

_COMPARED = 2  # of the stored samples
_PROBED = 1024  # keys looked up at once


def look_at_source(
    load: Callable[[list[int]], Sequence[Any]],
    codec: Codec,
    identity: Identity,
    length: int,
) -> Evidence:
    """Load a few samples, twice, and compare; random states are as before when it is done.

    Returns:
        Digests of these samples.

    Raises:
        NondeterministicSourceError: if one of them differs.
    """
    evidence: Evidence = {}
    with random_states_restored():
        for idx in sorted({0, length // 2, length - 1}) if length else ():
            evidence[idx] = _digest(load, codec, identity, idx)
            if _digest(load, codec, identity, idx) != evidence[idx]:
                item = identity.description["item"]
                what = "sample" if item == "sample" else f"item {item!r} of sample"
                raise NondeterministicSourceError(
                    f"The {what} {idx} of {identity.description['dataset']} differs between two "
                    f"reads, so a cache would freeze whatever came first. Put the cache below the "
                    f"random part (random transforms come after it: transform=…, or a "
                    f"TransformWrapper above). check=False caches the first read all the same."
                )
    return evidence


def compare_with_source(
    evidence: Evidence,
    load: Callable[[list[int]], Sequence[Any]],
    codec: Codec,
    identity: Identity,
) -> None:
    """Compare what is known of a namespace's content with the source.

    Raises:
        NamespaceMismatchError: if a sample differs.
    """
    with random_states_restored():
        for idx in sorted(evidence)[:: max(1, len(evidence) - 1)][:_COMPARED]:
            if _digest(load, codec, identity, idx) != evidence[idx]:
                raise _mismatch(identity, idx)


def compare_stored(
    session: Session,
    load: Callable[[list[int]], Sequence[Any]],
    codec: Codec,
    identity: Identity,
    length: int,
) -> None:
    """Compare two entries of a namespace, if it has any, with the source.

    Raises:
        NamespaceMismatchError: if one differs.
    """
    info = session.info()
    if info is not None and not info.entries:
        return
    compared = 0
    with random_states_restored():
        for start in range(0, length, _PROBED):
            keys = list(range(start, min(start + _PROBED, length)))
            for idx, stored in zip(keys, session.get_many(keys), strict=True):
                if stored is None:
                    continue
                if b"".join(_encode(load, codec, identity, idx)) != bytes(stored):
                    raise _mismatch(identity, idx)
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


def _digest(
    load: Callable[[list[int]], Sequence[Any]], codec: Codec, identity: Identity, idx: int
) -> str:
    digest = xxhash.xxh3_128()
    for piece in _encode(load, codec, identity, idx):
        digest.update(piece)
    return digest.hexdigest()


def _encode(
    load: Callable[[list[int]], Sequence[Any]], codec: Codec, identity: Identity, idx: int
) -> list[Buffer]:
    try:
        return codec.encode(load([idx])[0], idx, identity.digest_name)
    except UncacheableValueError as error:
        raise UncacheableValueError(
            f"Sample {idx} of {identity.description['dataset']}: {error}"
        ) from error


@contextmanager
def random_states_restored() -> Iterator[None]:
    """Leave the random generators of Python, numpy and torch as they were before the block."""
    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    state = None if torch is None else torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None:
            torch.set_rng_state(state)
