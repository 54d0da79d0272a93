"""Loading what is not cached: claim, read from the source, store, and wait for other processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kappacore.errors import CircularReadError, DatasetTypeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.backends.base import Buffer
    from kappacore.caching.engine.claims import Claims, Progress
    from kappacore.caching.engine.store import Store
    from kappacore.caching.identity.determinism import LoadSamples

__all__ = ["load_claimed", "load_missing", "load_nested", "read_source"]


def load_missing(
    store: Store, claims: Claims, missing: list[int], corrupt: list[int], load: LoadSamples
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

    Raises:
        CircularReadError: If the source reads a sample to read that same sample.
    """
    outer = claims.loads_here()
    if outer:  # who holds claims waits for nobody, or two could wait for each other
        mine = {key for progress in outer for key in progress.keys}
        free = [key for key in missing if key not in mine]
        spoilt = [key for key in corrupt if key not in mine]
        samples, others = load_claimed(store, claims, free, spoilt, load)
        others += [key for key in missing + corrupt if key in mine]
        return samples | load_nested(store, claims, others, load)
    samples, others = load_claimed(store, claims, missing, corrupt, load)
    if others:  # loaded by other processes, or given up by them
        wait = claims.wait_for(others)
        while others:
            wait.pause(others)
            found, missing, corrupt = store.get_many(others, waited=True)
            loaded, others = load_claimed(store, claims, missing, corrupt, load)
            samples |= found | loaded
    return samples


def load_nested(store: Store, claims: Claims, keys: list[int], load: LoadSamples) -> dict[int, Any]:
    """Load samples while this thread loads others: its source reads through its own cache.

    What the thread has read already is taken from there. The rest is read without a claim, and
    stored by whoever has claimed it.

    Args:
        store: The store.
        claims: Claims on its keys.
        keys: The keys.
        load: Reads samples from the source.

    Returns:
        The samples by key.

    Raises:
        CircularReadError: If the source reads a sample to read that same sample.
    """
    samples: dict[int, Any] = {}
    for key in keys:
        for outer in claims.loads_here():
            if key in outer.values:
                samples[key] = store.decode_pieces(key, outer.values[key])
                break
            if outer.keys == {key}:
                raise CircularReadError(
                    f"The dataset {store.identity.description['dataset']} reads sample {key} "
                    f"through its own cache in order to read sample {key}. That never ends: let "
                    f"it read other samples there, or its own source."
                )
        else:

            def read(_: Progress, key: int = key) -> tuple[Sequence[Buffer], Any]:
                [sample] = read_source(store, [key], load)
                return store.detach(key, sample)

            pieces, samples[key] = claims.hold([], read, unclaimed=[key])
            for outer in claims.loads_here():
                if key in outer.keys:
                    outer.values.setdefault(key, pieces)
    return samples


def load_claimed(
    store: Store,
    claims: Claims,
    missing: list[int],
    corrupt: list[int],
    load: LoadSamples,
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

    def read(progress: Progress) -> dict[int, Any]:
        keys = progress.claimed + corrupt
        samples: dict[int, Any] = {}
        values = progress.values
        if keys:
            for key, sample in zip(keys, read_source(store, keys, load), strict=True):
                values[key], samples[key] = store.detach(key, sample, wanted=wanted)
            store.put_many(values)
        return samples

    samples = claims.hold(missing, read, unclaimed=corrupt)
    if len(samples) == len(missing) + len(corrupt):
        return samples, []
    return samples, [key for key in missing if key not in samples]


def read_source(store: Store, keys: list[int], load: LoadSamples) -> Iterator[Any]:
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
