"""A folder that is to be kept stays for as long as the longest wish says."""

from __future__ import annotations

import math
import os
import time

import pytest

from kappacore.machine import lease as lease_module
from kappacore.machine.lease import SharedFolderLease, collect, kept_until, last_used, remove


def test_a_kept_folder_stays_and_is_found_again(tmp_path):
    folder = tmp_path / "kept"
    assert not SharedFolderLease(folder, keep=math.inf).release()
    assert collect(tmp_path) == []
    assert kept_until(folder) == math.inf
    assert not SharedFolderLease(
        folder
    ).release()  # who comes later without a wish does not take it away
    assert folder.is_dir()


def test_a_kept_folder_goes_when_its_time_is_over(tmp_path):
    folder = tmp_path / "kept"
    assert not SharedFolderLease(folder, keep=100).release()
    assert kept_until(folder) == pytest.approx(time.time() + 100, abs=30)
    assert collect(tmp_path) == []
    os.utime(folder / "users", (time.time() - 101,) * 2)
    assert collect(tmp_path) == ["kept"]


def test_use_starts_the_time_of_a_kept_folder_anew(tmp_path):
    folder = tmp_path / "kept"
    SharedFolderLease(folder, keep=100).release()
    os.utime(folder / "users", (time.time() - 50,) * 2)
    SharedFolderLease(folder).release()
    assert kept_until(folder) == pytest.approx(time.time() + 100, abs=30)


@pytest.mark.parametrize("wishes", [(100, 5000, 10), (5000, 10), (10, 5000)])
def test_the_longest_wish_counts(tmp_path, wishes):
    leases = [SharedFolderLease(tmp_path / "kept", keep=wish) for wish in wishes]
    for lease in leases:
        assert not lease.release()
    assert kept_until(tmp_path / "kept") == pytest.approx(time.time() + 5000, abs=30)


@pytest.mark.parametrize("wishes", [(10, 5000), (5000, 10)])
def test_wishes_of_processes_that_join_at_the_same_moment_are_all_heard(
    tmp_path, monkeypatch, wishes
):
    monkeypatch.setattr(lease_module, "_longest_keep", lambda folder: 0.0)  # each looks before both
    leases = [SharedFolderLease(tmp_path / "kept", keep=wish) for wish in wishes]
    monkeypatch.undo()
    for lease in leases:
        lease.release()
    assert kept_until(tmp_path / "kept") == pytest.approx(time.time() + 5000, abs=30)


def test_a_wish_that_cannot_be_read_is_taken_for_the_longest(tmp_path):
    SharedFolderLease(tmp_path / "kept", keep=100).release()
    (tmp_path / "kept" / "keep-a fortnight").touch()
    assert collect(tmp_path) == []
    assert kept_until(tmp_path / "kept") == math.inf


def test_a_joiner_with_the_same_wish_writes_nothing(tmp_path):
    one = SharedFolderLease(tmp_path / "kept", keep=100)
    before = sorted((path, path.stat().st_ctime_ns) for path in one.folder.glob("keep*"))
    two = SharedFolderLease(tmp_path / "kept", keep=100)
    assert sorted((path, path.stat().st_ctime_ns) for path in one.folder.glob("keep*")) == before
    one.release()
    two.release()


def test_the_time_of_a_kept_folder_counts_from_the_last_use_that_was_noted(tmp_path):
    """As after a kill: there is no leaving then."""
    lease = SharedFolderLease(tmp_path / "kept", keep=100)
    users = tmp_path / "kept" / "users"
    os.utime(users, (time.time() - 1000,) * 2)
    assert last_used(tmp_path / "kept") == pytest.approx(time.time() - 1000, abs=30)
    lease.note_use()
    assert last_used(tmp_path / "kept") == pytest.approx(time.time(), abs=30)
    assert kept_until(tmp_path / "kept") == pytest.approx(time.time() + 100, abs=30)
    lease.release()
    remove(tmp_path / "kept", kept=True)
    lease.note_use()  # of a folder that is gone
    assert not (tmp_path / "kept").exists()


def test_only_what_nobody_uses_is_removed_though_it_is_to_be_kept(tmp_path):
    lease = SharedFolderLease(tmp_path / "kept", keep=math.inf)
    assert not remove(tmp_path / "kept", kept=True)
    lease.release()
    assert not remove(tmp_path / "kept", kept=False)
    assert remove(tmp_path / "kept", kept=True)
    assert not remove(tmp_path / "kept", kept=True)
    assert list(tmp_path.iterdir()) == []
