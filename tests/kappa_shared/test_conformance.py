"""The backend ``shared``, in the suite that all backends must pass."""

from __future__ import annotations

import pytest

from kappacore.testing import CacheBackendSuite


class TestShared(CacheBackendSuite):
    backend = "shared"


class TestSharedOnDisk(CacheBackendSuite):
    backend = "shared"
    # As TestShared: a path goes to them like any option, and test_an_unrelated_process_… gives one.
    test_workers_in_a_new_python_read_through_the_cache = None

    @pytest.fixture
    def backend_options(self, tmp_path):
        return {"path": tmp_path, "max_bytes": "1GiB"}
