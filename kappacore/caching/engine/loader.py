"""Loading what is not cached: claim, read from the source, store, and wait for other processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kappacore.errors import DatasetTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappacore.caching.engine.claims import Claims
    from kappacore.caching.engine.store import Store

    Load = Callable[[list[int]], Sequence[Any]]

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
    if others:
        store.counters.add(waits=len(others))
    pause = _WAIT_FIRST
    while others:  # loaded by other processes, or given up by them
        time.sleep(pause)
        pause = min(2 * pause, _WAIT_MOST)
        found, missing, corrupt = store.get_many(others)
        loaded, others = load_claimed(store, claims, missing, corrupt, load)
        samples |= found | loaded
    return samples


def load_claimed(
    store: Store, claims: Claims, missing: list[int], corrupt: list[int], load: Load
) -> tuple[dict[int, Any], list[int]]:
    """Load and store what nobody else is loading.

    Args:
        store: The store.
        claims: Claims on its keys.
        missing: Keys to claim first.
        corrupt: Keys that need no claim.
        load: Reads samples from the source.

    Returns:
        The loaded samples by key, and the missing keys that others are loading.
    """
    samples: dict[int, Any] = {}
    with claims.hold_claims(missing) as claimed:
        if claimed or corrupt:
            samples = read_source(store, claimed + corrupt, load)
            store.put_many(samples)
    if len(claimed) == len(missing):
        return samples, []
    return samples, [key for key in missing if key not in samples]


def read_source(store: Store, keys: list[int], load: Load) -> dict[int, Any]:
    """Read samples from the source, and count them.

    Raises:
        DatasetTypeError: If the source returns another number of samples.
    """
    started = time.perf_counter()
    values = load(keys)
    store.counters.add(
        misses=len(keys),
        source_reads=len(keys),
        seconds_source=time.perf_counter() - started,
    )
    if len(values) != len(keys):
        raise DatasetTypeError(
            f"The dataset {store.identity.description['dataset']} returned {len(values)} "
            f"samples when asked for a batch of {len(keys)}; expected one for each index."
        )
    return dict(zip(keys, values, strict=True))
