"""Opening a cache for a dataset: which backend, which identity, and what is refused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch.utils.data

from kappacore import plugins
from kappacore.caching.engine import SampleCache
from kappacore.caching.namespace import identify
from kappacore.caching.session import backend_class
from kappacore.caching.sizes import parse_duration
from kappacore.datasets import Item, KDDataset
from kappacore.datasets.digest import digest
from kappacore.errors import InvalidOptionError, RandomSourceError, UseModeWrapperError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kappacore.plugins import PluginRef

log = logging.getLogger("kappacore.cache")

__all__ = ["check_samples", "is_raw", "open_cache", "refuse_random", "sample_fingerprint"]


def open_cache(
    dataset: Any,
    *,
    item: str,
    form: str,
    fingerprint: str | None,
    load: Callable[[list[int]], Sequence[Any]],
    backend: str | PluginRef | dict[str, Any],
    options: dict[str, Any],
    namespace: object,
    keep: bool | float | str,
    check: bool,
    settings: dict[str, Any],
) -> SampleCache:
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
    if backend == "auto":
        backend = "shared" if plugins.has("backend", "shared") else "memory"
    ref = plugins.as_ref("backend", backend, options)
    identity = identify(
        dataset=type(dataset).__qualname__,
        item=item,
        form=form,
        length=len(dataset),
        fingerprint=fingerprint,
        namespace=namespace,
        shared=backend_class(ref).scope != "process",
    )
    if identity.private:
        log.info(
            "The cache of %s is private to this object and its workers: nothing identifies what "
            "it holds. Give it a namespace= to share it.",
            type(dataset).__qualname__,
        )
    cache = SampleCache(ref, identity, len(dataset), keep=parse_duration(keep), **settings)
    cache.attach(load, check)
    return cache


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
    """Raise RandomSourceError if the dataset, or one in torch's own wrappers, says it is random."""
    if isinstance(dataset, torch.utils.data.Subset):
        refuse_random(dataset.dataset)
    if isinstance(dataset, torch.utils.data.ConcatDataset):
        for part in dataset.datasets:
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
    huggingface = getattr(dataset, "_fingerprint", None)
    return f"huggingface:{huggingface}" if isinstance(huggingface, str) else None


def _identifies_samples(cls: type) -> bool:
    """Whether no class below the one that declares the fingerprint changes the samples."""
    for base in cls.__mro__:
        if "sample_fingerprint" in vars(base):
            return True
        if vars(base).keys() & {"__getitem__", "__getitems__"}:
            return False
    return False
