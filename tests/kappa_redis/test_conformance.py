"""The backend ``redis``, in the suite that all backends must pass."""

from __future__ import annotations

import os

import pytest

from kappacore.testing import CacheBackendSuite
from support.valkey import programs

SERVER = os.environ.get("KAPPA_TEST_REDIS_URL")


class TestUnixSocket(CacheBackendSuite):
    backend = "redis"
    limit_option = None  # a server that runs has a limit of its own

    @pytest.fixture
    def backend_options(self, node):
        return {"url": node.socket_url}


if "redis" in programs():

    class TestRedis(CacheBackendSuite):
        backend = "redis"
        limit_option = None
        # As TestUnixSocket: which program the server is makes no difference to them.
        test_workers_in_a_new_python_read_through_the_cache = None

        @pytest.fixture
        def backend_options(self, redis_node):
            return {"url": redis_node.socket_url}


if SERVER:  # a real one, of whatever kind and version

    class TestServerOfTheEnvironment(CacheBackendSuite):
        backend = "redis"
        limit_option = None

        @pytest.fixture
        def backend_options(self):
            return {"url": SERVER, "prefix": "kappa-test:"}
