"""Values that come back damaged are misses, and when that is looked for."""

from __future__ import annotations

import warnings

import pytest

import kappacore
from kappacore.caching.codec import Codec
from kappacore.errors import CacheWarning, CorruptValueError, InvalidOptionError
from support.caching import RecordingBackend, load_bytes, open_cache
from support.recording import load, spoil


def test_a_corrupt_value_is_a_miss_and_is_counted_and_replaced(cache):
    cache.fetch([1, 2], load)
    spoil(RecordingBackend.values, 1)
    cache.close()
    again = open_cache("recording")
    RecordingBackend.take_calls()
    assert again.fetch([1, 2], load) == [[1, b"x" * 50], [2, b"x" * 50]]
    # Not claimed: a value is there, which is what a claim asks.
    assert [name for name, _ in RecordingBackend.take_calls()] == ["get", "get", "load", "put"]
    assert (again.stats().corrupt, again.stats().hits, again.stats().source_reads) == (1, 1, 1)
    assert again.fetch([1], load) == [[1, b"x" * 50]]
    assert again.stats().corrupt == 1
    again.close()


def test_a_corrupt_sample_read_by_itself_is_replaced(cache):
    cache.fetch_one(1, load)
    spoil(RecordingBackend.values, 1)
    RecordingBackend.take_calls()
    assert cache.fetch_one(1, load) == [1, b"x" * 50]
    assert [name for name, _ in RecordingBackend.take_calls()] == ["get", "get", "load", "put"]
    assert cache.fetch_one(1, load) == [1, b"x" * 50]
    spoil(RecordingBackend.values, 1)  # after its digest was checked: the first read is over
    assert cache.fetch_one(1, load) != [1, b"x" * 50]
    assert (cache.stats().corrupt, cache.stats().hits) == (1, 2)


@pytest.mark.parametrize("garbage", [b"", b"x", b"x" * 1000])
def test_a_value_that_is_no_value_at_all_is_a_miss(cache, garbage):
    RecordingBackend.values[1] = garbage
    assert cache.fetch([1], load) == [[1, b"x" * 50]]
    assert cache.stats().corrupt == 1


def test_a_value_of_another_key_is_a_miss(cache):
    cache.fetch([1, 2], load)
    RecordingBackend.values[1] = RecordingBackend.values[2]
    assert cache.fetch([1], load) == [[1, b"x" * 50]]


def test_a_corrupt_header_is_written_anew(recording):
    recording.values[10] = b"garbage"
    cache = open_cache("recording")
    cache.close()
    open_cache("recording").close()
    assert recording.values[10] != b"garbage"


def test_the_codec_is_asked_once_a_value(cache):
    """Raising from decode is what makes a value corrupt, whatever the codec."""

    class Strict:
        def encode(self, value, key, namespace=""):
            return [repr(value).encode()]

        def decode(self, buffer, key, namespace="", *, verify=True, copy=True):
            if not verify:
                return "second read"
            raise CorruptValueError("nothing is good enough")

    strict = open_cache("recording", fingerprint="other", codec=Strict())
    strict.fetch([1], load)
    strict.fetch([1], load)
    assert strict.stats().corrupt == 1
    strict.close()


# ---- when a digest is checked


@pytest.mark.parametrize(("check", "found"), [("first", 1), ("always", 2), ("never", 0)])
def test_check_digests_chooses_when_digests_are_checked(recording, check, found):
    cache = open_cache("recording", check_digests=check)
    cache.fetch([1, 2], load_bytes())
    cache.close()
    cache = open_cache("recording", check_digests=check)
    spoil(recording.values, 1)
    cache.fetch([1, 2], load_bytes())  # the first read of both
    spoil(recording.values, 2)
    cache.fetch([1, 2], load_bytes())  # the second read of 2
    assert cache.stats().corrupt == found
    cache.close()


class NetworkBackend(RecordingBackend):
    scope = "network"


@pytest.fixture
def network(recording):
    kappacore.register_cache_backend("network", NetworkBackend)
    yield NetworkBackend
    kappacore.plugins.unregister_cache_backend("network")


def test_values_from_the_network_are_always_checked(network):
    cache = open_cache("network", check_digests="never")
    cache.fetch([1], load_bytes())
    spoil(network.values, 1)
    assert cache.fetch([1], load_bytes()) == load_bytes()([1])
    assert cache.stats().corrupt == 1
    cache.close()


def test_a_value_that_was_replaced_is_checked_anew(cache):
    for _ in range(2):
        cache.fetch([1], load)
    RecordingBackend.values[1] = b"garbage"
    cache.fetch([1], load)
    spoil(RecordingBackend.values, 1)
    assert cache.fetch([1], load) == [[1, b"x" * 50]]
    assert cache.stats().corrupt == 2


def test_another_way_to_verify_is_refused():
    with pytest.raises(
        InvalidOptionError, match=r"check_digests='sometimes' is not known. Use one of 'f"
    ):
        open_cache("memory", check_digests="sometimes")


class Interrupted(Codec):
    """Another thread finds the namespace cleared while a sample is encoded."""

    meanwhile = staticmethod(lambda: None)

    def encode(self, value, key, namespace=""):
        pieces = super().encode(value, key, namespace)
        self.meanwhile()
        return pieces


def test_a_namespace_that_is_cleared_while_a_sample_is_encoded_costs_no_run(recording):
    codec = Interrupted()
    cache = open_cache("recording", codec=codec)
    codec.meanwhile = lambda: cache._open().store.adopt("another")
    assert cache.fetch([1, 1, 2], load) == load([1, 1, 2])
    cache.close()


# ---- a backend that does not return what it was given


class Flips(RecordingBackend):
    """Changes a bit of each value that it returns."""

    def get(self, key):
        return flip(super().get(key))

    def get_many(self, keys):
        return [flip(value) for value in super().get_many(keys)]


def flip(value):
    return value and value[:-1] + bytes([value[-1] ^ 1])


@pytest.fixture
def flips():
    kappacore.register_cache_backend("flips", Flips.reset())
    yield "flips"
    kappacore.plugins.unregister_cache_backend("flips")


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_backend_whose_every_value_fails_its_check_says_so_once_with_numbers(flips, one_by_one):
    cache = open_cache(flips)

    def read():
        if one_by_one:
            return [cache.fetch_one(idx, load) for idx in range(10)]
        return cache.fetch(list(range(10)), load)

    assert read() == load(list(range(10)))
    expected = (
        r"^The cache backend 'flips' does not return what it was given: \d+ values have failed "
        r"their check and 0 have passed it; the last ones failed again right after"
    )
    with pytest.warns(CacheWarning, match=expected):
        assert read() == load(list(range(10)))
    assert read() == load(list(range(10)))  # says it no second time
    assert cache.stats().hits == 0
    cache.close()


def test_a_strict_cache_raises_where_every_value_fails_its_check(flips):
    cache = open_cache(flips, strict=True)
    cache.fetch(list(range(10)), load)
    with pytest.raises(CorruptValueError, match="'flips' does not return what it was given: 10 "):
        cache.fetch(list(range(10)), load)
    cache.close()


def test_values_that_were_damaged_once_are_replaced_and_accuse_nobody(cache):
    cache.fetch(list(range(10)), load)
    cache.close()
    for key in range(10):
        spoil(RecordingBackend.values, key)
    again = open_cache("recording", strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            for idx in range(10):
                again.fetch_one(idx, load)
    assert (again.stats().corrupt, again.stats().hits) == (10, 10)
    again.close()
