"""The user's own folder for shared files, and files in it that nobody else reads."""

from __future__ import annotations

import os
import tempfile

import pytest

from kappacore.errors import StorageError
from kappacore.machine.folders import open_private, user_folder


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
