"""Two caches, one behind the other: a fast one in front, a large or shared one behind it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from kappacore.caching.backends.base import BackendInfo, Scope
    from kappacore.caching.engine.cache import SampleCache
    from kappacore.caching.identity.determinism import LoadSamples
    from kappacore.caching.stats import CacheStats
    from kappacore.locations import BatchLocation, IntArray

__all__ = ["TieredCache", "tier_stats"]


@dataclass(slots=True)
class _Through:
    """What a cache reads from, where that is not its source itself.

    Args:
        read: Reads samples.
        source: Reads them from the source, which is what caches are compared with.
    """

    read: LoadSamples
    source: LoadSamples

    def __call__(self, missing: list[int]) -> Iterable[Any]:
        """Return the samples at ``missing``."""
        return self.read(missing)


@dataclass(eq=False, repr=False)
class TieredCache:
    """Reads the first cache, then the second, then the source; what is read fills both.

    The second cache is the source of the first. So a hit in the second is stored in the first,
    each tier verifies and claims by its own rules, and neither knows of the other.

    Args:
        first: The cache that is asked first.
        second: The cache that is asked for what the first one lacks.
    """

    first: SampleCache
    second: SampleCache

    @property
    def tiers(self) -> tuple[SampleCache, SampleCache]:
        """Both, the one that is asked first first."""
        return self.first, self.second

    @property
    def length(self) -> int:
        """The number of samples."""
        return self.first.length

    @property
    def scope(self) -> Scope:
        """Who shares the entries of the second tier."""
        return self.second.scope

    def fetch(self, indices: Sequence[int], load: LoadSamples) -> list[Any]:
        """Return samples, as :meth:`SampleCache.fetch` does."""
        self._prove(load)
        return self.first.fetch(indices, self._behind(load))

    def fetch_one(self, index: int, load: LoadSamples) -> Any:
        """Return one sample, as :meth:`SampleCache.fetch_one` does."""
        self._prove(load)
        return self.first.fetch_one(index, self._behind(load))

    def locate(self, indices: IntArray, load: LoadSamples) -> BatchLocation | None:
        """Locate samples in the first cache, as :meth:`SampleCache.locate` does."""
        self._prove(load)
        return self.first.locate(indices, lambda missing: self.second.fetch(missing, load))

    def pick_column(self, indices: IntArray) -> IntArray | None:
        """Return samples of the first cache's column, as :meth:`SampleCache.pick_column` does."""
        return self.first.pick_column(indices)

    def how_located(self) -> tuple[bool, str]:
        """Return how samples are located in the first cache."""
        return self.first.how_located()

    def column(self, load: LoadSamples) -> IntArray | None:
        """Return all values as one array, as :meth:`SampleCache.column` does."""
        self._prove(load)
        return self.first.column(self._behind(load))

    def fill(self, indices: Sequence[int], load: LoadSamples) -> int:
        """Load what is missing in either, as :meth:`SampleCache.fill` does."""
        self._prove(load)
        loaded = 0
        tried: set[int] = set()

        def count(missing: list[int]) -> Iterable[Any]:
            nonlocal loaded
            loaded += len(missing)
            return load(missing)

        def behind(missing: list[int]) -> list[Any]:
            tried.update(missing)
            return self.second.fetch(missing, counting)

        counting = _Through(count, load)
        if not self.first.full_lately:
            self.first.fill(indices, _Through(behind, load))
        if not self.second.full_lately:
            rest = [index for index in indices if index not in tried]
            self.second.fill(rest, counting, front=self.first)
        return loaded

    def attach(self) -> None:
        """Open both backends; see :meth:`SampleCache.attach`."""
        self.second.attach()
        self.first.attach()

    def _behind(self, load: LoadSamples) -> _Through:
        return _Through(lambda missing: self.second.fetch(missing, load), load)

    def _prove(self, load: LoadSamples) -> None:
        """Prove what both hold, each by its own header, with one look at the source."""
        self.first.prove(load, self.second.prove(load))

    def stats(self) -> CacheStats:
        """Return the counters as if both were one cache."""
        return _as_one(self.first.stats(), self.second.stats())

    @contextmanager
    def counted_apart(self) -> Iterator[Callable[[], CacheStats]]:
        """Count apart what this process reads; see :meth:`SampleCache.counted_apart`."""
        with self.first.counted_apart() as first, self.second.counted_apart() as second:
            yield lambda: _as_one(first(), second())

    def infos(self) -> list[BackendInfo | None]:
        """Return how full each tier is."""
        return self.first.infos() + self.second.infos()

    def clear(self) -> None:
        """Remove all samples, from the second tier first, because the first is filled from it."""
        self.second.clear()
        self.first.clear()

    def close(self) -> None:
        """Close both, whatever the first one raises."""
        try:
            self.first.close()
        finally:
            self.second.close()


def _as_one(first: CacheStats, second: CacheStats) -> CacheStats:
    """Return the counters of two tiers; what the first reads from the second is no source read."""
    return replace(
        first + second,
        misses=second.misses,
        refused=second.refused,
        source_reads=second.source_reads,
        seconds_source=second.seconds_source,
    )


def tier_stats(cache: SampleCache | TieredCache, tier: int | None = None) -> CacheStats:
    """Return the counters of one tier, or of all as one.

    Raises:
        InvalidOptionError: If there is no such tier.
    """
    if tier is None:
        return cache.stats()
    if type(tier) is not int or not 0 <= tier < len(cache.tiers):
        names = ", ".join(f"{number} ({each.ref.name})" for number, each in enumerate(cache.tiers))
        raise InvalidOptionError(f"tier={tier!r} is not a tier of this cache. It has {names}.")
    return cache.tiers[tier].stats()
