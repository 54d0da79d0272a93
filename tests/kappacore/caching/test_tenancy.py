from __future__ import annotations

import fcntl
import math
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time

import pytest

from kappacore.caching import tenancy as tenancy_module
from kappacore.caching.folders import open_private, user_folder
from kappacore.caching.tenancy import (
    Tenancy,
    collect,
    count_users,
    kept_until,
    last_used,
    remove,
)
from kappacore.errors import StorageError
from support.caching import open_files, run_script, start_script

fork = multiprocessing.get_context("fork")


def test_the_folder_is_there_as_long_as_somebody_uses_it(tmp_path):
    folder = tmp_path / "shared"
    one, two = Tenancy(folder), Tenancy(folder)
    assert not one.leave()
    assert folder.is_dir()
    assert two.leave()
    assert list(tmp_path.iterdir()) == []


def test_leaving_twice_is_leaving_once(tmp_path):
    one, two = Tenancy(tmp_path / "shared"), Tenancy(tmp_path / "shared")
    assert not one.leave()
    assert not one.leave()
    assert two.leave()


def test_forgetting_the_tenancy_is_leaving(tmp_path):
    tenancy = Tenancy(tmp_path / "shared")
    assert tenancy.folder.is_dir()
    del tenancy
    assert not (tmp_path / "shared").exists()


def test_a_folder_that_was_removed_can_be_joined_again(tmp_path):
    for _ in range(3):
        tenancy = Tenancy(tmp_path / "shared")
        (tenancy.folder / "content").write_text("x")
        assert tenancy.leave()
    assert list(tmp_path.iterdir()) == []


def test_collect_leaves_alone_what_is_used_and_removes_what_is_not(tmp_path):
    used = Tenancy(tmp_path / "used")
    (tmp_path / "unused").mkdir()
    (tmp_path / "unused" / "users").touch()
    (tmp_path / ".trash-123").mkdir()
    (tmp_path / "a-file").touch()
    assert collect(tmp_path) == ["unused"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-file", "used"]
    used.leave()


def test_a_kept_folder_stays_and_is_found_again(tmp_path):
    folder = tmp_path / "kept"
    assert not Tenancy(folder, keep=math.inf).leave()
    assert collect(tmp_path) == []
    assert kept_until(folder) == math.inf
    assert not Tenancy(folder).leave()  # who comes later without a wish does not take it away
    assert folder.is_dir()


def test_a_kept_folder_goes_when_its_time_is_over(tmp_path):
    folder = tmp_path / "kept"
    assert not Tenancy(folder, keep=100).leave()
    assert kept_until(folder) == pytest.approx(time.time() + 100, abs=2)
    assert collect(tmp_path) == []
    os.utime(folder / "users", (time.time() - 101,) * 2)
    assert collect(tmp_path) == ["kept"]


def test_use_starts_the_time_of_a_kept_folder_anew(tmp_path):
    folder = tmp_path / "kept"
    Tenancy(folder, keep=100).leave()
    os.utime(folder / "users", (time.time() - 50,) * 2)
    Tenancy(folder).leave()
    assert kept_until(folder) == pytest.approx(time.time() + 100, abs=2)


@pytest.mark.parametrize("wishes", [(100, 5000, 10), (5000, 10), (10, 5000)])
def test_the_longest_wish_counts(tmp_path, wishes):
    tenancies = [Tenancy(tmp_path / "kept", keep=wish) for wish in wishes]
    for tenancy in tenancies:
        assert not tenancy.leave()
    assert kept_until(tmp_path / "kept") == pytest.approx(time.time() + 5000, abs=2)


@pytest.mark.parametrize("wishes", [(10, 5000), (5000, 10)])
def test_wishes_of_processes_that_join_at_the_same_moment_are_all_heard(
    tmp_path, monkeypatch, wishes
):
    monkeypatch.setattr(tenancy_module, "_wished", lambda folder: 0.0)  # each looks before both
    tenancies = [Tenancy(tmp_path / "kept", keep=wish) for wish in wishes]
    monkeypatch.undo()
    for tenancy in tenancies:
        tenancy.leave()
    assert kept_until(tmp_path / "kept") == pytest.approx(time.time() + 5000, abs=2)


def test_a_wish_that_cannot_be_read_is_taken_for_the_longest(tmp_path):
    Tenancy(tmp_path / "kept", keep=100).leave()
    (tmp_path / "kept" / "keep-a fortnight").touch()
    assert collect(tmp_path) == []
    assert kept_until(tmp_path / "kept") == math.inf


def test_a_joiner_with_the_same_wish_writes_nothing(tmp_path):
    one = Tenancy(tmp_path / "kept", keep=100)
    before = sorted((path, path.stat().st_ctime_ns) for path in one.folder.glob("keep*"))
    two = Tenancy(tmp_path / "kept", keep=100)
    assert sorted((path, path.stat().st_ctime_ns) for path in one.folder.glob("keep*")) == before
    one.leave()
    two.leave()


def test_the_time_of_a_kept_folder_counts_from_the_last_use_that_was_noted(tmp_path):
    """As after a kill: there is no leaving then."""
    tenancy = Tenancy(tmp_path / "kept", keep=100)
    users = tmp_path / "kept" / "users"
    os.utime(users, (time.time() - 1000,) * 2)
    assert last_used(tmp_path / "kept") == pytest.approx(time.time() - 1000, abs=2)
    tenancy.note_use()
    assert last_used(tmp_path / "kept") == pytest.approx(time.time(), abs=2)
    assert kept_until(tmp_path / "kept") == pytest.approx(time.time() + 100, abs=2)
    tenancy.leave()
    remove(tmp_path / "kept", kept=True)
    tenancy.note_use()  # of a folder that is gone
    assert not (tmp_path / "kept").exists()


def test_only_what_nobody_uses_is_removed_though_it_is_to_be_kept(tmp_path):
    tenancy = Tenancy(tmp_path / "kept", keep=math.inf)
    assert not remove(tmp_path / "kept", kept=True)
    tenancy.leave()
    assert not remove(tmp_path / "kept", kept=False)
    assert remove(tmp_path / "kept", kept=True)
    assert not remove(tmp_path / "kept", kept=True)
    assert list(tmp_path.iterdir()) == []


def test_users_are_counted_by_process(tmp_path):
    folder = tmp_path / "shared"
    assert count_users(folder) is None
    mine = [Tenancy(folder), Tenancy(folder)]
    assert count_users(folder) == 1
    joined, stop = fork.Event(), fork.Event()

    def join():
        tenancy = Tenancy(folder)
        joined.set()
        stop.wait()
        tenancy.leave()

    child = fork.Process(target=join, daemon=True)
    child.start()
    joined.wait()
    assert count_users(folder) == 2
    stop.set()
    child.join()
    assert count_users(folder) == 1
    for tenancy in mine:
        tenancy.leave()


def test_what_a_killed_user_left_is_collected_by_the_next(tmp_path):
    (tmp_path / "parent").mkdir()
    process = start_script(
        tmp_path,
        """
        import sys, time
        from pathlib import Path
        from kappacore.caching.tenancy import Tenancy

        tenancy = Tenancy(Path(sys.argv[1]))
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
    kept = Tenancy(tmp_path / "kept", keep=math.inf)
    stop = fork.Event()
    child = fork.Process(target=stop.wait, daemon=True)
    child.start()
    kept.leave()
    joiner = fork.Process(target=Tenancy, args=(tmp_path / "kept",), daemon=True)
    joiner.start()
    joiner.join(10)
    alive = joiner.is_alive()
    stop.set()
    child.join()
    joiner.join()
    assert not alive, "joining waits for a process that has nothing to do with the folder"


def test_a_forked_child_leaves_its_parents_tenancy_alone(tmp_path):
    tenancy = Tenancy(tmp_path / "shared")
    child = fork.Process(target=tenancy.leave, daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert tenancy.folder.is_dir()
    assert tenancy.leave()


def test_a_worker_that_ends_normally_leaves(tmp_path):
    child = fork.Process(target=join_and_return, args=(tmp_path / "shared",), daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert list(tmp_path.iterdir()) == []


def join_and_return(folder):
    global _held
    _held = Tenancy(folder)


def test_a_program_that_ends_without_leaving_leaves_nothing(tmp_path):
    run_script(
        tmp_path,
        """
        import sys
        from pathlib import Path
        from kappacore.caching.tenancy import Tenancy

        tenancy = Tenancy(Path(sys.argv[1]))
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
        while time.monotonic() < end:
            if rng.random() < 0.3:
                collect(parent)
            tenancy = Tenancy(parent / "busy")
            mine = tenancy.folder / f"user-{seed}"
            mine.write_text(str(rounds))
            time.sleep(rng.choice([0, 0, 0.001, 0.003]))
            assert mine.read_text() == str(rounds)
            assert (tenancy.folder / "users").exists()
            mine.unlink()
            tenancy.leave()
            time.sleep(rng.choice([0, 0, 0.001]))
            rounds += 1
        assert rounds > 10
    except BaseException as error:
        problems.put(repr(error))
        raise


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
        tenancy = Tenancy(tmp_path / "busy")
        assert tenancy.folder.is_dir()
        tenancy.leave()
    collect(tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---- whose folder it is


def test_the_users_folder_is_private_and_under_the_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("KAPPACORE_DIR", str(tmp_path))
    folder = user_folder("shared")
    assert folder == tmp_path / f"kappacore-{os.getuid()}" / "shared"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert user_folder("shared") == folder


def test_a_base_that_is_given_goes_before_the_environment_variable(tmp_path):
    assert user_folder("shared", tmp_path).is_relative_to(tmp_path)


def test_a_folder_open_to_others_is_refused(tmp_path):
    folder = user_folder("shared", tmp_path)
    folder.chmod(0o777)
    expected = rf"^{folder} is open to other users \(mode 777, expected 700\); it is not used.*"
    with pytest.raises(StorageError, match=expected + r"Remove it, or set KAPPACORE_DIR"):
        user_folder("shared", tmp_path)


def test_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"kappacore-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"kappacore-\d+ is not a folder; it is not used"):
        user_folder("shared", tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_in_its_place_is_refused(tmp_path):
    (tmp_path / f"kappacore-{os.getuid()}").touch()
    with pytest.raises(StorageError, match=r"kappacore-\d+ is not a folder"):
        user_folder("shared", tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    folder = tmp_path / "kappacore-0"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)
    expected = r"kappacore-0 belongs to user 12345, not to you \(0\); it is not used"
    with pytest.raises(StorageError, match=expected):
        user_folder("shared", tmp_path)


def test_a_base_that_does_not_exist_is_refused_with_what_to_do(tmp_path):
    expected = r"^Cannot use the folder .*missing.*No such file.* Set KAPPACORE_DIR, or the option"
    with pytest.raises(StorageError, match=expected):
        user_folder("shared", tmp_path / "missing")


def test_looking_for_the_users_folder_makes_nothing_and_trusts_nobody(tmp_path):
    folder = user_folder("shared", tmp_path, make=False)
    assert folder == tmp_path / f"kappacore-{os.getuid()}" / "shared"
    assert list(tmp_path.iterdir()) == []
    user_folder("shared", tmp_path).chmod(0o755)
    with pytest.raises(StorageError, match="is open to other users"):
        user_folder("shared", tmp_path, make=False)
    with pytest.raises(StorageError, match=r"^Cannot use .*missing is not a folder.* Set KAPPA"):
        user_folder("shared", tmp_path / "missing", make=False)


@pytest.mark.parametrize("kind", ["link", "open to others", "file"])
def test_a_folder_to_join_that_is_not_ones_own_is_refused(tmp_path, kind):
    folder = tmp_path / "shared"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if kind == "link":
        folder.symlink_to(elsewhere)
    elif kind == "file":
        folder.touch()
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(StorageError, match=r"shared (is not a folder|is open to other users)"):
        Tenancy(folder)
    assert list(elsewhere.iterdir()) == []


def test_the_directory_for_temporary_files_is_used_where_there_is_no_dev_shm(monkeypatch, tmp_path):
    monkeypatch.delenv("KAPPACORE_DIR")
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/dev/shm")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert user_folder("shared") == tmp_path / f"kappacore-{os.getuid()}" / "shared"
    monkeypatch.setenv("KAPPACORE_DIR", "")
    assert user_folder("shared") == tmp_path / f"kappacore-{os.getuid()}" / "shared"


def test_files_are_the_users_own_and_links_are_not_followed(tmp_path):
    os.close(open_private(tmp_path / "file"))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(OSError, match="symbolic links"):
        open_private(tmp_path / "link")


def test_no_file_stays_open(tmp_path):
    before = open_files()
    for keep in (0, 100, math.inf) * 10:
        Tenancy(tmp_path / f"keep-{keep}", keep).leave()
        collect(tmp_path)
    assert open_files() == before


# ---- the two races between coming and going, in slow motion


def test_who_waited_at_the_door_of_a_folder_that_was_removed_gets_a_new_one(tmp_path):
    folder = tmp_path / "shared"
    Tenancy(folder, keep=100).leave()
    remover = open_private(folder / "users")
    fcntl.flock(remover, fcntl.LOCK_EX)
    joined = fork.SimpleQueue()
    about_to_join = fork.Event()

    def join():
        about_to_join.set()
        tenancy = Tenancy(folder)
        joined.put((folder.is_dir(), (folder / "keep").exists()))
        tenancy.leave()

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
    first = Tenancy(folder)
    later = []

    def open_while_others_leave_and_come(path, *flags):
        fd = open_private(path, *flags)
        monkeypatch.undo()
        first.leave()
        later.append(Tenancy(folder))
        return fd

    monkeypatch.setattr(tenancy_module, "open_private", open_while_others_leave_and_come)
    assert collect(tmp_path) == []
    assert folder.is_dir()
    assert later[0].leave()
