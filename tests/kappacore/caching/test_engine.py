from __future__ import annotations

import pickle
import threading
import time
import warnings

import pytest

import kappacore
from kappacore.caching import loading, session
from kappacore.caching.backend import CacheBackend
from kappacore.errors import (
    CacheClosedError,
    CacheWarning,
    CorruptValueError,
    DatasetTypeError,
    IndexOutOfRangeError,
    InvalidOptionError,
    UncacheableValueError,
)
from support.caching import Log, RecordingBackend, load_bytes, open_cache


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


def load(indices):
    """Read samples, and note it among the calls of the backend."""
    RecordingBackend.calls.append(("load", indices))
    return [[idx, b"x" * 50] for idx in indices]


def spoil(values, key):
    """Change a bit in the middle of a stored value."""
    value = bytearray(values[key])
    value[-len(value) // 4] ^= 1
    values[key] = bytes(value)


# ---- the order, and one call a batch


def test_a_batch_is_looked_up_claimed_loaded_stored_and_released_by_one_call_each(cache):
    assert cache.fetch([3, 1, 2], load) == [[3, b"x" * 50], [1, b"x" * 50], [2, b"x" * 50]]
    assert RecordingBackend.take_calls() == [
        ("get", [3, 1, 2]),
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
    assert RecordingBackend.take_calls()[1:3] == [("claim", [0, 3]), ("load", [0, 3])]


def test_a_sample_by_itself_is_read_as_a_batch_of_one_is(cache):
    value = [1, b"x" * 50]
    assert cache.fetch_one(1, load) == value
    assert RecordingBackend.take_calls() == [
        ("get", 1),
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
        cache.fetch_one(10, load)  # where the record is
    cache.close()
    with pytest.raises(CacheClosedError):
        cache.fetch_one(1, load)


def test_a_corrupt_sample_read_by_itself_is_replaced(cache):
    cache.fetch_one(1, load)
    spoil(RecordingBackend.values, 1)
    RecordingBackend.take_calls()
    assert cache.fetch_one(1, load) == [1, b"x" * 50]
    assert [name for name, _ in RecordingBackend.take_calls()] == ["get", "load", "put"]
    assert cache.fetch_one(1, load) == [1, b"x" * 50]
    spoil(RecordingBackend.values, 1)  # after its digest was checked: the first read is over
    assert cache.fetch_one(1, load) != [1, b"x" * 50]
    assert (cache.stats().corrupt, cache.stats().hits) == (1, 2)


def test_an_empty_batch_is_an_empty_list(cache):
    assert cache.fetch([], load) == []


def test_a_sample_named_twice_is_read_once_and_given_as_independent_objects(cache):
    first, second, third = cache.fetch([4, 4, 4], load)
    assert RecordingBackend.take_calls()[2] == ("load", [4])
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


def test_what_others_are_loading_is_waited_for_only_after_the_own_work_is_done(cache):
    RecordingBackend.claimed_elsewhere.update({2, 3})

    def load_and_let_others_finish(indices):
        if indices == [1, 4]:
            RecordingBackend.values[2] = b"".join(
                cache.codec.encode("by another", 2, cache.identity.digest_name)
            )
            RecordingBackend.claimed_elsewhere.clear()  # 3 was given up
        return load(indices)

    samples = cache.fetch([1, 2, 3, 4], load_and_let_others_finish)
    assert samples == [[1, b"x" * 50], "by another", [3, b"x" * 50], [4, b"x" * 50]]
    assert RecordingBackend.take_calls() == [
        ("get", [1, 2, 3, 4]),
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
    assert (stats.waits, stats.hits, stats.misses, stats.source_reads) == (2, 1, 3, 3)


def test_the_counters_say_what_happened(cache):
    before = cache.stats()
    cache.fetch([1, 2, 2], load)
    cache.fetch([1, 2, 3], load)
    done = cache.stats() - before
    assert (done.hits, done.misses, done.source_reads, done.stores) == (2, 3, 3, 3)
    sizes = {key: len(RecordingBackend.values[key]) for key in (1, 2, 3)}
    assert done.bytes_stored == sum(sizes.values())
    assert done.bytes_read == sizes[1] + sizes[2]
    assert done.seconds_get > 0
    assert done.seconds_decode > 0
    assert done.seconds_source > 0


# ---- corrupt values


def test_a_corrupt_value_is_a_miss_and_is_counted_and_replaced(cache):
    cache.fetch([1, 2], load)
    spoil(RecordingBackend.values, 1)
    cache.close()
    again = open_cache("recording")
    RecordingBackend.take_calls()
    assert again.fetch([1, 2], load) == [[1, b"x" * 50], [2, b"x" * 50]]
    # Not claimed: a value is there, which is what a claim asks.
    assert [name for name, _ in RecordingBackend.take_calls()] == ["get", "load", "put"]
    assert (again.stats().corrupt, again.stats().hits, again.stats().source_reads) == (1, 1, 1)
    assert again.fetch([1], load) == [[1, b"x" * 50]]
    assert again.stats().corrupt == 1
    again.close()


@pytest.mark.parametrize("garbage", [b"", b"x", b"x" * 1000])
def test_a_value_that_is_no_value_at_all_is_a_miss(cache, garbage):
    RecordingBackend.values[1] = garbage
    assert cache.fetch([1], load) == [[1, b"x" * 50]]
    assert cache.stats().corrupt == 1


def test_a_value_of_another_key_is_a_miss(cache):
    cache.fetch([1, 2], load)
    RecordingBackend.values[1] = RecordingBackend.values[2]
    assert cache.fetch([1], load) == [[1, b"x" * 50]]


def test_a_corrupt_record_is_written_anew(recording):
    recording.values[10] = b"garbage"
    cache = open_cache("recording")
    cache.close()
    open_cache("recording").close()
    assert recording.values[10] != b"garbage"


@pytest.mark.parametrize(("verify", "found"), [("first", 1), ("always", 2), ("never", 0)])
def test_verify_says_when_a_digest_is_checked(recording, verify, found):
    cache = open_cache("recording", verify=verify)
    cache.fetch([1, 2], load_bytes())
    cache.close()
    cache = open_cache("recording", verify=verify)
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
    kappacore.unregister_cache_backend("network")


def test_values_from_the_network_are_always_checked(network):
    cache = open_cache("network", verify="never")
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
    with pytest.raises(InvalidOptionError, match=r"verify='sometimes' is not known. Use one of 'f"):
        open_cache("memory", verify="sometimes")


# ---- no room


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


# ---- a backend that fails


@pytest.mark.parametrize("operation", ["get", "put", "claim", "release"])
def test_a_failing_backend_costs_the_cache_and_not_the_samples(cache, operation):
    RecordingBackend.failing.add(operation)
    with pytest.warns(CacheWarning) as caught:
        three = [cache.fetch([1, 2], load) for _ in range(3)]
    assert three == [[[1, b"x" * 50], [2, b"x" * 50]]] * 3
    assert cache.fetch_one(1, load) == [1, b"x" * 50]
    assert len(caught) == 1
    assert str(caught[0].message).startswith(
        f"The cache backend 'recording' failed: ConnectionError: {operation} does not work today. "
        f"Samples are read from the source meanwhile; it is tried again every 5 s."
    )
    assert cache.stats().backend_errors == 1  # and then it was left alone
    assert [name for name, _ in RecordingBackend.take_calls()].count(operation) == 1


def test_a_backend_that_fails_for_one_sample_costs_no_sample(cache):
    RecordingBackend.failing.add("get")
    with pytest.warns(CacheWarning, match=r"backend 'recording' failed: ConnectionError: get does"):
        assert cache.fetch_one(1, load) == [1, b"x" * 50]


def test_a_backend_that_recovers_is_used_again(cache, monkeypatch):
    monkeypatch.setattr(session, "_RETRY_AFTER", 0.0)
    RecordingBackend.failing.add("get")
    with pytest.warns(CacheWarning):
        cache.fetch([1], load)
    RecordingBackend.failing.clear()
    cache.fetch([1], load)
    cache.fetch([1], load)
    assert cache.stats().hits >= 1


@pytest.mark.parametrize("operation", ["get", "put", "claim", "release"])
def test_a_strict_cache_raises_what_the_backend_raises(recording, operation):
    cache = open_cache("recording", strict=True)
    recording.failing.add(operation)
    with pytest.raises(ConnectionError, match=f"{operation} does not work today"):
        cache.fetch([1, 2], load)
    with pytest.raises(ConnectionError, match=f"{operation} does not work today"):
        cache.fetch_one(3, load)
    recording.failing.clear()
    cache.close()


def test_a_failure_to_clear_is_raised_since_the_caller_relies_on_it(cache):
    RecordingBackend.failing.add("clear")
    with pytest.raises(ConnectionError):
        cache.clear()


class Forgetful(CacheBackend):
    """Takes everything and keeps nothing."""

    scope = "process"

    def __init__(self, namespace, length):
        pass

    def get(self, key):
        return None

    def put(self, key, value):
        return True


def test_a_backend_that_loses_everything_is_slow_and_not_a_hang():
    kappacore.register_cache_backend("forgetful", Forgetful)
    cache = open_cache("forgetful", fingerprint=None, namespace="lost")
    for _ in range(2):
        assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])
    assert cache.stats().source_reads == 4
    with pytest.raises(TypeError, match=r"Forgetful cannot be cleared: it does not define clear"):
        cache.clear()
    cache.close()
    kappacore.unregister_cache_backend("forgetful")


# ---- a source that fails


def test_claims_are_given_back_when_the_source_raises(cache):
    def fail(indices):
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        cache.fetch([1, 2], fail)
    assert RecordingBackend.take_calls()[-1] == ("release", [1, 2])
    assert cache.fetch([1], load) == [[1, b"x" * 50]]


@pytest.mark.parametrize("given", [[], ["a"], ["a", "b", "c"]])
def test_a_source_that_returns_another_number_of_samples_is_told_so(cache, given):
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


# ---- lifetime


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


def test_copy_false_gives_read_only_views():
    cache = open_cache("memory", copy=False)
    cache.fetch([1], load_bytes())
    ((view, number),) = cache.fetch([1], load_bytes())
    cache.clear()
    cache.close()
    assert type(view) is memoryview
    assert view.readonly
    assert (bytes(view), number) == load_bytes()([1])[0]


def test_threads_may_share_a_cache(tmp_path):
    log = Log(tmp_path / "reads")
    cache = open_cache("memory", length=200)
    load = load_bytes(log)
    wrong = []

    def read():
        for start in range(0, 200, 10):
            batch = list(range(start, start + 10))
            if cache.fetch(batch, load) != load_bytes()(batch):
                wrong.append(batch)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    stats = cache.stats()
    assert stats.hits + stats.misses == 800
    assert sum(log.count().values()) == stats.source_reads
    cache.close()


def test_a_memory_cache_that_works_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache = open_cache("memory")
        cache.fetch([1, 2], load_bytes())
        cache.close()


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


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_threads_wait_for_each_other_however_slow_the_source_is(tmp_path, monkeypatch, backend):
    monkeypatch.setattr(loading, "CLAIM_TTL", 0.2)
    log = Log(tmp_path / "reads")

    def slow(indices):
        time.sleep(0.7)
        return load_bytes(log)(indices)

    cache = open_cache(backend)
    threads = [threading.Thread(target=cache.fetch, args=([1, 2], slow)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.count() == {1: 1, 2: 1}
    cache.close()


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_threads_that_come_first_open_it_once(tmp_path, backend):
    log = Log(tmp_path / "reads")
    original = open_cache(backend)
    copy = pickle.loads(pickle.dumps(original))
    start = threading.Barrier(6)

    def use():
        start.wait()
        copy.fetch(list(range(10)), load_bytes(log))

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.count() == dict.fromkeys(range(10), 1)
    copy.close()
    original.close()


def test_a_failing_release_does_not_hide_what_the_source_raised(recording):
    cache = open_cache("recording", strict=True)
    recording.failing.add("release")

    def missing(indices):
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        cache.fetch([1], missing)
    recording.failing.clear()
    started = time.monotonic()
    assert cache.fetch([1], load) == [[1, b"x" * 50]]  # nothing is claimed for ever
    assert time.monotonic() - started < 3
    cache.close()


class Away(RecordingBackend):
    """A server that may be away when a worker wants to connect."""

    away = False

    def __init__(self, namespace, length):
        if self.away:
            raise ConnectionError("connection refused")
        super().__init__(namespace, length)


def test_a_backend_that_is_away_when_a_worker_starts_costs_no_sample(recording, monkeypatch):
    monkeypatch.setattr(session, "_RETRY_AFTER", 0.0)
    kappacore.register_cache_backend("away", Away)
    try:
        Away.away = True
        with pytest.raises(ConnectionError, match="refused"):
            open_cache("away")  # the first to come is told
        Away.away = False
        cache = open_cache("away")
        Away.away = True
        worker = pickle.loads(pickle.dumps(cache))
        with pytest.warns(CacheWarning, match="backend 'away' failed: ConnectionError: connection"):
            assert worker.fetch([1], load) == [[1, b"x" * 50]]
        assert worker.fetch_one(1, load) == [1, b"x" * 50]
        assert worker.stats().backend_errors >= 2
        Away.away = False
        worker.fetch([1], load)
        assert worker.fetch_one(1, load) == [1, b"x" * 50]
        assert worker.stats().hits == 1
        worker.close()
        with pytest.raises(CacheClosedError):
            worker.fetch([1], load)
        cache.close()
    finally:
        Away.away = False
        kappacore.unregister_cache_backend("away")


def test_clearing_forgets_that_samples_were_refused(recording):
    cache = open_cache("recording")
    recording.room = 40
    with pytest.warns(CacheWarning, match="is full"):
        [cache.fetch([key], load) for key in (1, 2)]
    cache.clear()
    cache.fetch([3], load)  # the third of them would be an error
    cache.close()
