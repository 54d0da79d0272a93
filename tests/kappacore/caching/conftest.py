"""What the tests of caches share: a recording backend, and a cache in it."""

from __future__ import annotations

import pytest

import kappacore
from support.caching import RecordingBackend, open_cache


@pytest.fixture
def recording():
    """The recording backend, registered as "recording"."""
    kappacore.register_cache_backend("recording", RecordingBackend.reset())
    yield RecordingBackend
    kappacore.unregister_cache_backend("recording")


@pytest.fixture
def cache(recording):
    """A cache of 10 samples in the recording backend, its record already written."""
    with_record = open_cache("recording")
    recording.take_calls()
    yield with_record
    with_record.close()
