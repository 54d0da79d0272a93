"""Processes that share a folder: they come, go, fork, and are killed at any moment."""

from __future__ import annotations

import fcntl
import math
import multiprocessing
import os
import random
import shutil
import signal
import time

import pytest

from kappacore.machine import lease as lease_module
from kappacore.machine.lease import SharedFolderLease, collect, count_users
from kappacore.machine.locks import open_lock
from support.caching import run_script, start_script

fork = multiprocessing.get_context("fork")


def test_users_are_counted_by_process(tmp_path):
    folder = tmp_path / "shared"
    assert count_users(folder) is None
    mine = [SharedFolderLease(folder), SharedFolderLease(folder)]
    assert count_users(folder) == 1
    joined, stop = fork.Event(), fork.Event()

    def join():
        lease = SharedFolderLease(folder)
        joined.set()
        stop.wait()
        lease.release()

    child = fork.Process(target=join, daemon=True)
    child.start()
    joined.wait()
    assert count_users(folder) == 2
    stop.set()
    child.join()
    assert count_users(folder) == 1
    for lease in mine:
        lease.release()


def test_what_a_killed_user_left_is_collected_by_the_next(tmp_path):
    (tmp_path / "parent").mkdir()
    process = start_script(
        tmp_path,
        """
        import sys, time
        from pathlib import Path
        from kappacore.machine.lease import SharedFolderLease

        lease = SharedFolderLease(Path(sys.argv[1]))
        print("ready", flush=True)
        time.sleep(60)
        """,
        tmp_path / "parent" / "used",
    )
    with process:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        assert collect(tmp_path / "parent") == []
        process.kill()
        process.wait()
    assert collect(tmp_path / "parent") == ["used"]


def test_a_forked_child_does_not_hold_the_lock_of_a_parent_that_left(tmp_path):
    """Such as a worker of another DataLoader, which never uses this cache and lives on."""
    kept = SharedFolderLease(tmp_path / "kept", keep=math.inf)
    stop = fork.Event()
    child = fork.Process(target=stop.wait, daemon=True)
    child.start()
    kept.release()
    joiner = fork.Process(target=SharedFolderLease, args=(tmp_path / "kept",), daemon=True)
    joiner.start()
    joiner.join(60)
    alive = joiner.is_alive()
    stop.set()
    child.join()
    joiner.join()
    assert not alive, "joining waits for a process that has nothing to do with the folder"


def test_a_forked_child_leaves_its_parents_lease_alone(tmp_path):
    lease = SharedFolderLease(tmp_path / "shared")
    child = fork.Process(target=lease.release, daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert lease.folder.is_dir()
    assert lease.release()


def test_a_worker_that_ends_normally_releases(tmp_path):
    child = fork.Process(target=join_and_return, args=(tmp_path / "shared",), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert list(tmp_path.iterdir()) == []


def join_and_return(folder):
    global _held
    _held = SharedFolderLease(folder)


def test_a_program_that_ends_without_releasing_leaves_nothing(tmp_path):
    run_script(
        tmp_path,
        """
        import sys
        from pathlib import Path
        from kappacore.machine.lease import SharedFolderLease

        lease = SharedFolderLease(Path(sys.argv[1]))
        """,
        tmp_path / "shared",
    )
    assert not (tmp_path / "shared").exists()


def come_and_go(parent, seconds, seed, problems):
    """Join and leave at random, and look whether the folder is whole while it is used."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    rounds = 0
    try:
        while time.monotonic() < end or rounds <= 10:
            if rng.random() < 0.3:
                collect(parent)
            lease = SharedFolderLease(parent / "busy")
            mine = lease.folder / f"user-{seed}"
            mine.write_text(str(rounds))
            time.sleep(rng.choice([0, 0, 0.001, 0.003]))
            assert mine.read_text() == str(rounds)
            assert (lease.folder / "users").exists()
            mine.unlink()
            lease.release()
            time.sleep(rng.choice([0, 0, 0.001]))
            rounds += 1
    except BaseException as error:
        problems.put(repr(error))
        raise


@pytest.mark.slow
def test_processes_that_come_and_go_at_random_never_find_a_half_removed_folder(tmp_path):
    problems = fork.SimpleQueue()
    processes = [
        fork.Process(target=come_and_go, args=(tmp_path, 2, seed, problems), daemon=True)
        for seed in range(8)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert problems.empty(), problems.get()
    assert [process.exitcode for process in processes] == [0] * 8
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_processes_killed_at_random_moments_leave_nothing_that_the_next_cannot_clean(tmp_path):
    rng = random.Random(0)
    for seed in range(15):
        process = fork.Process(
            target=come_and_go, args=(tmp_path, 60, seed, fork.SimpleQueue()), daemon=True
        )
        process.start()
        time.sleep(rng.uniform(0.01, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        lease = SharedFolderLease(tmp_path / "busy")
        assert lease.folder.is_dir()
        lease.release()
    collect(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- the two races between coming and going, in slow motion


def test_who_waited_at_the_door_of_a_folder_that_was_removed_gets_a_new_one(tmp_path):
    folder = tmp_path / "shared"
    SharedFolderLease(folder, keep=100).release()
    remover = os.open(folder / "users", os.O_RDWR)
    fcntl.flock(remover, fcntl.LOCK_EX)
    joined = fork.SimpleQueue()
    about_to_join = fork.Event()

    def join():
        about_to_join.set()
        lease = SharedFolderLease(folder)
        joined.put((folder.is_dir(), (folder / "keep").exists()))
        lease.release()

    joiner = fork.Process(target=join, daemon=True)
    joiner.start()
    about_to_join.wait()
    time.sleep(0.1)  # it has opened the file and waits for the lock
    folder.rename(tmp_path / "removed")
    fcntl.flock(remover, fcntl.LOCK_UN)
    os.close(remover)
    assert joined.get() == (True, False)
    joiner.join()
    shutil.rmtree(tmp_path / "removed")
    assert list(tmp_path.iterdir()) == []


def test_who_tidies_up_does_not_remove_what_was_made_anew_meanwhile(tmp_path, monkeypatch):
    folder = tmp_path / "shared"
    first = SharedFolderLease(folder)
    later = []

    def open_while_others_leave_and_come(path):
        file = open_lock(path)
        monkeypatch.undo()
        first.release()
        later.append(SharedFolderLease(folder))
        return file

    monkeypatch.setattr(lease_module, "open_lock", open_while_others_leave_and_come)
    assert collect(tmp_path) == []
    assert folder.is_dir()
    assert later[0].release()
