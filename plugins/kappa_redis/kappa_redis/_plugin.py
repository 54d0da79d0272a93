"""What this distribution provides to kappacore."""

from __future__ import annotations

from kappacore.plugin_api import CacheBackendSpec, hookimpl


@hookimpl
def kappacore_cache_backends() -> list[CacheBackendSpec]:
    """Return the backend ``redis``."""
    spec = CacheBackendSpec(
        name="redis",
        target="kappa_redis.backend:RedisBackend",
        scope="network",
        api=1,
        summary="Redis or Valkey: one cache for many machines.",
    )
    return [spec]
