"""A folder is there as long as somebody uses it."""

from __future__ import annotations

import math

import pytest

from kappacore.errors import StorageError
from kappacore.machine.lease import Tenancy, collect
from support.caching import open_files


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


def test_no_file_stays_open(tmp_path):
    before = open_files()
    for keep in (0, 100, math.inf) * 10:
        Tenancy(tmp_path / f"keep-{keep}", keep).leave()
        collect(tmp_path)
    assert open_files() == before
