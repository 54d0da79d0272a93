"""What a cache holds, how it is used, and what limits the epoch, as text."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from kappacore.caching.backends.base import BackendInfo, backend_class
from kappacore.caching.identity.determinism import random_states_restored
from kappacore.caching.identity.namespace import split
from kappacore.caching.stats import CacheStats
from kappacore.datasets.mode import ModeWrapper
from kappacore.datasets.shallow_copy import shallow_copy
from kappacore.datasets.stack import walk
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

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
            f"  fill: {_fill(info, tier.length, failing=tier.failing)}",
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
    lines = []
    try:
        infos = list(backend_class(cache.ref).namespaces(**cache.ref.options))
        if wrong := [info for info in infos if not isinstance(info, BackendInfo)]:
            raise TypeError(f"namespaces() lists {wrong[0]!r:.200}, which is no BackendInfo")
    except Exception as error:  # the cache itself works
        return [f"others of the same dataset: unknown ({type(error).__name__}: {error})"]
    for info in infos:
        if info.dataset == own.description["dataset"] and info.namespace != own.namespace:
            parts = zip(_PARTS, split(info.namespace), split(own.namespace), strict=True)
            differing = [f"{name} ({its}, here {ours})" for name, its, ours in parts if its != ours]
            lines.append(f"not shared with {info.namespace}: other {', '.join(differing)}")
    return lines[:_MOST_RELATIVES]


def explain(target: Any) -> str:
    """Return the stack of a dataset or loader, one part a line, and what limits its epoch.

    A few samples are read through shallow copies of the whole stack for this. They are not counted
    (nor is what other threads of this process read meanwhile), and random states are restored.

    Args:
        target: A dataset, a ``ModeWrapper``, a ``DataLoader`` or a ``Loader``.

    Returns:
        The parts from the outermost to the source; for each cache how full it is and of what
        budget, its hit rate and the milliseconds a sample spends in it; and one sentence on what
        limits the epoch and what to change.

    Example::

        print(kappacore.explain(loader))
    """
    lines: list[str] = []
    caches: list[SampleCache | TieredCache] = []
    batches: list[str] = []
    for depth, part in walk(target):
        lines.append("  " * depth + _describe(part))
        batches += _how_batches_are_read(part)
        if callable(getattr(type(part), "explain", None)):
            if callable(getattr(type(part), "_kd_caches", None)):
                caches += part._kd_caches()
            lines += ["  " * (depth + 1) + line for line in part.explain().splitlines()]
    workers = getattr(target, "num_workers", None)
    top = target if workers is None else target.dataset
    if not caches:
        advice = "There is no cache: every sample is read from the source in every epoch."
        return "\n".join([*lines, advice])
    stats = _sum(cache.stats() for cache in caches)
    probe, above = _probe(shallow_copy(top), caches)
    if above is not None:
        lines.append(f"decoding and transforms above the cache: {above:.2f} ms a sample")
    return "\n".join([*lines, *batches, _advice(caches, stats, probe, above or 0.0, workers)])


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


def _fill(info: BackendInfo | None, length: int, *, failing: bool) -> str:
    if info is None:
        return f"unknown, because the backend {'fails' if failing else 'defines no info()'}"
    budget = "" if info.capacity is None else f" of {format_size(info.capacity)}"
    full = ", full: the rest comes from the source" if info.full else ""
    held = f"{info.entries} of {length} samples, {format_size(info.bytes)}"
    return f"{held}{budget}{full} ({info.where})"


def _use(stats: CacheStats) -> str:
    if not stats.samples:
        return "nothing was read yet"
    per_hit, per_look = 1000 / max(1, stats.hits), 1000 / stats.samples
    per_read = 1000 / max(1, stats.source_reads)
    troubles = "".join(
        f", {number} {name}"
        for name, number in (
            ("corrupt values", stats.corrupt),
            ("operations of the backend failed", stats.backend_errors),
        )
        if number
    )
    looked_up = f"{stats.seconds_get * per_look:.3f} ms to look up"
    return (
        f"{stats.hit_rate:.1%} hits{troubles}; a sample takes "
        f"{stats.seconds_source * per_read:.2f} ms from the source, {looked_up}, "
        f"{stats.seconds_decode * per_hit:.3f} ms to turn from bytes into its value"
    )


def _probe(top: Any, caches: list[SampleCache | TieredCache]) -> tuple[CacheStats, float | None]:
    """Read a few samples; return what the caches did, and a sample's milliseconds outside them.

    The latter is None if the dataset has no batches.
    """
    getitems = getattr(type(top), "__getitems__", None)
    if getitems is None or not len(top):
        return CacheStats(), None
    number = min(_PROBED, len(top))
    indices = list(range(number))
    seconds = []
    with ExitStack() as stack:
        stack.enter_context(random_states_restored())
        counted = [stack.enter_context(cache.counted_apart()) for cache in caches]
        getitems(top, indices)  # from here on they are cached
        for _ in range(_ROUNDS):
            before, started = _sum(each() for each in counted), time.perf_counter()
            getitems(top, indices)
            elapsed, spent = time.perf_counter() - started, _sum(e() for e in counted) - before
            inside = spent.seconds_get + spent.seconds_decode + spent.seconds_source
            seconds.append(elapsed - inside)
        probe = _sum(each() for each in counted)
    return probe, max(0.0, min(seconds)) * 1000 / number


def _sum(stats: Iterable[CacheStats]) -> CacheStats:
    return sum(stats, CacheStats())


def _advice(
    caches: list[SampleCache | TieredCache],
    stats: CacheStats,
    probe: CacheStats,
    above: float,
    workers: int | None,
) -> str:
    """Return what limits the epoch and what to change.

    Args:
        caches: The caches.
        stats: What they have done for their users.
        probe: What they did for a few samples that were read for this.
        above: The milliseconds of a sample outside the caches.
        workers: The number of worker processes; None if unknown.
    """
    used = stats if stats.samples else probe
    errors = stats.backend_errors + probe.backend_errors
    if errors and (
        any(all(tier.failing for tier in cache.tiers) for cache in caches)
        or not (stats + probe).hits
    ):
        return (
            f"The cache backend fails (operations so far: {errors}), so samples come from the "
            f"source: the warning or the log says how."
        )
    if used.corrupt > used.hits:
        return (
            f"The cache is of no use: {used.corrupt} stored values failed their check, and "
            f"{used.hits} passed it. Repair what stores them, or use another backend."
        )
    length = sum(tier.length for cache in caches for tier in cache.tiers)
    if stats.stores >= 2 * length and 2 * stats.hits < stats.samples:
        return (
            f"The cache loses what it stores: for {length} samples {stats.stores} values were "
            f"stored, and {stats.hits} found again. Find out what clears, evicts or expires them."
        )
    per_sample = 1000 / max(1, used.samples)
    source = used.seconds_source * per_sample
    inside = (used.seconds_get + used.seconds_decode) * per_sample
    half = (source + inside + above) / 2
    cost, saved = _cost_and_saving(stats + probe)
    if saved is not None and cost > saved and source + inside > half:
        return (
            f"The cache costs more than it saves: a sample takes {cost:.3g} ms from the cache and "
            f"{saved:.3g} ms from the source. Leave it out, or use a faster backend."
        )
    if stats.refused:
        return (
            "The cache is full, so the epoch waits for the source: raise max_bytes, cache a "
            "smaller form, or add a tier behind it."
        )
    if used.hit_rate < _MOST_HITS and source > half:
        return (
            "The epoch waits for the source, as a first one does: later epochs will not, and "
            "prefill(threads=…) reads ahead of the first."
        )
    if above > half:
        more = "more workers" if not workers else f"more than {workers} workers"
        raw = any(cache.tiers[0].identity.description["form"] == "raw" for cache in caches)
        decoded = ", or form='decoded' if the cache has room for decoded samples" if raw else ""
        return (
            f"Decoding and transforms limit the epoch, not the storage: use {more}, "
            f"{'' if raw else 'or '}cheaper transforms{decoded}."
        )
    return "The cache limits the epoch: copy=False spares the copy, larger batches the look-ups."


def _cost_and_saving(stats: CacheStats) -> tuple[float, float | None]:
    """Return the milliseconds of a sample from the cache and from the source; None if unknown."""
    if not (stats.hits and stats.source_reads):
        return 0.0, None
    look, decode = stats.seconds_get / stats.samples, stats.seconds_decode / stats.hits
    return 1000 * (look + decode), 1000 * stats.seconds_source / stats.source_reads
