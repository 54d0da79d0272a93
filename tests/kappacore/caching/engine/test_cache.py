"""Reads through a cache: which calls they make, in which order, and what is counted."""

from __future__ import annotations

import pickle
import warnings

import pytest

import kappacore
from kappacore.caching.backends.base import CacheBackend
from kappacore.errors import CacheClosedError, IndexOutOfRangeError
from support.caching import RecordingBackend, load_bytes, open_cache
from support.recording import load


def test_a_batch_is_looked_up_claimed_loaded_stored_and_released_by_one_call_each(cache):
    assert cache.fetch([3, 1, 2], load) == [[3, b"x" * 50], [1, b"x" * 50], [2, b"x" * 50]]
    assert RecordingBackend.take_calls() == [
        ("get", [3, 1, 2]),
        ("get", [10]),  # the header: was the cache cleared?
        ("claim", [3, 1, 2]),
        ("load", [3, 1, 2]),
        ("put", [3, 1, 2]),
        ("release", [3, 1, 2]),
    ]


def test_a_hit_costs_one_call(cache):
    cache.fetch([1, 2], load)
    RecordingBackend.take_calls()
    assert cache.fetch([2, 1], load) == [[2, b"x" * 50], [1, b"x" * 50]]
    assert RecordingBackend.take_calls() == [("get", [2, 1])]


def test_only_what_is_missing_is_loaded(cache):
    cache.fetch([1, 2], load)
    RecordingBackend.take_calls()
    assert [sample[0] for sample in cache.fetch([0, 1, 2, 3], load)] == [0, 1, 2, 3]
    assert RecordingBackend.take_calls()[2:4] == [("claim", [0, 3]), ("load", [0, 3])]


def test_a_sample_by_itself_is_read_as_a_batch_of_one_is(cache):
    value = [1, b"x" * 50]
    assert cache.fetch_one(1, load) == value
    assert RecordingBackend.take_calls() == [
        ("get", 1),
        ("get", [10]),
        ("claim", [1]),
        ("load", [1]),
        ("put", [1]),
        ("release", [1]),
    ]
    assert cache.fetch_one(1, load) == value
    assert RecordingBackend.take_calls() == [("get", 1)]
    done = cache.stats()
    assert (done.hits, done.misses, done.source_reads, done.stores) == (1, 1, 1, 1)
    assert done.bytes_read == len(RecordingBackend.values[1])
    with pytest.raises(IndexOutOfRangeError):
        cache.fetch_one(10, load)  # where the header is
    cache.close()
    with pytest.raises(CacheClosedError):
        cache.fetch_one(1, load)


def test_an_empty_batch_is_an_empty_list(cache):
    assert cache.fetch([], load) == []


def test_what_others_are_loading_is_waited_for_only_after_the_own_work_is_done(cache):
    RecordingBackend.claimed_elsewhere.update({2, 3})

    def load_and_let_others_finish(indices):
        if indices == [1, 4]:
            RecordingBackend.values[2] = b"".join(
                cache.codec.encode("by another", 2, cache._open().store.digest_name)
            )
            RecordingBackend.claimed_elsewhere.clear()  # 3 was given up
        return load(indices)

    samples = cache.fetch([1, 2, 3, 4], load_and_let_others_finish)
    assert samples == [[1, b"x" * 50], "by another", [3, b"x" * 50], [4, b"x" * 50]]
    assert RecordingBackend.take_calls() == [
        ("get", [1, 2, 3, 4]),
        ("get", [10]),
        ("claim", [1, 2, 3, 4]),
        ("load", [1, 4]),
        ("put", [1, 4]),
        ("release", [1, 4]),
        ("get", [2, 3]),
        ("claim", [3]),
        ("load", [3]),
        ("put", [3]),
        ("release", [3]),
    ]
    stats = cache.stats()
    assert (stats.waits, stats.hits, stats.misses, stats.source_reads) == (1, 0, 3, 3)


def test_the_counters_say_what_happened(cache):
    before = cache.stats()
    cache.fetch([1, 2, 2], load)
    cache.fetch([1, 2, 3], load)
    done = cache.stats() - before
    assert (done.hits, done.misses, done.source_reads, done.stores) == (3, 3, 3, 3)
    sizes = {key: len(RecordingBackend.values[key]) for key in (1, 2, 3)}
    assert done.bytes_stored == sum(sizes.values())
    assert done.bytes_read == sizes[1] + sizes[2]
    assert done.seconds_get > 0
    assert done.seconds_decode > 0
    assert done.seconds_source > 0


def test_a_memory_cache_that_works_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = open_cache("memory")
        cache.fetch([1, 2], load_bytes())
        cache.close()


# ---- closing and pickling


def test_a_closed_cache_says_so(cache):
    cache.fetch([1], load)
    cache.close()
    cache.close()
    expected = r"^The cache of Tests was closed. Make a new one to go on reading.$"
    for use in (lambda: cache.fetch([1], load), cache.clear, cache.infos):
        with pytest.raises(CacheClosedError, match=expected):
            use()
    with pytest.raises(CacheClosedError):
        pickle.loads(pickle.dumps(cache)).fetch([1], load)
    assert cache.stats().source_reads == 1


def test_the_backend_is_closed_once(cache):
    cache.close()
    cache.close()
    assert [name for name, _ in RecordingBackend.take_calls()] == ["close"]


def test_forgetting_a_cache_closes_it(recording):
    cache = open_cache("recording")
    recording.take_calls()
    del cache
    assert recording.take_calls() == [("close", None)]


def test_a_cache_pickles_as_its_description():
    cache = open_cache("memory", options={"max_bytes": "1MiB"})
    cache.fetch(range(10), load_bytes(size=10_000))
    pickled = pickle.dumps(cache)
    assert len(pickled) < 2000
    copy = pickle.loads(pickled)
    assert copy.fetch([1], load_bytes(size=10_000)) == load_bytes(size=10_000)([1])
    assert copy.stats().hits == 1
    copy.close()
    cache.close()


class Remembering(CacheBackend):
    """Answers a batch that it has answered before with the same list."""

    scope = "process"

    def __init__(self, namespace, length):
        self.values = {}
        self.answers = {}

    def get(self, key):
        return self.values.get(key)

    def get_many(self, keys):
        answer = self.answers.get(tuple(keys)) or super().get_many(keys)
        if None not in answer:
            self.answers[tuple(keys)] = answer
        return answer

    def put(self, key, value):
        self.values[key] = b"".join(value)
        return True


def test_a_batch_takes_nothing_from_the_list_of_a_backend():
    kappacore.register_cache_backend("remembering", Remembering)
    cache = open_cache("remembering")
    for _ in range(3):
        assert cache.fetch([1, 2], load) == [[1, b"x" * 50], [2, b"x" * 50]]
    assert cache.stats().source_reads == 2
    cache.close()
    kappacore.plugins.unregister_cache_backend("remembering")
