"""The conformance suite for cache backends, one file a topic."""

from kappacore.testing.caching.suite import CacheBackendSuite

__all__ = ["CacheBackendSuite"]
