"""What the tests of caches share: a log of reads, backends, and a cache that takes notes."""

from __future__ import annotations

import pytest

import kappacore
from support.caching import RecordingBackend, open_cache

RANKS = [
    *("LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE"),
    *("SLURM_LOCALID", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_NODEID"),
    *("SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_NUM_TASKS"),
]


@pytest.fixture
def log(tmp_path):
    """The file where sources note what is read."""
    return tmp_path / "reads"


@pytest.fixture(params=["memory", "shared"])
def backend(request):
    """The backends of one process and of one machine."""
    return request.param


@pytest.fixture(autouse=True)
def one_rank(monkeypatch):
    """No launcher has started this process, whoever has started pytest."""
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def recording():
    """The recording backend, registered as "recording"."""
    kappacore.register_cache_backend("recording", RecordingBackend.reset())
    yield RecordingBackend
    kappacore.plugins.unregister_cache_backend("recording")


@pytest.fixture
def cache(recording):
    """A cache of 10 samples in the recording backend, its header already written."""
    with_record = open_cache("recording")
    recording.take_calls()
    yield with_record
    with_record.close()
