"""The cache on Redis under KappaData's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.caching import CachedDataset
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable


class RedisDataset(CachedDataset):
    """Any map-style dataset, its samples cached in Redis or Valkey for all machines that reach it.

    The same as ``kappacore.CachedDataset(dataset, "redis", url=…, transform=transform, …)``.

    Args:
        dataset: A map-style dataset.
        transform: Called with each sample after the cache.
        host: The server's name or address. Without it (and ``port`` and ``url``), the server is the
            one named by ``$KAPPA_REDIS_URL``, else a private one that ends with this process.
        port: The server's port; default 6379.
        **options: Those of :class:`kappacore.CachedDataset`, such as ``namespace``, and of
            :class:`kappa_redis.backend.RedisBackend`, such as ``url``, ``password`` and ``ttl``.

    Example::

        ds = RedisDataset(ImageFolder("/data/train"), host="cache.example.org")
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[[Any], Any] | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        **options: Any,
    ) -> None:
        if host is not None or port is not None:
            if options.get("url") is not None:
                raise InvalidOptionError(
                    f"host={host!r} and port={port!r} were given beside url=, which names the "
                    f"server too. Give one of them."
                )
            name = host or "localhost"
            address = f"[{name}]" if ":" in name else name  # IPv6
            options["url"] = f"redis://{address}:{6379 if port is None else port}"
        super().__init__(dataset, "redis", transform=transform, **options)
