"""The conformance suite for cache backends."""

from kappacore.testing.caching.suite import CacheBackendSuite

__all__ = ["CacheBackendSuite"]
