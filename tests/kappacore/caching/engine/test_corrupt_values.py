"""Values that come back damaged are misses, and when that is looked for."""

from __future__ import annotations

import pytest

import kappacore
from kappacore.errors import CorruptValueError, InvalidOptionError
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
