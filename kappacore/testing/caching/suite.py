"""``CacheBackendSuite``: what every cache backend must do, as tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from kappacore import plugins
from kappacore.testing.caching.case import DEFAULT_LIMIT_OPTION, Case
from kappacore.testing.caching.datasets import DatasetTests
from kappacore.testing.caching.locating import LocateTests
from kappacore.testing.caching.sharing import ClaimTests, ConcurrencyTests, ProcessTests
from kappacore.testing.caching.storing import LifetimeTests, NamespaceTests, ValueTests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kappacore.caching.backends.base import CacheBackend


class CacheBackendSuite(
    ValueTests,
    NamespaceTests,
    LifetimeTests,
    ConcurrencyTests,
    ClaimTests,
    ProcessTests,
    LocateTests,
    DatasetTests,
):
    """Tests a cache backend; derive from it in a test module and name the backend.

    A fixture ``backend_options`` (in the class, the module or a ``conftest.py``) returns the
    options to open it with, such as the address of a server. Tests of promises that the backend's
    scope does not make, and of methods that it does not define, are skipped. Every test uses
    namespaces of its own and clears them; give a backend that stores files a new folder each time.
    The suite takes up to half a minute. ``pytest -k "not slow"`` takes about four seconds: it
    leaves out the tests with killed writers, with readers beside writers, and with new Pythons.

    Attributes:
        backend: Name of the backend, installed or registered in code before the tests run.
        limit_option: Name of the option that limits the size in bytes; None if the backend has
            none, which skips the tests of a full backend.
        timeout: Seconds after which a process that uses the backend counts as hung.

    Example::

        class TestAcme(CacheBackendSuite):
            backend = "acme"

            @pytest.fixture
            def backend_options(self, tmp_path):
                return {"path": tmp_path}
    """

    backend: ClassVar[str]
    limit_option: ClassVar[str | None] = DEFAULT_LIMIT_OPTION
    timeout: ClassVar[float] = 240.0

    @pytest.fixture
    def case(self, request: pytest.FixtureRequest) -> Iterator[Case]:
        """The backend under test, and everything that the test opens and starts."""
        ref = plugins.backend(self.backend, **_options(request))
        case = Case(ref, self.limit_option, self.timeout)
        yield case
        case.end()

    @pytest.fixture
    def store(self, case: Case) -> CacheBackend:
        """The backend, opened for the case's own namespace."""
        return case.open()


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    try:
        options: dict[str, Any] = request.getfixturevalue("backend_options")
    except pytest.FixtureLookupError as error:
        if error.argname != "backend_options":  # it exists, but a fixture that it uses does not
            raise
        return {}
    return options
