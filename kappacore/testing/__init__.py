"""Test suites for authors of plugins; they need ``kappacore[testing]``.

A cache backend, with everything that users may rely on::

    from kappacore.testing import CacheBackendSuite

    class TestAcme(CacheBackendSuite):
        backend = "acme"
"""

from kappacore.errors import MissingDependencyError

try:
    import pytest
except ImportError as error:
    raise MissingDependencyError(
        "kappacore.testing needs pytest: pip install 'kappacore[testing]'."
    ) from error

# Before it is imported, so that failures show the values that were compared.
pytest.register_assert_rewrite("kappacore.testing.caching")

from kappacore.testing.caching.suite import CacheBackendSuite  # noqa: E402

__all__ = ["CacheBackendSuite"]
