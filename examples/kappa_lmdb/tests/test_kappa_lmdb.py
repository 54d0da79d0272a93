"""The backend ``lmdb``, in the suite that all backends must pass."""

import pytest

from kappacore.testing import CacheBackendSuite


class TestLMDB(CacheBackendSuite):
    """Every test of the suite, in a new folder each time."""

    backend = "lmdb"

    @pytest.fixture
    def backend_options(self, tmp_path):
        """Return what the backend is opened with."""
        return {"path": tmp_path, "max_bytes": "256MiB"}
