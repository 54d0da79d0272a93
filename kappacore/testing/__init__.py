"""Test suites for authors of plugins; they need ``kappacore[testing]``.

``pytest -k "not slow"`` runs what takes a few seconds.

A cache backend, with everything that users may rely on::

    from kappacore.testing import CacheBackendSuite

    class TestAcme(CacheBackendSuite):
        backend = "acme"

A device to which a Loader brings batches::

    from kappacore.testing import DeviceSuite

    class TestAcme(DeviceSuite):
        device = "acme"
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore.errors import MissingDependencyError

try:
    import pytest
except ImportError as error:
    raise MissingDependencyError(
        "kappacore.testing needs pytest: pip install 'kappacore[testing]'."
    ) from error

# Before it is imported, so that failures show the values that were compared.
pytest.register_assert_rewrite("kappacore.testing.caching", "kappacore.testing.devices")

from kappacore.testing.caching.suite import CacheBackendSuite  # noqa: E402

if TYPE_CHECKING:
    from kappacore.testing.devices import DeviceSuite

__all__ = ["CacheBackendSuite", "DeviceSuite"]


def __getattr__(name: str) -> Any:
    """Import the suite of devices on first use: unlike backends, devices need torch."""
    if name != "DeviceSuite":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kappacore.testing.devices import DeviceSuite

    return DeviceSuite
