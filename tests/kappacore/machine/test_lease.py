"""A folder is there as long as somebody uses it."""

from __future__ import annotations

import math

import pytest

from kappacore.errors import StorageError
from kappacore.machine.lease import SharedFolderLease, collect
from support.caching import open_files


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
