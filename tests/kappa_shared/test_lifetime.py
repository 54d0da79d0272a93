"""Whose entries live how long, over processes that begin and end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from kappa_shared.backend import SharedBackend
from support.caching import (
    Log,
    load_bytes,
    namespaces_in,
    open_cache,
    remove_kept,
    run_script,
    start_script,
)

FILL = """
    import sys
    from support.caching import Log, load_bytes, open_cache

    keep, ending, log = sys.argv[1:]
    cache = open_cache(keep=float(keep), options={"max_bytes": "1MiB"})
    assert cache.fetch(range(10), load_bytes(Log(log))) == load_bytes()(range(10))
    print("filled", flush=True)
    if ending == "close":
        cache.close()
    if ending == "wait":
        sys.stdin.read()
    if ending == "raise":
        raise SystemExit(0)
    """


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["close", "forget", "raise"])
def test_nothing_is_left_after_a_program_that_keeps_nothing(tmp_path, cache_folder, ending):
    assert run_script(tmp_path, FILL, 0, ending, tmp_path / "reads") == "filled\n"
    assert namespaces_in(cache_folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["close", "forget"])
def test_a_kept_cache_is_read_by_a_new_interpreter_without_the_source(
    tmp_path, cache_folder, ending
):
    log = Log(tmp_path / "reads")
    run_script(tmp_path, FILL, "inf", ending, log.path)
    assert log.count() == dict.fromkeys(range(10), 1)
    for _ in range(2):
        run_script(tmp_path, FILL, 0, "close", log.path)  # a later wish to keep nothing
    assert log.count() == dict.fromkeys(range(10), 1)
    assert len(remove_kept(cache_folder)) == 1


@pytest.mark.slow
def test_a_kept_cache_expires(tmp_path, cache_folder):
    log = Log(tmp_path / "reads")
    run_script(tmp_path, FILL, 3600, "close", log.path)
    run_script(tmp_path, FILL, 3600, "close", log.path)
    assert log.count() == dict.fromkeys(range(10), 1)
    (users,) = cache_folder.glob("kappacore-*/shared/*/users")
    os.utime(users, (users.stat().st_mtime - 3700,) * 2)
    run_script(tmp_path, FILL, 0, "close", log.path)
    assert log.count() == dict.fromkeys(range(10), 2)
    assert namespaces_in(cache_folder) == []


@pytest.mark.slow
def test_what_a_killed_program_left_is_used_while_another_uses_it_and_removed_after(
    tmp_path, cache_folder
):
    log = Log(tmp_path / "reads")
    with start_script(tmp_path, FILL, 0, "wait", log.path) as program:
        assert program.stdout.readline() == "filled\n", program.stderr.read()
        cache = open_cache(options={"max_bytes": "1MiB"})
        program.send_signal(signal.SIGKILL)
        program.wait()
    assert cache.fetch(range(10), load_bytes(log)) == load_bytes()(range(10))
    assert log.count() == dict.fromkeys(range(10), 1)
    cache.close()
    assert namespaces_in(cache_folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_a_killed_program_left_is_collected_by_the_next_of_any_name(
    tmp_path, cache_folder, how
):
    with start_script(tmp_path, FILL, 0, "wait", tmp_path / "reads") as program:
        assert program.stdout.readline() == "filled\n", program.stderr.read()
        program.send_signal(how)
    assert len(namespaces_in(cache_folder)) == 2  # samples and statistics
    other = open_cache("shared", fingerprint="other", options={"max_bytes": "1MiB"})
    assert len(namespaces_in(cache_folder)) == 2  # its own
    other.close()
    assert namespaces_in(cache_folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_nothing_is_left_when_a_worker_is_the_last_to_use_a_cache(tmp_path, cache_folder, method):
    out = run_script(
        tmp_path,
        """
        import multiprocessing, sys
        from support.caching import load_bytes, namespaces_in, open_cache

        def work(cache, ready, go):
            assert cache.fetch(range(10), load_bytes()) == load_bytes()(range(10))
            ready.set()
            assert go.wait(200)
            assert cache.fetch(range(10), load_bytes()) == load_bytes()(range(10))

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            cache = open_cache(options={"max_bytes": "1MiB"})
            cache.fetch(range(5), load_bytes())
            ready, go = context.Event(), context.Event()
            worker = context.Process(target=work, args=(cache, ready, go), daemon=True)
            worker.start()
            assert ready.wait(200)
            cache.close()
            print(len(namespaces_in(sys.argv[2])))
            go.set()
            worker.join()
            print(worker.exitcode, len(namespaces_in(sys.argv[2])))
        """,
        method,
        cache_folder,
    )
    assert out == "2\n0 0\n"


@pytest.mark.slow
def test_by_default_files_lie_in_dev_shm_and_go(tmp_path):
    out = run_script(
        tmp_path,
        """
        import glob, os
        from support.caching import load_bytes, open_cache

        del os.environ["KAPPACORE_DIR"]
        name = f"test-{os.getpid()}"
        pattern = f"/dev/shm/kappacore-{os.getuid()}/*/*{name}.*"
        cache = open_cache(namespace=name, options={"max_bytes": "1MiB"})
        cache.fetch([1], load_bytes())
        print(name, len(glob.glob(pattern)))
        """,
    )
    name, count = out.split()
    assert int(count) == 2
    assert list(Path("/dev/shm").glob(f"kappacore-{os.getuid()}/*/*{name}.*")) == []


@pytest.mark.slow
def test_a_program_that_ends_within_an_error_leaves_nothing(tmp_path, cache_folder):
    with start_script(
        tmp_path,
        """
        from support.caching import load_bytes, open_cache

        cache = open_cache(options={"max_bytes": "1MiB"})
        held = cache.fetch(range(10), load_bytes())
        raise RuntimeError("training failed")
        """,
    ) as program:
        _, err = program.communicate()
    assert program.returncode == 1
    assert err.count("Traceback") == 1
    assert err.endswith("RuntimeError: training failed\n")
    assert namespaces_in(cache_folder) == []


@pytest.mark.slow
def test_views_that_are_alive_at_exit_make_no_noise(tmp_path):
    run_script(
        tmp_path,
        """
        from support.caching import load_bytes, open_cache

        cache = open_cache(copy=False, options={"max_bytes": "1MiB"})
        cache.fetch(range(10), load_bytes())
        held = cache.fetch(range(10), load_bytes())
        """,
    )


def test_a_reopened_namespace_is_empty():
    for _ in range(3):
        backend = SharedBackend("again", 5, max_bytes="1MiB")
        assert backend.get(1) is None
        backend.put(1, [b"x"])
        backend.close()


COMING_AND_GOING = """
    import random, sys, time
    from kappa_shared.backend import SharedBackend

    rng = random.Random(int(sys.argv[1]))
    end = time.monotonic() + 2
    found = opened = 0
    while time.monotonic() < end or opened < 20:
        backend = SharedBackend("busy", 50, max_bytes="1MiB")
        opened += 1
        for key in rng.sample(range(50), 10):
            value = backend.get(key)
            if value is None:
                assert backend.put(key, [bytes([key]) * key])
                value = backend.get(key)
            else:
                found += 1
            assert value == bytes([key]) * key
        backend.close()
    print(opened, found)
    """


@pytest.mark.slow
def test_eight_unrelated_processes_create_join_and_delete_a_cache_at_the_same_time(
    tmp_path, cache_folder
):
    processes = [start_script(tmp_path, COMING_AND_GOING, seed) for seed in range(8)]
    results = [process.communicate(timeout=250) for process in processes]
    assert [err for _, err in results] == [""] * 8
    assert sum(int(out.split()[1]) for out, _ in results) > 100  # they did meet
    assert sorted(cache_folder.rglob("*")) == []


KILLED = """
    import os, signal, sys
    from torch.utils.data import DataLoader
    from torch.utils.data._utils import worker
    from kappacore import CachedDataset

    worker.MP_STATUS_CHECK_INTERVAL = 0.2  # s between a worker's checks of its parent; 5 in torch

    if __name__ == "__main__":
        dataset = CachedDataset(list(range(400)), "shared", namespace="k", max_bytes="1MiB")
        loader = DataLoader(
            dataset, 8, num_workers=2, multiprocessing_context=sys.argv[1], persistent_workers=True
        )
        batches = iter(loader)
        next(batches), next(batches)  # one of each worker: it watches for its parent by then
        os.kill(os.getpid(), signal.SIGKILL)
    """


def test_workers_leave_nothing_when_the_program_is_killed(tmp_path, cache_folder):
    with start_script(tmp_path, KILLED, "fork", warm=True) as program:
        assert program.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 200
    while namespaces_in(cache_folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sorted(Path(cache_folder).rglob("*")) == []
