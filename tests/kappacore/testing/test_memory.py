"""The core's own backend, in the suite that all backends must pass."""

from __future__ import annotations

from kappacore.testing import CacheBackendSuite


class TestMemory(CacheBackendSuite):
    backend = "memory"
