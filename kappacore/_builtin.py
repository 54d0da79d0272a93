"""The core's own plugins, registered through the same hooks as everyone else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.hookspecs import hookimpl
from kappacore.specs import CacheBackendSpec, WrapperSpec

if TYPE_CHECKING:
    from collections.abc import Iterable


@hookimpl
def kappacore_cache_backends() -> Iterable[CacheBackendSpec]:
    """Return the backend that needs nothing but this process."""
    yield CacheBackendSpec(
        name="memory",
        target="kappacore.caching.memory:MemoryBackend",
        scope="process",
        api=1,
        summary="Memory of one process, with a budget.",
    )


@hookimpl
def kappacore_wrappers() -> Iterable[WrapperSpec]:
    """Return the wrappers that the core ships."""
    yield WrapperSpec(
        name="cache",
        target="kappacore.caching.datasets:cache",
        api=1,
        summary="Reads every sample once and keeps it in a cache backend.",
    )
    yield WrapperSpec(
        name="subset",
        target="kappacore.datasets.subset:KDSubset",
        api=1,
        summary="Keeps the samples at the given indices.",
    )
    yield WrapperSpec(
        name="transform",
        target="kappacore.wrappers.transform:TransformWrapper",
        api=1,
        summary="Applies a function to one item of every sample.",
    )
