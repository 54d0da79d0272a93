"""What this distribution provides to kappacore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore.plugin_api import CacheBackendSpec, hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterable


@hookimpl
def kappacore_cache_backends() -> Iterable[CacheBackendSpec]:
    """Return the backend ``shared``."""
    yield CacheBackendSpec(
        name="shared",
        target="kappa_shared.backend:SharedBackend",
        scope="machine",
        api=1,
        summary="Memory shared by all processes of a machine.",
        aliases=("shared-dict",),
    )
