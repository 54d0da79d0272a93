"""Loading what is not cached: claim, read from the source, store, and wait for other processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kappacore.errors import DatasetTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.engine.claims import Claims
    from kappacore.caching.engine.store import Store

    #: Reads samples at indices: a list, or an iterator where a sample may change when the next is
    #: read. A single one comes in a list.
    Load = Callable[[list[int]], Iterable[Any]]

__all__ = ["load_claimed", "load_missing", "read_source"]

_WAIT_FIRST, _WAIT_MOST = 0.0005, 0.05  # seconds between looks at what others are loading


def load_missing(
    store: Store, claims: Claims, missing: list[int], corrupt: list[int], load: Load
) -> dict[int, Any]:
    """Load samples, or wait for those that others are loading.

    The order keeps processes from waiting for each other in a circle: claim the misses; load,
    store and release what was claimed; only then wait for the claims of others to end.

    Args:
        store: The store.
        claims: Claims on its keys.
        missing: Keys without a value.
        corrupt: Keys whose values cannot be used, and are replaced.
        load: Reads samples from the source.

    Returns:
        The samples by key.
    """
    samples, others = load_claimed(store, claims, missing, corrupt, load)
    pause = _WAIT_FIRST
    while others:  # loaded by other processes, or given up by them
        time.sleep(pause)
        pause = min(2 * pause, _WAIT_MOST)
        found, missing, corrupt = store.get_many(others, waited=True)
        loaded, others = load_claimed(store, claims, missing, corrupt, load)
        samples |= found | loaded
    return samples


def load_claimed(
    store: Store,
    claims: Claims,
    missing: list[int],
    corrupt: list[int],
    load: Load,
    *,
    wanted: bool = True,
) -> tuple[dict[int, Any], list[int]]:
    """Load and store what nobody else is loading.

    Args:
        store: The store.
        claims: Claims on its keys.
        missing: Keys to claim first.
        corrupt: Keys that need no claim.
        load: Reads samples from the source.
        wanted: Whether the samples are to be used; False spares making copies for that.

    Returns:
        The loaded samples by key, and the missing keys that others are loading.
    """
    samples: dict[int, Any] = {}
    with claims.hold_claims(missing) as claimed:
        if claimed or corrupt:
            samples = _load(store, claimed + corrupt, load, wanted)
    if len(claimed) == len(missing):
        return samples, []
    return samples, [key for key in missing if key not in samples]


def _load(store: Store, keys: list[int], load: Load, wanted: bool) -> dict[int, Any]:
    """Read samples from the source, store them, and return them by key."""
    samples: dict[int, Any] = {}
    values: dict[int, Sequence[Buffer]] = {}
    for key, sample in zip(keys, read_source(store, keys, load), strict=True):
        values[key], samples[key] = store.detach(key, sample, wanted=wanted)
    store.put_many(values)
    return samples


def read_source(store: Store, keys: list[int], load: Load) -> Iterator[Any]:
    """Read samples from the source, and count them.

    Yields:
        A sample for each key. It may change when the next one is asked for.

    Raises:
        DatasetTypeError: If the source returns another number of samples.
    """
    clock = time.perf_counter
    started = clock()
    count, seconds = 0, 0.0
    try:
        found = load(keys)
        if not isinstance(found, Iterator):
            found = list(found)
            count = len(found)
            if count != len(keys):
                raise DatasetTypeError(
                    f"The dataset {store.identity.description['dataset']} returned {count} "
                    f"samples when asked for a batch of {len(keys)}; expected one for each index."
                )
            seconds = clock() - started
            yield from found
            return
        for sample in found:
            seconds += clock() - started
            count += 1
            yield sample
            started = clock()
    finally:
        store.counters.add(misses=count, source_reads=count, seconds_source=seconds)
