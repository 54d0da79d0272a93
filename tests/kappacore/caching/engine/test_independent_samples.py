"""What the user does to a sample reaches neither the cache nor another sample."""

from __future__ import annotations

import pytest

from support.caching import RecordingBackend, load_bytes, open_cache
from support.recording import load


def test_a_sample_named_twice_is_read_once_and_given_as_independent_objects(cache):
    first, second, third = cache.fetch([4, 4, 4], load)
    assert RecordingBackend.take_calls()[3] == ("load", [4])
    assert first == second == third
    first.append("changed")
    assert second == third == [4, b"x" * 50]
    one, two = cache.fetch([4, 4], load)
    one.append("changed")
    assert two == [4, b"x" * 50]
    assert cache.fetch([4], load) == [[4, b"x" * 50]]


def test_what_the_user_does_to_a_sample_does_not_reach_the_cache(cache):
    cache.fetch([4], load)[0].append("changed")
    cache.fetch([4], load)[0].append("changed")
    assert cache.fetch([4], load) == [[4, b"x" * 50]]


def test_copy_false_gives_read_only_views():
    cache = open_cache("memory", copy=False)
    cache.fetch([1], load_bytes())
    ((view, number),) = cache.fetch([1], load_bytes())
    cache.clear()
    cache.close()
    assert type(view) is memoryview
    assert view.readonly
    assert (bytes(view), number) == load_bytes()([1])[0]


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_samples_given_twice_as_views_share_nothing_that_can_be_changed(backend):
    def load(indices):
        return [{"image": b"x" * 50, "boxes": [idx]} for idx in indices]

    cache = open_cache(backend, copy=False)
    cache.fetch([1], load)
    for _ in range(2):
        one, other, two = cache.fetch([1, 1, 2], load)
        one["boxes"].append("changed")
        assert (other["boxes"], two["boxes"]) == ([1], [2])
    cache.close()
