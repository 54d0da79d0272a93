"""Opening a cache for a dataset: which backend, which identity, and what is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch.utils.data

from kappacore import plugins
from kappacore._shown import shown
from kappacore.caching.backends.base import backend_class
from kappacore.caching.engine.cache import SampleCache
from kappacore.caching.engine.tiers import TieredCache
from kappacore.caching.identity.namespace import identify
from kappacore.datasets import Item, KDDataset
from kappacore.datasets.items import digest
from kappacore.datasets.stack import inside
from kappacore.errors import (
    InvalidOptionError,
    RandomSourceError,
    UnknownOptionError,
    UseModeWrapperError,
)
from kappacore.sizes import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappacore.caching.backends.base import CacheBackend
    from kappacore.plugins import PluginRef

    BackendChoice = str | PluginRef | dict[str, Any] | Sequence[str | PluginRef | dict[str, Any]]

_TIERS = 2
_OWN_OPTIONS = (
    "backend, items and form (CacheWrapper) or transform (CachedDataset), namespace, keep, check, "
    "strict, codec, verify, copy"
)

log = logging.getLogger("kappacore.cache")

__all__ = ["check_samples", "is_raw", "open_cache", "refuse_random", "sample_fingerprint"]


def open_cache(
    dataset: Any,
    *,
    item: str,
    form: str,
    fingerprint: str | None,
    load: Callable[[list[int]], Sequence[Any]],
    backend: BackendChoice,
    options: dict[str, Any],
    namespace: object,
    keep: bool | float | str,
    check: bool,
    settings: dict[str, Any],
) -> SampleCache | TieredCache:
    """Open the cache for one item of a dataset, or for its whole samples, and check what it holds.

    Args:
        dataset: the dataset.
        item: name of the item; ``"sample"`` for whole samples.
        form: ``"raw"``, ``"decoded"`` or ``"sample"``.
        fingerprint: identifies the content; None if unknown.
        load: reads values at a list of indices from the dataset.
        backend: as the user chose it; ``"auto"`` is ``shared`` where installed, else ``memory``.
        options: the backend's.
        namespace: as the user gave it.
        keep: as the user gave it.
        check: whether to compare with the source what only a name identifies.
        settings: further arguments of :class:`SampleCache`.
    """
    refs = _choose(backend, options)
    scopes = {_check(ref).scope for ref in refs}
    identity = identify(
        dataset=type(dataset).__qualname__,
        item=item,
        form=form,
        length=len(dataset),
        fingerprint=fingerprint,
        namespace=namespace,
        shared="process" not in scopes or len(scopes) > 1,
    )
    duration = parse_duration(keep)
    if identity.private:
        if duration:
            raise InvalidOptionError(
                f"keep={keep!r} was given, but nothing identifies the content of "
                f"{type(dataset).__qualname__}, so nobody could find it again. Name it: "
                f"namespace='my-dataset-train'."
            )
        log.info(
            "The cache of %s is private to this object and its workers: nothing identifies what "
            "it holds. Give it a namespace= to share it.",
            type(dataset).__qualname__,
        )
    tiers = [
        SampleCache(
            replace(ref, options=backend_class(ref).prepare(**ref.options)),
            identity,
            len(dataset),
            keep=_kept(ref, duration, refs),
            columns=form == "decoded",
            alone=len(refs) == 1,
            # What lies behind is stored in front: as values of their own, not as views.
            **(settings if ref is refs[0] else {**settings, "copy": True}),
        )
        for ref in refs
    ]
    cache = tiers[0] if len(tiers) == 1 else TieredCache(*tiers)
    cache.attach(load, check)
    return cache


def _choose(backend: BackendChoice, options: dict[str, Any]) -> list[PluginRef]:
    """Turn what the user wrote into one choice of a backend, or two for tiers."""
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
        )
    return [plugins.as_ref("backend", choice) for choice in backend]


def _check(ref: PluginRef) -> type[CacheBackend]:
    try:
        return backend_class(ref)
    except UnknownOptionError as error:
        raise UnknownOptionError(f"{error} The cache itself takes: {_OWN_OPTIONS}.") from None


def _kept(ref: PluginRef, keep: float, refs: list[PluginRef]) -> float:
    """A tier in the process's memory cannot keep anything; where another one can, it does."""
    able = [each for each in refs if backend_class(each).scope != "process"]
    return keep if ref in able or not able else 0.0


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
    for part in inside(dataset):  # a wrapper may say False above what is random
        refuse_random(part)
    if getattr(dataset, "is_random", False):
        raise RandomSourceError(
            f"{type(dataset).__qualname__} is random (is_random=True): the same index may give "
            f"another value each time, and a cache would freeze the first one for ever. Put the "
            f"cache below the random part, and the random part above the cache."
        )


def check_samples(dataset: Any) -> None:
    """Raise UseModeWrapperError if the dataset has items but does not say what a sample is."""
    if isinstance(dataset, KDDataset) and type(dataset).__getitem__ is KDDataset.__getitem__:
        raise UseModeWrapperError(
            f"{type(dataset).__name__} has items but no samples. Cache items with "
            f"CacheWrapper(dataset, items='x'), or say what a sample is: "
            f"CachedDataset(ModeWrapper(dataset, 'x class'))."
        )


def sample_fingerprint(dataset: Any) -> str | None:
    """Identify the content of whole samples; None if nothing says."""
    if isinstance(dataset, torch.utils.data.Subset):
        inner = sample_fingerprint(dataset.dataset)
        if inner is None or type(dataset) is not torch.utils.data.Subset:
            return None
        return f"subset:{digest(inner, *map(str, dataset.indices))}"
    if hasattr(type(dataset), "sample_fingerprint"):
        found = dataset.sample_fingerprint() if _identifies_samples(type(dataset)) else None
        return None if found is None else str(found)
    # Its own, not one that a wrapper's __getattr__ hands out from further down.
    own = hasattr(type(dataset), "_fingerprint") or "_fingerprint" in getattr(
        dataset, "__dict__", {}
    )
    huggingface = dataset._fingerprint if own else None
    return f"huggingface:{huggingface}" if isinstance(huggingface, str) else None


def _identifies_samples(cls: type) -> bool:
    """Whether no class below the one that declares the fingerprint changes the samples."""
    for base in cls.__mro__:
        if "sample_fingerprint" in vars(base):
            return True
        if vars(base).keys() & {"__getitem__", "__getitems__"}:
            return False
    return False
