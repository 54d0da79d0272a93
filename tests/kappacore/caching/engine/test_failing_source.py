"""A source that fails leaves no claim behind, and its error is what the user sees."""

from __future__ import annotations

import time

import pytest

from kappacore.caching.engine import claims
from kappacore.errors import DatasetTypeError, UncacheableValueError
from support.caching import RecordingBackend, open_cache
from support.recording import load


def test_claims_are_given_back_when_the_source_raises(cache):
    def fail(indices):
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        cache.fetch([1, 2], fail)
    assert RecordingBackend.take_calls()[-1] == ("release", [1, 2])
    assert cache.fetch([1], load) == [[1, b"x" * 50]]


def test_a_failing_release_does_not_hide_what_the_source_raised(recording, monkeypatch):
    monkeypatch.setattr(claims, "DOUBT_AFTER", 1000)
    monkeypatch.setattr(claims, "CLAIM_TTL", 1000)
    cache = open_cache("recording", strict=True)
    recording.failing.add("release")

    def missing(indices):
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        cache.fetch([1], missing)
    recording.failing.clear()
    started = time.monotonic()
    assert cache.fetch([1], load) == [[1, b"x" * 50]]  # nothing is claimed for ever
    assert time.monotonic() - started < 100
    cache.close()


@pytest.mark.parametrize("given", [[], ["a"], ["a", "b", "c"]])
def test_a_source_that_returns_another_number_of_samples_is_an_error(cache, given):
    expected = (
        rf"^The dataset Tests returned {len(given)} samples when asked for a batch of 2; "
        rf"expected one for each index\.$"
    )
    with pytest.raises(DatasetTypeError, match=expected):
        cache.fetch([1, 2], lambda indices: given)
    assert RecordingBackend.take_calls()[-1] == ("release", [1, 2])
    assert set(RecordingBackend.values) == {10}


def test_a_value_that_cannot_be_cached_is_refused_with_its_place(cache):
    with pytest.raises(UncacheableValueError, match=r"sample\[1\]\[\"key\"\] cannot be cached"):
        cache.fetch([1], lambda indices: [(0, {"key": object()})])
    assert RecordingBackend.take_calls()[-1] == ("release", [1])
