"""What this distribution provides to kappacore."""

from collections.abc import Iterable

from kappacore.plugin_api import CacheBackendSpec, hookimpl


@hookimpl
def kappacore_cache_backends() -> Iterable[CacheBackendSpec]:
    """Return the backend ``lmdb``."""
    target = "kappa_lmdb.backend:LMDBBackend"
    summary = "One LMDB file on a local disk."
    yield CacheBackendSpec(name="lmdb", target=target, scope="machine", api=1, summary=summary)
