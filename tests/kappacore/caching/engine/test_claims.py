"""Several processes that fill one cache at the same time; through the backend `shared`."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import socket
import time

import pytest

from kappacore.caching.engine import claims
from kappacore.machine import waiting
from support.caching import Log, load_bytes, open_cache, start_script

pytest.importorskip("kappa_shared")
fork = multiprocessing.get_context("fork")
OPTIONS = {"max_bytes": "4MiB"}

FETCH = """
    import sys
    from support.caching import Log, load_bytes, open_cache
    from kappacore.caching.engine import claims

    log, ttl, *keys = sys.argv[1:]
    claims.CLAIM_TTL = float(ttl)
    cache = open_cache(options={"max_bytes": "4MiB"})
    counted = load_bytes(Log(log))

    def load(indices):
        values = counted(indices)
        print("loading", flush=True)
        sys.stdin.readline()
        return values

    samples = cache.fetch([int(key) for key in keys], load)
    assert samples == load_bytes()([int(key) for key in keys])
    print(cache.stats().waits, flush=True)
    """


FIRST_LOOK = """
    import functools, sys
    from support.caching import load_bytes, open_cache

    @functools.cache  # it looks at some samples, one after the other
    def go_on():
        print("looking", flush=True)
        sys.stdin.readline()

    def load(indices):
        go_on()
        return load_bytes()(indices)

    open_cache(options={"max_bytes": "4MiB"}, load=load)
    """


def fetch_all(log_path, seed, length, problems):
    """Read every sample in a random order, in batches."""
    try:
        order = list(range(length))
        random.Random(seed).shuffle(order)
        cache = open_cache(length=length, options=OPTIONS)
        load = load_bytes(Log(log_path), delay=0.0002)
        for start in range(0, length, 16):
            batch = order[start : start + 16]
            assert cache.fetch(batch, load) == load_bytes()(batch)
        cache.close()
    except BaseException as error:
        problems.put(repr(error))
        raise


def test_processes_that_read_the_same_samples_at_the_same_time_read_each_once(tmp_path):
    problems = fork.SimpleQueue()
    keeper = open_cache(length=300, options=OPTIONS)
    processes = [
        fork.Process(target=fetch_all, args=(tmp_path / "reads", seed, 300, problems), daemon=True)
        for seed in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert problems.empty(), problems.get()
    assert Log(tmp_path / "reads").count() == dict.fromkeys(range(300), 1)
    stats = keeper.stats()
    assert (stats.source_reads, stats.misses, stats.stores) == (300, 300, 300)
    assert stats.hits + stats.waits == 3 * 300
    keeper.close()


@pytest.mark.slow
def test_processes_that_read_the_same_batch_wait_for_each_other_in_no_circle(tmp_path):
    problems = fork.SimpleQueue()
    log = Log(tmp_path / "reads")
    keeper = open_cache(length=16, options=OPTIONS)
    for _ in range(10):
        log.clear()
        keeper.clear()
        processes = [
            fork.Process(target=fetch_all, args=(log.path, seed, 16, problems), daemon=True)
            for seed in range(3)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(100)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert log.count() == dict.fromkeys(range(16), 1)
    keeper.close()


def let_go_on(other, after, monkeypatch):
    """Let a script end what it is loading once we have waited ``after`` times for it.

    Or once somebody was told that we wait, if that is 0.
    """
    pause, say, pauses = waiting.Wait.pause, waiting._say, 0

    def go_on():
        other.stdin.write("go on\n")
        other.stdin.flush()

    def noted_pause(self):
        nonlocal pauses
        pauses += 1
        if pauses == after:
            go_on()
        pause(self)

    def noted_say(text):
        say(text)
        if not after:
            go_on()

    monkeypatch.setattr(waiting.Wait, "pause", noted_pause)
    monkeypatch.setattr(waiting, "_say", noted_say)


@pytest.mark.slow
def test_who_comes_while_another_is_loading_waits_for_it(tmp_path, monkeypatch):
    log = Log(tmp_path / "reads")
    with start_script(tmp_path, FETCH, log.path, 5, 1, 2) as other:
        assert other.stdout.readline() == "loading\n", other.stderr.read()
        cache = open_cache(options=OPTIONS)
        let_go_on(other, 3, monkeypatch)
        assert cache.fetch([2, 3], load_bytes(log)) == load_bytes()([2, 3])
        assert cache.stats().waits == 1
        other.communicate()
    assert other.returncode == 0
    assert log.count() == {1: 1, 2: 1, 3: 1}
    cache.close()


@pytest.mark.slow
def test_a_long_wait_names_who_is_waited_for_and_what_for(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(waiting, "SAY_AFTER", 0.05)
    with start_script(tmp_path, FETCH, tmp_path / "reads", 5, 1, 2) as other:
        assert other.stdout.readline() == "loading\n", other.stderr.read()
        cache = open_cache(options=OPTIONS)
        let_go_on(other, 0, monkeypatch)
        assert cache.fetch([2], load_bytes()) == load_bytes()([2])
        other.communicate()
    [text] = [record.getMessage() for record in caplog.records if "waiting" in record.getMessage()]
    assert f"sample 2 of Tests is being loaded by process {other.pid} (" in text
    assert f"on {socket.gethostname()}, since " in text
    cache.close()


@pytest.mark.slow
def test_a_first_look_at_the_source_is_waited_for_aloud(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(waiting, "SAY_AFTER", 0.05)
    with start_script(tmp_path, FIRST_LOOK, warm=False) as other:
        assert other.stdout.readline() == "looking\n", other.stderr.read()
        let_go_on(other, 0, monkeypatch)
        cache = open_cache(options=OPTIONS)
        other.communicate()
    [text] = [record.getMessage() for record in caplog.records if "waiting" in record.getMessage()]
    assert "the first look at the samples of the cache namespace" in text
    assert f"by process {other.pid} (" in text
    cache.close()


@pytest.mark.slow
def test_claims_outlive_their_ttl_while_a_source_is_slower(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "CLAIM_TTL", 0.15)
    log = Log(tmp_path / "reads")
    with start_script(tmp_path, FETCH, log.path, 0.15, 1, 2) as other:
        assert other.stdout.readline() == "loading\n", other.stderr.read()
        cache = open_cache(options=OPTIONS)
        let_go_on(other, 20, monkeypatch)  # the last of which take 50 ms each
        assert cache.fetch([1, 2], load_bytes(log)) == load_bytes()([1, 2])
        other.communicate()
    assert other.returncode == 0
    assert log.count() == {1: 1, 2: 1}
    cache.close()


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_the_claims_of_a_process_that_was_killed_or_stopped_expire(tmp_path, signal, monkeypatch):
    monkeypatch.setattr(claims, "CLAIM_TTL", 0.5)
    log = Log(tmp_path / "reads")
    with start_script(tmp_path, FETCH, log.path, 0.5, 1, 2) as other:
        assert other.stdout.readline() == "loading\n", other.stderr.read()
        import signal as signals

        cache = open_cache(options=OPTIONS)  # first: else the entries go with the one killed
        other.send_signal(getattr(signals, f"SIG{signal}"))
        started = time.monotonic()
        assert cache.fetch([2, 3], load_bytes(log)) == load_bytes()([2, 3])
        assert time.monotonic() - started < 30
        assert (cache.stats().waits, cache.stats().misses) == (0, 2)  # of this process
        other.kill()
    assert log.count()[2] == 2  # by the one that is gone, and by this one
    cache.close()


def test_a_source_that_raises_in_one_process_is_read_by_the_next_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "CLAIM_TTL", 1000)
    cache = open_cache(options=OPTIONS)

    def fail(indices):
        raise OSError("flaky storage")

    with contextlib.suppress(OSError):
        cache.fetch([1, 2], fail)
    problems = fork.SimpleQueue()
    started = time.monotonic()
    process = fork.Process(
        target=fetch_all, args=(tmp_path / "reads", 0, 10, problems), daemon=True
    )
    process.start()
    process.join()
    assert time.monotonic() - started < claims.CLAIM_TTL / 10
    assert problems.empty()
    assert cache.fetch([1, 2], fail) == load_bytes()([1, 2])
    cache.close()


def test_a_cache_opened_before_a_fork_is_opened_anew_in_the_child(tmp_path):
    cache = open_cache(options=OPTIONS)
    cache.fetch([1], load_bytes())
    log = Log(tmp_path / "reads")

    def read_in_child():
        assert cache.fetch([1, 2], load_bytes(log)) == load_bytes()([1, 2])
        cache.close()

    child = fork.Process(target=read_in_child, daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert log.count() == {2: 1}
    assert cache.fetch([1, 2], load_bytes(log)) == load_bytes()([1, 2])
    assert log.count() == {2: 1}
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (3, 2)
    cache.close()


def test_a_full_cache_does_not_make_processes_wait_for_each_other_for_ever(tmp_path, monkeypatch):
    """What one process could not store, those who waited for it must read themselves."""
    monkeypatch.setattr(claims, "CLAIM_TTL", 1000)
    problems = fork.SimpleQueue()
    processes = [
        fork.Process(target=fetch_with_little_room, args=(seed, problems), daemon=True)
        for seed in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert problems.empty(), problems.get()


def fetch_with_little_room(seed, problems):
    import warnings

    warnings.simplefilter("ignore")
    try:
        order = list(range(60))
        random.Random(seed).shuffle(order)
        cache = open_cache(length=60, options={"max_bytes": "20KiB"})
        for start in range(0, 60, 8):
            batch = order[start : start + 8]
            assert cache.fetch(batch, load_bytes(size=1000)) == load_bytes(size=1000)(batch)
        assert 0 < cache.infos()[0].entries < 30
        cache.close()
    except BaseException as error:
        problems.put(repr(error))
        raise
