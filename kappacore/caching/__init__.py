"""Caching samples: the engine, the codec, the interface for backends and the one in memory.

Backends import from here without importing torch, so names are loaded on first touch.
"""

from typing import TYPE_CHECKING

from kappacore._lazy import lazy_names

if TYPE_CHECKING:
    from kappacore.caching.backends.base import BackendInfo, Buffer, CacheBackend
    from kappacore.caching.codec import Codec, default_codec, register_type
    from kappacore.caching.datasets import CachedDataset, CacheWrapper
    from kappacore.caching.engine.cache import SampleCache
    from kappacore.caching.identity.namespace import PRIVATE
    from kappacore.caching.stats import CacheStats

__all__ = [
    "PRIVATE",
    "BackendInfo",
    "Buffer",
    "CacheBackend",
    "CacheStats",
    "CacheWrapper",
    "CachedDataset",
    "Codec",
    "SampleCache",
    "default_codec",
    "register_type",
]

__getattr__ = lazy_names(
    __name__,
    {
        "kappacore.caching.backends.base": "BackendInfo Buffer CacheBackend",
        "kappacore.caching.codec": "Codec default_codec register_type",
        "kappacore.caching.datasets": "CacheWrapper CachedDataset",
        "kappacore.caching.engine.cache": "SampleCache",
        "kappacore.caching.identity.namespace": "PRIVATE",
        "kappacore.caching.stats": "CacheStats",
    },
)
