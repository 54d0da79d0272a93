"""Loading what is not cached: claimed, read from the source, stored, and waited for elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kappacore.caching.engine.claims import CLAIM_TTL, claim_many, holding
from kappacore.errors import DatasetTypeError, UncacheableValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.engine.cache import Load, SampleCache
    from kappacore.caching.engine.client import Session

__all__ = ["load_claimed", "load_missing", "read", "store"]

_WAIT_FIRST, _WAIT_MOST = 0.0005, 0.05  # seconds between looks at what others are loading


def load_missing(
    cache: SampleCache,
    session: Session,
    missing: list[int],
    corrupt: list[int],
    load: Load,
    samples: dict[int, Any],
) -> None:
    """Put what was not found into ``samples``, in the order that ``SampleCache.fetch`` promises.

    Args:
        cache: the cache.
        session: this process's use of its backend.
        missing: keys without a value.
        corrupt: keys whose values cannot be used, and are replaced.
        load: reads samples from the source.
        samples: what is known already, by key; added to.
    """
    others = load_claimed(cache, session, missing, corrupt, load, samples)[1]
    if not others:
        return
    session.counters.add(waits=len(others))
    pause = _WAIT_FIRST
    while others:  # loaded by other processes, or given up by them
        time.sleep(pause)
        pause = min(2 * pause, _WAIT_MOST)
        others, corrupt = cache.look_up(session, others, samples)
        others = load_claimed(cache, session, others, corrupt, load, samples)[1]


def load_claimed(
    cache: SampleCache,
    session: Session,
    missing: list[int],
    corrupt: list[int],
    load: Load,
    samples: dict[int, Any],
) -> tuple[int, list[int]]:
    """Load and store what nobody else is loading; claims are renewed and always given back.

    Args:
        cache: the cache.
        session: this process's use of its backend.
        missing: keys to claim first.
        corrupt: keys that need no claim.
        load: reads samples from the source.
        samples: what was loaded is added to it, by key.

    Returns:
        How many of the missing were loaded, and those that others are loading.
    """
    granted = claim_many(session, missing, CLAIM_TTL) if missing else []
    mine = [key for key, ok in zip(missing, granted, strict=True) if ok]
    keys = mine + corrupt
    if keys:
        with holding(session, mine, CLAIM_TTL):
            found = read(cache, session, keys, load)
            samples.update(found)
            store(cache, session, found)
    return len(mine), [key for key, ok in zip(missing, granted, strict=True) if not ok]


def read(cache: SampleCache, session: Session, keys: list[int], load: Load) -> dict[int, Any]:
    """Read samples from the source.

    Raises:
        DatasetTypeError: if it gives another number of them.
    """
    started = time.perf_counter()
    values = load(keys)
    session.counters.add(
        misses=len(keys),
        source_reads=len(keys),
        seconds_source=time.perf_counter() - started,
    )
    if len(values) != len(keys):
        raise DatasetTypeError(
            f"The dataset {cache.identity.description['dataset']} returned {len(values)} "
            f"samples when asked for a batch of {len(keys)}; expected one for each index."
        )
    return dict(zip(keys, values, strict=True))


def store(cache: SampleCache, session: Session, samples: dict[int, Any]) -> None:
    """Store samples by their keys; those without room are counted as refused.

    Raises:
        UncacheableValueError: if one holds what the codec cannot keep.
    """
    name = cache.digest_name
    items: list[tuple[int, Sequence[Buffer]]] = []
    sizes: list[int] = []
    for key, sample in samples.items():
        try:
            pieces = cache.codec.encode(sample, key, name)
        except UncacheableValueError as error:
            raise UncacheableValueError(
                f"Sample {key} of {cache.identity.description['dataset']}: {error}"
            ) from error
        size = sum(map(len, pieces))
        if session.fullness.has_room_for(size):
            items.append((key, pieces))
            sizes.append(size)
    stored = session.put_many(items) if items else []
    if stored is None:
        return
    good = sum(stored)
    session.counters.add(
        stores=good,
        refused=len(samples) - good,
        bytes_stored=sum(size for size, ok in zip(sizes, stored, strict=True) if ok),
    )
    for (key, _), size, ok in zip(items, sizes, stored, strict=True):
        session.verified[key] = session.before_check
        if not ok:
            session.fullness.note(size, session.info())
