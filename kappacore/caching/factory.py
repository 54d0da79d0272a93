"""Opening a cache for a dataset: its backends, its options, and the datasets that are refused."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kappacore import plugins
from kappacore._shown import shown
from kappacore._warn import warn
from kappacore.caching.backends.base import backend_class
from kappacore.caching.engine.cache import SampleCache
from kappacore.caching.engine.tiers import TieredCache
from kappacore.caching.identity.namespace import identify
from kappacore.datasets import Item, KDDataset
from kappacore.datasets.stack import walk
from kappacore.errors import (
    BrokenPluginError,
    CacheWarning,
    InvalidOptionError,
    KappaError,
    RandomSourceError,
    UnknownOptionError,
    UseModeWrapperError,
)
from kappacore.sizes import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kappacore.caching.backends.base import Scope
    from kappacore.plugins import PluginRef

    BackendChoice = str | PluginRef | dict[str, Any] | Sequence[str | PluginRef | dict[str, Any]]

_TIERS = 2
_OWN_OPTIONS = (
    "backend, items and form (CacheWrapper) or transform (CachedDataset), namespace, keep, check, "
    "strict, codec, check_digests, copy"
)

log = logging.getLogger("kappacore.cache")


def open_cache(  # noqa: D417 - CachedDataset describes the others
    dataset: Any,
    *,
    item: str,
    form: str,
    fingerprint: str | None,
    content_known: bool,
    backend: BackendChoice,
    options: dict[str, Any],
    namespace: object,
    keep: bool | float | str,
    check: bool,
    **settings: Any,
) -> SampleCache | TieredCache:
    """Open the cache for one item of a dataset, or for its whole samples, and compare its identity.

    Options that are not listed are those of :class:`CachedDataset`.

    Args:
        dataset: The dataset.
        item: The name of the item; ``"sample"`` for whole samples.
        form: ``"raw"``, ``"decoded"`` or ``"sample"``.
        fingerprint: Identifies the content; None if unknown.
        content_known: Whether the fingerprint alone proves it (``fingerprint_is_content``).
        options: The backend's.
        **settings: Further arguments of :class:`SampleCache`.
    """
    refs = _choose(backend, options)
    scopes = [_scope(ref) for ref in refs]
    kind = type(dataset).__qualname__
    content_known = content_known and fingerprint is not None
    identity = identify(
        dataset=kind,
        item=item,
        form=form,
        length=len(dataset),
        # Marked, so that these samples never meet those of a class that inherits the fingerprint.
        fingerprint=f"content:{fingerprint}" if content_known else fingerprint,
        namespace=namespace,
        shared=set(scopes) != {"process"},
    )
    duration = parse_duration(keep)
    if identity.private:
        if duration:
            raise InvalidOptionError(
                f"keep={keep!r} was given, but nothing identifies the content of {kind}, so "
                f"nobody could find it again. Name it: namespace='my-dataset-train'."
            )
        log.info(
            "The cache of %s is private to this object and its workers: nothing identifies what "
            "it holds. Give it a namespace= to share it.",
            kind,
        )
    tiers = [
        SampleCache(
            _prepare(ref, strict=settings.get("strict", False)),
            identity,
            len(dataset),
            # Memory of the process cannot keep anything; where another tier can, that one does.
            keep=0.0 if scope == "process" and len(set(scopes)) > 1 else duration,
            columns=form == "decoded",
            alone=len(refs) == 1,
            check=check and not content_known,
            # What lies behind is stored in front: as values of their own, not as views.
            **(settings if ref is refs[0] else {**settings, "copy": True}),
        )
        for ref, scope in zip(refs, scopes, strict=True)
    ]
    cache = tiers[0] if len(tiers) == 1 else TieredCache(*tiers)
    cache.attach()
    return cache


def backend_of_items(
    items: Any, backend: BackendChoice, options: dict[str, Any]
) -> Mapping[str, BackendChoice]:
    """Return the items to cache, each with its backend."""
    if isinstance(items, Mapping):
        if backend != "auto" or options:
            raise InvalidOptionError(
                f"items={dict(items)!r} names a backend for each item, so backend= and its options "
                f"have no meaning beside it. Give the options there: items="
                f"{{'x': kappacore.backend('shared', max_bytes='64GiB')}}.{_renamed(options)}"
            )
        chosen = dict(items)
    elif isinstance(items, Iterable):
        chosen = dict.fromkeys(items.split() if isinstance(items, str) else items, backend)
    else:
        chosen = {}
    if not chosen:
        raise InvalidOptionError(
            f"items={items!r} names no item to cache. Give for example items='x'."
        )
    return chosen


def _choose(backend: BackendChoice, options: dict[str, Any]) -> list[PluginRef]:
    """Return the chosen backend, or two of them for tiers."""
    if not isinstance(backend, list | tuple):
        if backend == "auto":
            backend = "shared" if plugins.has("backend", "shared") else "memory"
        return [plugins.as_ref("backend", backend, options)]
    if len(backend) != _TIERS:
        raise InvalidOptionError(
            f"backend={shown('', backend)} has {len(backend)} entries; expected one "
            f"backend, or a pair of them: the one that is asked first, and the one behind it."
        )
    if options:
        raise InvalidOptionError(
            f"The options {', '.join(options)} were given beside a pair of backends, so they could "
            f"belong to either. Give them with their backend: kappacore.backend(name, …)."
            f"{_renamed(options)}"
        )
    return [plugins.as_ref("backend", choice) for choice in backend]


def _scope(ref: PluginRef) -> Scope:
    try:
        return backend_class(ref).scope
    except UnknownOptionError as error:
        raise UnknownOptionError(
            f"{error} The cache itself takes: {_OWN_OPTIONS}.{_renamed(ref.options)}"
        ) from None


def _prepare(ref: PluginRef, *, strict: bool) -> PluginRef:
    """Return a choice with the options that all processes open it with."""
    try:
        options = backend_class(ref).prepare(**ref.options)
    except KappaError:  # what only the user can mend
        raise
    except Exception as error:
        if strict:
            raise
        warn(
            f"The cache backend {ref.name!r} failed: prepare() raised {type(error).__name__}: "
            f"{error}. It is opened with its options as they were given. strict=True would raise "
            f"instead.",
            CacheWarning,
        )
        return ref
    if not isinstance(options, dict):
        raise BrokenPluginError(
            f"The cache backend {ref.name!r} answered {options!r:.200} to prepare; expected a dict "
            f"of options."
        )
    return replace(ref, options=options)


def _renamed(options: Mapping[str, Any]) -> str:
    return " The cache's own verify= is called check_digests= now." if "verify" in options else ""


def is_raw(item: Item, name: str, form: str | None) -> bool:
    """Return whether a cache keeps the item's raw form; raise if there is none to keep."""
    if form not in (None, "raw", "decoded"):
        raise InvalidOptionError(
            f"form={form!r} is not known. Use 'raw' (as stored), 'decoded' (as the value), or "
            f"leave it out."
        )
    if form == "raw" and not item.has_raw:
        raise InvalidOptionError(
            f"form='raw' was asked for, but the item {name!r} has no raw form here. Define "
            f"getraw_{name} and decode_{name}, put the cache below the wrapper that changes "
            f"{name!r}, or use form='decoded'."
        )
    return item.has_raw if form is None else form == "raw"


def refuse_random(dataset: Any) -> None:
    """Raise RandomSourceError if the dataset, or one inside it, is random."""
    # The innermost first; a wrapper may be True or False, whatever is below it.
    for part in reversed([part for _, part in walk(dataset)]):
        if not getattr(part, "is_random", False):
            continue
        raise RandomSourceError(
            f"{type(part).__qualname__} is random (is_random=True): the same index may give "
            f"another value each time, and a cache would freeze the first one for ever. Put the "
            f"cache below the random part, and the random part above the cache."
        )


def check_samples(dataset: Any) -> None:
    """Raise UseModeWrapperError if the dataset has items but no samples."""
    if isinstance(dataset, KDDataset) and type(dataset).__getitem__ is KDDataset.__getitem__:
        raise UseModeWrapperError(
            f"{type(dataset).__name__} has items but no samples. Cache items with "
            f"CacheWrapper(dataset, items='x'), or say what a sample is: "
            f"CachedDataset(ModeWrapper(dataset, 'x class'))."
        )
