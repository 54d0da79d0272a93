"""What this distribution provides to kappacore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.plugin_api import CacheBackendSpec, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable


@hookimpl
def kappacore_cache_backends() -> Iterable[CacheBackendSpec]:
    """Return the backend ``redis``."""
    yield CacheBackendSpec(
        name="redis",
        target="kappa_redis.backend:RedisBackend",
        scope="network",
        api=1,
        summary="Redis or Valkey: one cache for many machines.",
    )
