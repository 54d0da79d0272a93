"""Filling a cache before it is needed: once, by several, interrupted, on a terminal or off."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import threading
import time
import warnings

import pytest

from kappacore import CachedDataset, CacheWrapper
from kappacore.caching.prefill import shard_of
from kappacore.errors import CacheWarning, InvalidOptionError
from support.cache_sources import BatchSamples, Images, Samples
from support.caching import Log, run_script, start_script

SMALL = {"max_bytes": "1MiB", "check": False}
RANKS = [
    *("LOCAL_RANK", "LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE"),
    *("SLURM_LOCALID", "SLURM_NTASKS_PER_NODE", "SLURM_PROCID", "SLURM_NTASKS"),
]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "reads"


@pytest.fixture(params=["memory", "shared"])
def backend(request):
    return request.param


@pytest.fixture(autouse=True)
def one_rank(monkeypatch):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)


# ---- what is loaded


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_sample_is_loaded_once_and_a_second_time_none(log, backend, workers):
    with CachedDataset(Samples(log, 100), backend, **SMALL) as cached:
        assert cached.prefill(workers=workers) == 100
        assert cached.dataset.log.count() == dict.fromkeys(range(100), 1)
        assert cached.prefill(workers=workers) == 0
        assert list(cached) == [cached.dataset.sample(idx) for idx in range(100)]
        assert cached.dataset.log.count() == dict.fromkeys(range(100), 1)
        stats = cached.stats()
        assert (stats.source_reads, stats.stores, stats.hits) == (100, 100, 100)


def test_what_was_read_before_is_not_read_again(log, backend):
    with CachedDataset(Samples(log, 50), backend, **SMALL) as cached:
        cached.__getitems__([0, 7, 49])
        assert cached.prefill() == 47
        assert cached.dataset.log.count() == dict.fromkeys(range(50), 1)


def test_the_source_is_read_in_batches(log, backend):
    with CachedDataset(BatchSamples(log, 80), backend, **SMALL) as cached:
        cached.prefill()
        assert cached.dataset.log.count() == {-32: 2, -16: 1}


def test_an_empty_dataset_is_filled_at_once(log, backend):
    with CachedDataset(Samples(log, 0), backend, **SMALL) as cached:
        assert cached.prefill() == 0


def test_all_cached_items_are_filled_as_they_are_kept(log, backend):
    images = Images(log, 20)
    with CacheWrapper(images, backend, items="x class", **SMALL) as cached:
        assert cached.prefill() == 40
        assert images.reads() == dict.fromkeys(range(20), 1)
        assert images.decodings() == 0  # the raw form is what is kept
        assert cached.prefill() == 0


# ---- several threads


class MeetingSamples(Samples):
    """Batches wait for each other: they pass only if that many are read at the same time."""

    def __init__(self, log, length, together):
        super().__init__(log, length)
        self.barrier = threading.Barrier(together, timeout=20)

    def __getitems__(self, indices):
        self.barrier.wait()
        return [self[idx] for idx in indices]


def test_workers_read_that_many_batches_at_the_same_time(log, backend):
    with CachedDataset(MeetingSamples(log, 8 * 32, 4), backend, **SMALL) as cached:
        assert cached.prefill(workers=4) == 256
        assert cached.dataset.log.count() == dict.fromkeys(range(256), 1)


def test_without_workers_the_source_is_read_in_this_thread(log):
    class Threads(Samples):
        def sample(self, idx):
            return threading.current_thread().name

    with CachedDataset(Threads(log, 64), "memory", **SMALL) as cached:
        cached.prefill()
        assert set(cached) == {threading.main_thread().name}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_source_ends_it_and_what_was_read_stays(log, backend, workers):
    class Flaky(Samples):
        def sample(self, idx):
            if idx == 70 and broken:
                raise OSError("flaky storage")
            return super().sample(idx)

    broken = True
    with CachedDataset(Flaky(log, 96), backend, **SMALL) as cached:
        with pytest.raises(OSError, match="flaky storage"):
            cached.prefill(workers=workers)
        broken = False
        stored = cached.stats().stores
        if workers:  # the batches that threads were given by then, without the one that failed
            assert 64 <= stored <= 64 + 8 * (2 * workers - 1)
        else:
            assert stored == 64
        assert cached.prefill(workers=workers) == 96 - stored  # so no claim was left either


@pytest.mark.parametrize("workers", [-1, "4", 1.5, None])
def test_a_bad_number_of_workers_is_refused(log, workers):
    expected = rf"^workers={workers!r} is not a number of threads. Give 0 or a positive integer\.$"
    with (
        CachedDataset(Samples(log), "memory", **SMALL) as cached,
        pytest.raises(InvalidOptionError, match=expected),
    ):
        cached.prefill(workers=workers)


# ---- a full cache


def test_it_ends_when_the_cache_is_full(log, backend):
    samples = Samples(log, 1000, size=1000)
    with CachedDataset(samples, backend, check=False, max_bytes="100KiB") as cached:
        with pytest.warns(CacheWarning, match="is full"):
            loaded = cached.prefill()
        stats = cached.stats()
        assert 50 < stats.stores < 110
        assert loaded == stats.stores + stats.refused < 200  # and not the whole source
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert [cached[idx] for idx in (0, 999)] == [samples.sample(0), samples.sample(999)]


# ---- interrupted


INTERRUPTED = """
    import sys, logging
    from kappacore import CachedDataset
    from support.cache_sources import Samples

    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    source = Samples(sys.argv[1], 2000, delay=0.002)
    cached = CachedDataset(
        source, "shared", max_bytes="4MiB", namespace="n", check=False
    )
    print("ready", flush=True)
    try:
        cached.prefill(workers=int(sys.argv[2]))
    except KeyboardInterrupt:
        print(cached.stats().stores, flush=True)
        sys.stdin.read()  # alive, as an interpreter in a terminal
    """


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupt_leaves_what_was_read_and_the_next_call_goes_on(tmp_path, log, workers):
    options = {"max_bytes": "4MiB", "namespace": "n", "check": False}
    with (
        CachedDataset(Samples(log, 2000), "shared", **options) as cached,
        start_script(tmp_path, INTERRUPTED, log, workers) as other,
    ):
        assert other.stdout.readline() == "ready\n", other.stderr.read()
        deadline = time.monotonic() + 20
        while sum(cached.dataset.log.count().values()) < 100:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        other.send_signal(signal.SIGINT)
        message = other.stdout.readline()
        if message.startswith("prefill was interrupted and waits for the samples that are being"):
            message = other.stdout.readline()
        assert message.startswith("prefill was interrupted after "), other.stderr.read()
        assert message.endswith(
            " of 2000 samples; what is cached stays, and the next call goes on from there\n"
        )
        stored = int(other.stdout.readline())
        assert 64 <= stored < 2000
        assert cached.prefill() == 2000 - stored  # the other one lives, but holds no claim
        other.kill()
        again = [idx for idx, count in cached.dataset.log.count().items() if count > 1]
        assert len(again) <= 32 * max(1, workers)  # what was on its way


# ---- whose part it is


@pytest.mark.parametrize(
    ("scope", "environment", "expected"),
    [
        ("machine", {}, (0, 1)),
        ("machine", {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, (1, 4)),
        ("machine", {"RANK": "5", "WORLD_SIZE": "8"}, (0, 1)),
        (
            "machine",
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            (1, 4),
        ),
        (
            "network",
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            (5, 8),
        ),
        ("machine", {"SLURM_LOCALID": "2", "SLURM_STEP_TASKS_PER_NODE": "4"}, (2, 4)),
        (
            "machine",
            {"SLURM_LOCALID": "2", "SLURM_NODEID": "2", "SLURM_STEP_TASKS_PER_NODE": "4(x2),3"},
            (2, 3),
        ),
        ("network", {"SLURM_PROCID": "6", "SLURM_STEP_NUM_TASKS": "8"}, (6, 8)),
        # A batch script is one process, whatever the job has asked for.
        ("network", {"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),
        (
            "network",
            {"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
            (1, 2),
        ),
        ("machine", {"LOCAL_RANK": "1"}, (0, 1)),
        ("machine", {"SLURM_LOCALID": "2", "SLURM_STEP_TASKS_PER_NODE": "many"}, (0, 1)),
        ("machine", {"LOCAL_RANK": "4", "LOCAL_WORLD_SIZE": "4"}, (0, 1)),
        ("process", {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}, (0, 1)),
    ],
)
def test_the_ranks_that_share_a_cache_share_its_filling(monkeypatch, scope, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert shard_of(scope) == expected
    assert shard_of(scope, None) == (0, 1)
    assert shard_of(scope, (2, 3)) == (2, 3)


@pytest.mark.parametrize("shard", ["all", 3, (3, 3), (-1, 2), (0, 0), (0,), (0.0, 2), ("0", "2")])
def test_what_is_no_part_is_refused(log, shard):
    expected = r"is not a part of the samples. Use 'auto' .*, None .*, or \(number, parts\) such as"
    with (
        CachedDataset(Samples(log), "shared", **SMALL) as cached,
        pytest.raises(InvalidOptionError, match=expected),
    ):
        cached.prefill(shard=shard)


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_the_parts_make_up_the_whole(log, parts):
    with CachedDataset(Samples(log, 100), "shared", **SMALL) as cached:
        loaded = [cached.prefill(shard=(number, parts)) for number in range(parts)]
        assert sum(loaded) == 100
        assert max(loaded) - min(loaded) <= 1
        assert cached.dataset.log.count() == dict.fromkeys(range(100), 1)


RANK = """
    import sys
    from kappacore import CachedDataset
    from support.cache_sources import Samples

    with CachedDataset(
        Samples(sys.argv[1], 100, delay=0.001), "shared", max_bytes="1MiB", namespace="n",
        check=False,
    ) as cached:
        print(cached.prefill())
    """


def test_two_ranks_fill_a_half_each(tmp_path, log):
    with CachedDataset(Samples(log, 100), "shared", namespace="n", **SMALL) as cached:
        logs = [Log(tmp_path / f"rank-{rank}") for rank in range(2)]
        ranks = [
            start_script(
                tmp_path,
                RANK,
                logs[rank].path,
                env={"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"},
            )
            for rank in range(2)
        ]
        for rank in ranks:
            out, err = rank.communicate(timeout=60)
            assert (rank.returncode, out, err) == (0, "50\n", "")
        assert logs[0].count() == dict.fromkeys(range(50), 1)
        assert logs[1].count() == dict.fromkeys(range(50, 100), 1)
        assert cached.prefill() == 0


# ---- the bar


BAR = """
    import sys
    from kappacore import CachedDataset
    from support.cache_sources import Samples

    with CachedDataset(Samples(sys.argv[1], 100), "memory", max_bytes="1MiB") as cached:
        cached.prefill(**eval(sys.argv[2]))
    """


def run_on_a_terminal(folder, *args):
    """Run the script with its errors on a terminal and return what is seen there."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    seen = b""
    with start_script(folder, BAR, *args, stderr=end) as process:
        os.close(end)
        try:
            while chunk := os.read(terminal, 1024):
                seen += chunk
        except OSError:  # how Linux says that nobody else has it open
            pass
        assert process.wait(30) == 0, seen
    os.close(terminal)
    return seen.decode()


def test_a_terminal_shows_a_bar_with_samples_speed_and_time(tmp_path, log):
    seen = run_on_a_terminal(tmp_path, log, "{}")
    assert "Caching" in seen
    assert "100%" in seen
    assert "100/100" in seen
    assert "MB/s" in seen


@pytest.mark.parametrize("options", ["{'progress': False}", "{'shard': (1, 2)}"])
def test_it_is_shown_by_one_rank_and_not_at_all_if_not_wanted(tmp_path, log, options):
    assert run_on_a_terminal(tmp_path, log, options) == ""


def test_it_is_quiet_where_there_is_no_terminal(tmp_path, log):
    assert run_script(tmp_path, BAR, log, "{}") == ""  # and nothing on stderr
