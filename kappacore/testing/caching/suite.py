"""``CacheBackendSuite``: what every cache backend must do, as tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from kappacore import plugins
from kappacore.testing.caching.case import Case
from kappacore.testing.caching.claims import ClaimTests
from kappacore.testing.caching.concurrency import ConcurrencyTests
from kappacore.testing.caching.datasets import DatasetTests
from kappacore.testing.caching.lifetime import LifetimeTests
from kappacore.testing.caching.namespaces import NamespaceTests
from kappacore.testing.caching.processes import ProcessTests
from kappacore.testing.caching.values import ValueTests

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CacheBackendSuite"]


class CacheBackendSuite(
    ValueTests,
    NamespaceTests,
    LifetimeTests,
    ConcurrencyTests,
    ClaimTests,
    ProcessTests,
    DatasetTests,
):
    """Tests a cache backend; derive from it in a test module and name the backend.

    A fixture ``backend_options`` (in the class, the module or a ``conftest.py``) returns the
    options that it is opened with, such as the address of a server. What the backend's scope does
    not promise, or a method that it does not define, is skipped. Every test uses namespaces of
    its own and clears them; a backend that is stored in files should be given a new folder each
    time. It takes about half a minute.

    Attributes:
        backend: name of the backend, installed or registered in code before the tests run.
        limit_option: name of the option that limits the size in bytes; None where the backend has
            none, and it is not tested that a full one refuses.
        timeout: seconds after which a process that uses the backend is taken to hang.

    Example::

        class TestAcme(CacheBackendSuite):
            backend = "acme"

            @pytest.fixture
            def backend_options(self, tmp_path):
                return {"path": tmp_path}
    """

    backend: ClassVar[str]
    limit_option: ClassVar[str | None] = "max_bytes"
    timeout: ClassVar[float] = 120.0

    @pytest.fixture
    def case(self, request: pytest.FixtureRequest) -> Iterator[Case]:
        """The backend under test, with all that a test opens and starts."""
        ref = plugins.backend(self.backend, **_options(request))
        case = Case(ref, self.limit_option, self.timeout)
        yield case
        case.end()


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    try:
        options: dict[str, Any] = request.getfixturevalue("backend_options")
    except pytest.FixtureLookupError as error:
        if error.argname != "backend_options":  # it is there, and something that it uses is not
            raise
        return {}
    return options
