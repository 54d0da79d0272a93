"""A folder is there as long as somebody uses it."""

from __future__ import annotations

import math
import shutil
import signal

import pytest

from kappacore.errors import StorageError
from kappacore.machine import lease as lease_module
from kappacore.machine.lease import SharedFolderLease, collect
from support.caching import open_files
from support.kills import kill_self, run_in_child


def test_the_folder_is_there_as_long_as_somebody_uses_it(tmp_path):
    folder = tmp_path / "shared"
    one, two = SharedFolderLease(folder), SharedFolderLease(folder)
    assert not one.release()
    assert folder.is_dir()
    assert two.release()
    assert list(tmp_path.iterdir()) == []


def test_releasing_twice_is_releasing_once(tmp_path):
    one, two = SharedFolderLease(tmp_path / "shared"), SharedFolderLease(tmp_path / "shared")
    assert not one.release()
    assert not one.release()
    assert two.release()


def test_a_lease_that_is_garbage_collected_is_released(tmp_path):
    lease = SharedFolderLease(tmp_path / "shared")
    assert lease.folder.is_dir()
    del lease
    assert not (tmp_path / "shared").exists()


def test_a_folder_that_was_removed_can_be_joined_again(tmp_path):
    for _ in range(3):
        lease = SharedFolderLease(tmp_path / "shared")
        (lease.folder / "content").write_text("x")
        assert lease.release()
    assert list(tmp_path.iterdir()) == []


def test_collect_leaves_alone_what_is_used_and_removes_what_is_not(tmp_path):
    used = SharedFolderLease(tmp_path / "used")
    (tmp_path / "unused").mkdir()
    (tmp_path / "unused" / "users").touch()
    (tmp_path / ".trash-123").mkdir()
    (tmp_path / "a-file").touch()
    assert collect(tmp_path) == ["unused"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-file", "used"]
    used.release()


def test_what_was_being_removed_when_a_process_was_killed_is_removed_by_the_next_user(tmp_path):
    """Also where nobody collects, as among the entries that last users clear."""

    def remove_and_be_killed():
        lease_module.shutil.rmtree = kill_self
        SharedFolderLease(tmp_path / "shared").release()

    assert run_in_child(remove_and_be_killed) == -signal.SIGKILL
    assert [path.name[:7] for path in tmp_path.iterdir()] == [".trash-"]
    SharedFolderLease(tmp_path / "other").release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_somebody_else_removes_at_the_same_moment_is_no_error(tmp_path, monkeypatch):
    lease = SharedFolderLease(tmp_path / "shared")
    look = lease_module.kept_until

    def look_and_remove(folder):
        until = look(folder)
        shutil.rmtree(folder)
        return until

    monkeypatch.setattr(lease_module, "kept_until", look_and_remove)
    assert not lease.release()
    assert list(tmp_path.iterdir()) == []


def test_what_is_to_be_said_once_is_said_though_the_folder_was_removed(tmp_path):
    lease = SharedFolderLease(tmp_path / "shared")
    shutil.rmtree(tmp_path / "shared")
    assert [lease.first_to("warn"), lease.first_to("warn"), lease.first_to("tell")] == [
        True,
        False,
        True,
    ]
    lease.release()


def test_empty_folders_of_a_killed_process_are_removed_with_those_around_them(tmp_path):
    parent = tmp_path / "kappacore-1" / "shared"
    parent.parent.mkdir()
    assert collect(parent) == []
    assert list(tmp_path.iterdir()) == []


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
        SharedFolderLease(folder)
    assert list(elsewhere.iterdir()) == []


def test_no_file_stays_open(tmp_path):
    before = open_files()
    for keep in (0, 100, math.inf) * 10:
        SharedFolderLease(tmp_path / f"keep-{keep}", keep).release()
        collect(tmp_path)
    assert open_files() == before
