"""For all tests: caches lie in a folder of the test's own, and nothing is left in it."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from support.caching import namespaces_in

_NEW_PYTHONS = {"spawn", "forkserver"}  # each takes seconds to import torch

# A machine that is busy makes slow examples of all.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Once in a server, not in each of its workers; which know nothing of kappacore, as ever. So tests
# take "forkserver" for workers in a new Python; a few take "spawn", where all is imported anew.
multiprocessing.set_forkserver_preload(["torch.utils.data"])

# A shell ignores Ctrl-C for what it starts in the background, and so would every child of a test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)  # before marks are selected
def pytest_collection_modifyitems(items):
    """Each process of pytest begins with its share of the slow tests, so that none ends with one.

    Where there are several, pytest-xdist gives each an equal part of the list, in order.
    """
    for item in items:
        params = item.callspec.params.values() if hasattr(item, "callspec") else ()
        starts = {param for param in params if isinstance(param, str)}
        is_slow = getattr(item.function, "slow", False)  # of the suite for authors of backends
        if is_slow or starts & _NEW_PYTHONS:
            item.add_marker(pytest.mark.slow)
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes == 1:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    fast = [item for item in items if not item.get_closest_marker("slow")]
    bounds = [len(fast) * number // processes for number in range(processes + 1)]
    items[:] = [
        item
        for number in range(processes)
        for item in (*slow[number::processes], *fast[bounds[number] : bounds[number + 1]])
    ]


def pytest_collection_finish():
    """Spare every test what grows with all that was imported, torch above all."""
    gc.collect()
    gc.freeze()  # a collection in a forked process would copy what it shares
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.propagate = True  # or pytest hangs its handler on each, four times a test


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
