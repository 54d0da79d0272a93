"""For all tests: caches lie in a folder of the test's own, and nothing is left in it."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from support.caching import namespaces_in

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture(autouse=True)
def cache_folder(request):
    """A folder for shared files, for this test and its child processes.

    A test that keeps a cache on purpose removes what it kept.
    """
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="kappacore-test-", dir=base))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAPPACORE_DIR", str(folder))
        yield folder
    try:
        if not request.node.stash.get(_failed, False):  # whose traceback keeps objects alive
            if namespaces_in(folder):
                gc.collect()
            assert namespaces_in(folder) == []
    finally:
        shutil.rmtree(folder)
