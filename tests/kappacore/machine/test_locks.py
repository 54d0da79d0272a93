"""The kernel's locks on files that processes share."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from kappacore.errors import StorageError
from kappacore.machine import locks
from kappacore.machine.locks import check_locks, try_lock
from support.caching import open_files


def test_one_thread_at_a_time_has_a_lock(tmp_path):
    found = []
    with try_lock(tmp_path / "lock") as lock:
        assert not os.get_inheritable(lock.fileno())
        thread = threading.Thread(target=lambda: found.append(try_lock(tmp_path / "lock")))
        thread.start()
        thread.join()
    assert found == [None]
    with try_lock(tmp_path / "lock") as lock:
        assert lock


def test_a_lock_that_is_taken_leaves_no_file_open(tmp_path):
    with try_lock(tmp_path / "lock"):
        before = open_files()
        assert try_lock(tmp_path / "lock") is None
        assert open_files() == before


def test_a_lock_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), try_lock(tmp_path / "lock"):
        raise ZeroDivisionError
    with try_lock(tmp_path / "lock") as lock:
        assert lock


def test_a_file_that_was_replaced_before_it_was_locked_is_not_taken_for_the_lock(
    tmp_path, monkeypatch
):
    path = tmp_path / "lock"
    flock = locks.flock

    def replace_and_lock(fd, at, **options):
        if at == path:
            monkeypatch.undo()
            path.unlink()
            path.touch()
        flock(fd, at, **options)

    monkeypatch.setattr(locks, "flock", replace_and_lock)
    with try_lock(path) as lock:
        assert os.path.samestat(os.fstat(lock.fileno()), path.stat())
        assert try_lock(path) is None


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links") as caught:
        try_lock(tmp_path / "lock")
    assert caught.value.errno == errno.ELOOP
    assert not (tmp_path / "elsewhere").exists()


def test_looking_whether_there_are_locks_leaves_nothing(tmp_path):
    check_locks(tmp_path)
    check_locks(tmp_path / "not" / "yet" / "made")
    assert list(tmp_path.iterdir()) == []


def test_an_error_other_than_missing_locks_is_passed_on(tmp_path):
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        locks.flock(10**6, tmp_path)
    assert not isinstance(caught.value, StorageError)
