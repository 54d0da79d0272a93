"""A backend without room: samples come from the source, with one warning."""

from __future__ import annotations

import pytest

from kappacore.errors import CacheWarning
from support.caching import load_bytes, open_cache
from support.recording import load


def test_a_refused_sample_comes_from_the_source_with_one_warning(recording):
    recording.room = 300
    cache = open_cache("recording")
    big = load_bytes(size=400)
    with pytest.warns(CacheWarning) as caught:
        three = [cache.fetch([1, 2], big) for _ in range(3)]
    assert three == [big([1, 2])] * 3
    assert len(caught) == 1
    assert "'recording' is full: 0 of 10 samples (0%) fit where it lies (a dict)" in str(
        caught[0].message
    )
    assert (cache.stats().refused, cache.stats().source_reads, cache.stats().hits) == (6, 6, 0)
    cache.close()


def test_a_full_backend_is_not_asked_again_for_what_is_no_smaller(recording):
    recording.room = 300
    cache = open_cache("recording")
    with pytest.warns(CacheWarning):
        cache.fetch([1], load_bytes(size=400))
    recording.take_calls()
    cache.fetch([2, 3], load_bytes(size=500))
    assert "put" not in dict(recording.take_calls())
    cache.fetch([2, 3], load_bytes(size=20))
    assert ("put", [2, 3]) in recording.take_calls()
    assert cache.fetch([2], load_bytes(size=20)) == load_bytes(size=20)([2])
    assert cache.stats().hits == 1
    cache.close()


def test_clearing_makes_room(recording):
    recording.room = 300
    cache = open_cache("recording")
    with pytest.warns(CacheWarning):
        cache.fetch([1], load_bytes(size=400))
    recording.room = 10**6
    cache.clear()
    cache.fetch([1], load_bytes(size=400))
    cache.fetch([1], load_bytes(size=400))
    assert cache.stats().hits == 1
    cache.close()


def test_clearing_forgets_that_samples_were_refused(recording):
    cache = open_cache("recording")
    recording.room = 40
    with pytest.warns(CacheWarning, match="is full"):
        [cache.fetch([key], load) for key in (1, 2)]
    cache.clear()
    cache.fetch([3], load)  # the third of them would be an error
    cache.close()
