"""The user's own folder for shared files, and files in it that nobody else reads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest

from kappacore.errors import StorageError
from kappacore.machine.folders import open_private, user_folder
from kappacore.machine.locks import try_lock
from support.kills import kill_self, run_in_child

fork = multiprocessing.get_context("fork")


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


root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


def take_name(base, kind):
    """As somebody else may, where everybody may write."""
    taken = base / f"kappacore-{os.getuid()}"
    if kind == "folder":
        taken.mkdir(mode=0o700)
    elif kind == "file":
        taken.touch()
    else:
        taken.symlink_to(base)
    os.chown(taken, 12345, -1, follow_symlinks=False)
    return taken


@root_only
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_name_that_somebody_else_has_taken_gives_way_to_another_that_all_find(tmp_path, kind):
    taken = take_name(tmp_path, kind)
    folder = user_folder("shared", tmp_path)
    assert folder.parent.name.startswith(f"{taken.name}-")
    assert len(folder.parent.name) > len(taken.name) + 20  # nobody can guess it
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert user_folder("stats", tmp_path).parent == folder.parent
    assert user_folder("shared", tmp_path, make=False) == folder
    taken.unlink() if kind != "folder" else taken.rmdir()
    assert user_folder("shared", tmp_path) == folder  # others use it


@root_only
def test_a_second_name_that_is_somebody_elses_too_is_not_used(tmp_path):
    taken = take_name(tmp_path, "folder")
    (tmp_path / f"{taken.name}-0").mkdir()
    os.chown(tmp_path / f"{taken.name}-0", 12345, -1)
    folder = user_folder("shared", tmp_path)
    assert folder.parent.name != f"{taken.name}-0"
    assert user_folder("shared", tmp_path) == folder


@root_only
def test_looking_makes_no_folder_beside_one_of_somebody_else(tmp_path):
    taken = take_name(tmp_path, "folder")
    assert not user_folder("shared", tmp_path, make=False).exists()
    assert list(tmp_path.iterdir()) == [taken]


@root_only
def test_a_folder_that_its_maker_may_remove_again_is_not_used(tmp_path):
    """Its maker is stopped, say, and has not looked yet whether it is alone."""
    taken = take_name(tmp_path, "folder")
    unsettled = tmp_path / f"{taken.name}-0"
    unsettled.mkdir(mode=0o1700)
    found = []
    thread = threading.Thread(target=lambda: found.append(user_folder("shared", tmp_path)))
    thread.start()
    thread.join(0.1)
    assert found == []
    unsettled.rmdir()
    thread.join()
    assert found[0].parent not in (unsettled, taken)
    assert user_folder("shared", tmp_path) == found[0]


@root_only
def test_a_folder_whose_maker_was_killed_is_used_after_a_while(tmp_path):
    taken = take_name(tmp_path, "folder")
    left = tmp_path / f"{taken.name}-0"
    left.mkdir(mode=0o1700)
    os.utime(left, (time.time() - 20,) * 2)
    assert user_folder("shared", tmp_path) == left / "shared"


@root_only
def test_processes_that_come_at_the_same_moment_agree_on_a_folder(tmp_path):
    take_name(tmp_path, "folder")
    barrier, found = multiprocessing.Barrier(6), multiprocessing.SimpleQueue()

    def find():
        barrier.wait()
        found.put(str(user_folder("shared", tmp_path)))

    children = [fork.Process(target=find) for _ in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert len({found.get() for _ in children}) == 1


@pytest.mark.parametrize("umask", [0o177, 0o277, 0o777])
def test_a_umask_takes_no_rights_that_the_next_process_needs(umask):
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        os.chmod(base, 0o777)  # noqa: PTH101 - whoever the child is

        def use():
            if os.getuid() == 0:
                os.setuid(12345)
            os.umask(umask)
            folder = user_folder("shared", Path(base) / "new")
            os.close(open_private(folder / "file"))
            with try_lock(folder / "lock"):
                pass
            os.close(open_private(folder / "file", os.O_RDWR))

        assert [run_in_child(use) for _ in range(2)] == [0, 0]


def test_rights_that_a_umask_took_from_a_process_that_was_killed_are_given_back():
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        os.chmod(base, 0o777)  # noqa: PTH101 - whoever the child is

        def use(umask, end):
            if os.getuid() == 0:
                os.setuid(12345)
            os.umask(umask)
            folder = Path(base) / f"kappacore-{os.getuid()}"
            if umask:
                folder.mkdir()
                folder.chmod(0o700)
                (folder / "shared").mkdir()
                (folder / "shared").chmod(0o700)
                os.close(os.open(folder / "shared" / "file", os.O_CREAT | os.O_RDWR, 0o600))
                (folder / "shared").chmod(0o700 & ~umask)
                folder.chmod(0o700 & ~umask)
            else:
                os.close(open_private(user_folder("shared", base) / "file", os.O_RDWR))
            end()

        assert run_in_child(lambda: use(0o777, kill_self)) == -signal.SIGKILL
        assert run_in_child(lambda: use(0, int)) == 0


def test_a_base_that_alone_is_missing_is_made_closed_to_others(tmp_path, monkeypatch):
    monkeypatch.setenv("KAPPACORE_DIR", str(tmp_path / "new"))
    assert user_folder("shared").is_dir()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert user_folder("shared", tmp_path / "other").is_dir()
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o700


def test_a_base_whose_parent_does_not_exist_is_refused_with_what_to_do(tmp_path):
    expected = (
        rf"^Cannot use the folder {tmp_path}/missing/new: {tmp_path}/missing does not exist\. "
        r"Set KAPPACORE_DIR, or the option path"
    )
    with pytest.raises(StorageError, match=expected):
        user_folder("shared", tmp_path / "missing" / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"^Cannot use .*Not a directory.* Set KAPPACORE_DIR"):
        user_folder("shared", tmp_path / "file")


def test_looking_for_the_users_folder_makes_nothing_and_trusts_nobody(tmp_path):
    folder = user_folder("shared", tmp_path, make=False)
    assert folder == tmp_path / f"kappacore-{os.getuid()}" / "shared"
    assert list(tmp_path.iterdir()) == []
    user_folder("shared", tmp_path).chmod(0o755)
    with pytest.raises(StorageError, match="is open to other users"):
        user_folder("shared", tmp_path, make=False)
    with pytest.raises(StorageError, match=r"^Cannot use .*missing is not a folder.* Set KAPPA"):
        user_folder("shared", tmp_path / "missing", make=False)


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
