"""What a cache holds, how it is used, and what limits the epoch, as text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kappacore.caching.backends.base import backend_class
from kappacore.caching.identity.determinism import random_states_restored
from kappacore.caching.identity.namespace import split
from kappacore.caching.stats import CacheStats
from kappacore.datasets.mode import ModeWrapper
from kappacore.datasets.stack import shallow_copy, walk
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from kappacore.caching.backends.base import BackendInfo
    from kappacore.caching.engine.cache import SampleCache
    from kappacore.caching.engine.tiers import TieredCache

__all__ = ["explain", "explain_cache"]

_PROBED = 8  # samples
_ROUNDS = 3  # the fastest counts: the machine was busy in the others
_MOST_RELATIVES = 5
_PARTS = ("fingerprint or name", "item", "form", "length", "format version")
_MOST_HITS = 0.95


def explain_cache(cache: SampleCache | TieredCache, repeats: str | None = None) -> str:
    """Return what identifies a cache's content, how full it is and how it is used.

    Args:
        cache: The cache, or a cache of two tiers.
        repeats: What it stores several times; see :mod:`kappacore.caching.repeats`.
    """
    lines = []
    for tier, info in zip(cache.tiers, cache.infos(), strict=True):
        identity = tier.identity
        parts = identity.description
        private = " (private to this object and its workers)" if identity.private else ""
        fingerprint = identity.fingerprint or "unknown; only the namespace identifies it"
        lines += [
            f"cache {tier.ref.name!r}: {parts['item']!r} of {parts['dataset']}, {parts['form']}",
            f"  namespace: {identity.namespace}{private}",
            f"  fingerprint: {fingerprint}",
            f"  fill: {_fill(info, tier.length)}",
            f"  use: {_use(tier.stats())}",
            *([] if repeats is None else [f"  repeats: {repeats}"]),
            *(f"  {line}" for line in _relatives(tier)),
        ]
    return "\n".join(lines)


def _relatives(cache: SampleCache) -> list[str]:
    """Return a line for each other namespace of the same dataset: how it differs from this one.

    They show why a cache is cold although one like it was filled.
    """
    own = cache.identity
    try:
        infos = list(backend_class(cache.ref).namespaces(**cache.ref.options))
    except Exception as error:  # the cache itself works
        return [f"others of the same dataset: unknown ({type(error).__name__}: {error})"]
    lines = []
    for info in infos:
        if info.dataset == own.description["dataset"] and info.namespace != own.namespace:
            parts = zip(_PARTS, split(info.namespace), split(own.namespace), strict=True)
            differing = [f"{name} ({its}, here {ours})" for name, its, ours in parts if its != ours]
            lines.append(f"not shared with {info.namespace}: other {', '.join(differing)}")
    return lines[:_MOST_RELATIVES]


def explain(target: Any) -> str:
    """Return the stack of a dataset or loader, one part a line, and what limits its epoch.

    A few samples are read through shallow copies of the whole stack for this; random states are
    restored.

    Args:
        target: A dataset, a ``ModeWrapper``, a ``DataLoader`` or a ``Loader``.

    Returns:
        The parts from the outermost to the source; for each cache how full it is and of what
        budget, its hit rate and the milliseconds a sample spends in it; and one sentence on what
        limits the epoch and what to change.

    Example::

        >>> print(kappacore.explain(loader))
    """
    lines: list[str] = []
    caches: list[Any] = []
    batches: list[str] = []
    for depth, part in walk(target):
        lines.append("  " * depth + _describe(part))
        batches += _how_batches_are_read(part)
        if callable(getattr(type(part), "explain", None)):
            if callable(getattr(type(part), "prefill", None)):
                caches.append(part)
            lines += ["  " * (depth + 1) + line for line in part.explain().splitlines()]
    workers = getattr(target, "num_workers", None)
    top = target if workers is None else target.dataset
    above = _milliseconds_above(shallow_copy(top), caches) if caches else None
    if above is not None:
        lines.append(f"decoding and transforms above the cache: {above:.2f} ms a sample")
    return "\n".join([*lines, *batches, _advice(caches, above or 0.0, workers)])


def _how_batches_are_read(part: Any) -> list[str]:
    """Return a line for each item of a :class:`ModeWrapper`: how its batches are stacked."""
    if not isinstance(part, ModeWrapper):
        return []
    return [f"batches of {name!r}: {item.how_stacked()[1]}" for name, item in part.mode_items()]


def _describe(part: Any) -> str:
    attributes = getattr(part, "__dict__", {})
    options = ", ".join(
        f"{name}={attributes[name]!r}"
        for name in ("mode", "item", "batch_size", "num_workers", "root")
        if isinstance(attributes.get(name), str | int)
    )
    try:
        return f"{type(part).__name__}({options}) of {len(part)}"
    except TypeError:
        return f"{type(part).__name__}({options})"


def _fill(info: BackendInfo | None, length: int) -> str:
    if info is None:
        return "unknown, because the backend defines no info()"
    budget = "" if info.capacity is None else f" of {format_size(info.capacity)}"
    full = ", full: the rest comes from the source" if info.full else ""
    held = f"{info.entries} of {length} samples, {format_size(info.bytes)}"
    return f"{held}{budget}{full} ({info.where})"


def _use(stats: CacheStats) -> str:
    if not stats.samples:
        return "nothing was read yet"
    per_hit, per_look = 1000 / max(1, stats.hits), 1000 / stats.samples
    per_read = 1000 / max(1, stats.source_reads)
    return (
        f"{stats.hit_rate:.1%} hits; a sample takes {stats.seconds_source * per_read:.2f} ms from "
        f"the source, {stats.seconds_get * per_look:.3f} ms to look up, "
        f"{stats.seconds_decode * per_hit:.3f} ms to turn from bytes into its value"
    )


def _milliseconds_above(top: Any, caches: list[Any]) -> float | None:
    """Measure the time of a sample outside the caches on a few samples; None if that is unknown."""
    getitems = getattr(type(top), "__getitems__", None)
    if getitems is None or not len(top):
        return None
    number = min(_PROBED, len(top))
    indices = list(range(number))
    seconds = []
    with random_states_restored():
        getitems(top, indices)  # from here on they are cached
        for _ in range(_ROUNDS):
            before, started = _total(caches), time.perf_counter()
            getitems(top, indices)
            elapsed, spent = time.perf_counter() - started, _total(caches) - before
            inside = spent.seconds_get + spent.seconds_decode + spent.seconds_source
            seconds.append(elapsed - inside)
    return max(0.0, min(seconds)) * 1000 / number


def _total(caches: list[Any]) -> CacheStats:
    return sum((part.stats() for part in caches), CacheStats())


def _advice(caches: list[Any], above: float, workers: int | None) -> str:
    if not caches:
        return "There is no cache: every sample is read from the source in every epoch."
    stats = _total(caches)
    per_sample = 1000 / max(1, stats.samples)
    source = stats.seconds_source * per_sample
    inside = (stats.seconds_get + stats.seconds_decode) * per_sample
    half = (source + inside + above) / 2
    if stats.refused:
        return (
            "The cache is full, so the epoch waits for the source: raise max_bytes, cache a "
            "smaller form, or add a tier behind it."
        )
    if stats.hit_rate < _MOST_HITS and source > half:
        return (
            "The epoch waits for the source, as a first one does: later epochs will not, and "
            "prefill(threads=…) reads ahead of the first."
        )
    if above > half:
        more = "more workers" if not workers else f"more than {workers} workers"
        return (
            f"Decoding and transforms limit the epoch, not the storage: use {more}, cheaper "
            f"transforms, or form='decoded' if the cache has room for decoded samples."
        )
    return "The cache limits the epoch: copy=False spares the copy, larger batches the look-ups."
