"""Saying in plain words what a cache holds, how it is used, and what limits the epoch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kappacore.caching.backends.base import backend_class
from kappacore.caching.identity.determinism import random_states_restored
from kappacore.caching.identity.namespace import split
from kappacore.caching.stats import CacheStats
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kappacore.caching.backends.base import BackendInfo
    from kappacore.caching.engine.cache import SampleCache
    from kappacore.caching.engine.tiers import TieredCache

__all__ = ["explain", "explain_cache"]

_PROBED = 8  # samples
_ROUNDS = 3  # the shortest counts: in the others the machine did something else
_MOST_RELATIVES = 5
_PARTS = ("fingerprint or name", "item", "form", "length", "format version")
_MOST_HITS, _MOSTLY = 0.95, 0.5


def explain_cache(cache: SampleCache | TieredCache) -> str:
    """Return what identifies a cache's content, how full it is and how it is used.

    Args:
        cache: the cache, or two tiers of one.
    """
    lines = []
    for tier, info in zip(cache.tiers, cache.infos(), strict=True):
        parts = tier.identity.description
        fingerprint = tier.identity.fingerprint
        private = " (private to this object and its workers)" if tier.identity.private else ""
        lines += [
            f"cache {tier.ref.name!r}: {parts['item']!r} of {parts['dataset']}, {parts['form']}",
            f"  namespace: {tier.identity.namespace}{private}",
            f"  fingerprint: {fingerprint or 'unknown; only the namespace says what it holds'}",
            f"  fill: {_fill(info, tier.length)}",
            f"  use: {_use(tier.stats())}",
            *(f"  {line}" for line in _relatives(tier)),
        ]
    return "\n".join(lines)


def _relatives(cache: SampleCache) -> list[str]:
    """Say which other namespaces hold samples of such a dataset, and which part tells them apart.

    So one sees why a cache is cold although one like it was filled.
    """
    own = cache.identity
    try:
        infos = list(backend_class(cache.ref).namespaces(**cache.ref.options))
    except Exception as error:  # the cache works; only this cannot be said
        return [f"others of the same dataset: unknown ({type(error).__name__}: {error})"]
    lines = []
    for info in infos:
        if info.dataset == own.description["dataset"] and info.namespace != own.namespace:
            parts = zip(_PARTS, split(info.namespace), split(own.namespace), strict=True)
            differing = [f"{name} ({its}, here {ours})" for name, its, ours in parts if its != ours]
            lines.append(f"not shared with {info.namespace}: other {', '.join(differing)}")
    return lines[:_MOST_RELATIVES]


def explain(target: Any) -> str:
    """Return the stack of a dataset or DataLoader, one part a line, and what limits its epoch.

    A few samples are read for it, through the whole stack; random states stay as they are.

    Args:
        target: a dataset, a ``ModeWrapper`` or a ``DataLoader``.

    Returns:
        The parts from the outermost to the source; for each cache how full it is and of what
        budget, its hit rate and the milliseconds a sample spends in it; and one sentence on what
        limits the epoch and what to change.

    Example::

        >>> print(kappacore.explain(loader))
    """
    lines: list[str] = []
    caches: list[Any] = []
    for depth, part in _stack(target):
        lines.append("  " * depth + _describe(part))
        if callable(getattr(type(part), "explain", None)):
            caches.append(part)
            lines += ["  " * (depth + 1) + line for line in part.explain().splitlines()]
    workers = getattr(target, "num_workers", None)
    top = target.dataset if workers is not None else target
    above = _milliseconds_above(top, caches)
    if above is not None:
        lines.append(f"decoding and transforms above the cache: {above:.2f} ms a sample")
    return "\n".join([*lines, _advice(caches, above, workers)])


def _stack(target: Any, depth: int = 0) -> Iterator[tuple[int, Any]]:
    yield depth, target
    attributes = getattr(target, "__dict__", {})
    parts = attributes.get("datasets", ())
    parts = list(parts.values()) if isinstance(parts, dict) else parts
    for part in (attributes.get("dataset"), *(parts if isinstance(parts, list | tuple) else ())):
        if part is not None and not isinstance(part, str):
            yield from _stack(part, depth + 1)


def _describe(part: Any) -> str:
    name = type(part).__name__
    attributes = getattr(part, "__dict__", {})
    known = {
        key: attributes[key]
        for key in ("mode", "item", "batch_size", "num_workers", "root")
        if isinstance(attributes.get(key), str | int)
    }
    inside = ", ".join(f"{key}={value!r}" for key, value in known.items())
    try:
        size = f" of {len(part)}"
    except TypeError:
        size = ""
    return f"{name}({inside}){size}"


def _fill(info: BackendInfo | None, length: int) -> str:
    if info is None:
        return "the backend does not say"
    budget = "" if info.capacity is None else f" of {format_size(info.capacity)}"
    full = ", full: the rest comes from the source" if info.full else ""
    held = f"{info.entries} of {length} samples, {format_size(info.bytes)}"
    return f"{held}{budget}{full} ({info.where})"


def _use(stats: CacheStats) -> str:
    if not stats.hits + stats.misses:
        return "nothing was read yet"
    per_hit, per_look = 1000 / max(1, stats.hits), 1000 / (stats.hits + stats.misses)
    per_read = 1000 / max(1, stats.source_reads)
    return (
        f"{stats.hit_rate:.1%} hits; a sample takes {stats.seconds_source * per_read:.2f} ms from "
        f"the source, {stats.seconds_get * per_look:.3f} ms to look up, "
        f"{stats.seconds_decode * per_hit:.3f} ms to turn from bytes into its value"
    )


def _milliseconds_above(top: Any, caches: list[Any]) -> float | None:
    """Time of a sample outside the caches, measured here on a few of them; None if unknown."""
    getitems = getattr(type(top), "__getitems__", None)
    if not caches or getitems is None or not len(top):
        return None
    number = min(_PROBED, len(top))
    indices = list(range(number))
    with random_states_restored():
        getitems(top, indices)  # from here on they are cached
        outside = min(_seconds_outside(caches, getitems, top, indices) for _ in range(_ROUNDS))
    return max(0.0, outside) * 1000 / number


def _seconds_outside(
    caches: list[Any], getitems: Callable[[Any, list[int]], Any], top: Any, indices: list[int]
) -> float:
    before = _total(caches)
    started = time.perf_counter()
    getitems(top, indices)
    seconds = time.perf_counter() - started
    spent = _total(caches) - before
    return seconds - spent.seconds_get - spent.seconds_decode - spent.seconds_source


def _total(caches: list[Any]) -> CacheStats:
    return sum((part.stats() for part in caches), CacheStats())


def _advice(caches: list[Any], above: float | None, workers: int | None) -> str:
    if not caches:
        return "There is no cache: every sample is read from the source in every epoch."
    stats = _total(caches)
    seen = max(1, stats.hits + stats.misses)
    source = stats.seconds_source * 1000 / seen
    inside = (stats.seconds_get + stats.seconds_decode) * 1000 / seen
    outside = above or 0.0
    if stats.refused:
        return (
            "The cache is full, so the epoch waits for the source: raise max_bytes, cache a "
            "smaller form, or add a tier behind it."
        )
    if stats.hit_rate < _MOST_HITS and source > _MOSTLY * (source + inside + outside):
        return (
            "The epoch waits for the source, as a first one does: later epochs will not, and "
            "prefill(threads=…) reads ahead of the first."
        )
    if outside > _MOSTLY * (source + inside + outside):
        more = "more workers" if not workers else f"more than {workers} workers"
        return (
            f"Decoding and transforms limit the epoch, not the storage: use {more}, cheaper "
            f"transforms, or form='decoded' if the cache has room for decoded samples."
        )
    return "The cache limits the epoch: copy=False spares the copy, larger batches the look-ups."
