"""What this distribution provides to kappacore."""

from __future__ import annotations

from kappacore.plugin_api import CacheBackendSpec, hookimpl


@hookimpl
def kappacore_cache_backends() -> list[CacheBackendSpec]:
    """Return the backend ``shared``."""
    spec = CacheBackendSpec(
        name="shared",
        target="kappa_shared.backend:SharedBackend",
        scope="machine",
        api=1,
        summary="Memory shared by all processes of a machine.",
        aliases=("shared-dict",),
    )
    return [spec]
