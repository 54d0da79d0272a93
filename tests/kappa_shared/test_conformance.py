"""The backend ``shared``, in the suite that all backends must pass."""

from __future__ import annotations

import pytest

from kappacore.testing import CacheBackendSuite


class TestShared(CacheBackendSuite):
    backend = "shared"


class TestSharedOnDisk(CacheBackendSuite):
    backend = "shared"

    @pytest.fixture
    def backend_options(self, tmp_path):
        return {"path": tmp_path, "max_bytes": "1GiB"}
