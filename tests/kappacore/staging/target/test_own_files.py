"""Something else under the names of staging's own files: never opened, and named."""

from __future__ import annotations

import fcntl
import os
import signal
import socket

import pytest

import kappacore
from kappacore.errors import StagingError, StagingTimeoutError
from kappacore.staging import check_staged
from kappacore.staging.target.paths import MANIFEST, UNFINISHED, StagePaths
from support.staging import SMALL, make_tree, tree_of


@pytest.fixture(autouse=True)
def _no_wait():
    """What waits for the other end of a pipe is interrupted."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits"))
    signal.alarm(5)
    yield
    signal.alarm(0)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(path))  # a longer one has no room


THINGS = {
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "socket": make_socket,
    "loop": lambda path: path.symlink_to(path.name),
    "link": lambda path: path.symlink_to("/dev/zero"),
}


def stopped(source, target):
    """Begin to stage, and stop."""

    def stop(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kappacore.stage(source, target, progress=stop)


@pytest.mark.parametrize("thing", THINGS)
def test_it_is_named_and_stays(tmp_path, monkeypatch, thing):
    source = make_tree(tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(
        (f"t/{MANIFEST}", f"t/{UNFINISHED}", f"t/train/{MANIFEST}", UNFINISHED, ".t.kappacore-lock")
    ):
        folder = tmp_path / str(number)
        target = make_tree(folder / "t", {"train/b/3.jpg": SMALL["train/b/3.jpg"]})
        path = folder / name
        THINGS[thing](path)
        with pytest.raises(StagingError, match=f"{path.name}' is in the way: it is a "):
            kappacore.stage(source, target)
        with pytest.raises(StagingError):
            check_staged(target)
        assert os.path.lexists(path)
        assert tree_of(target) == {"train/b/3.jpg": SMALL["train/b/3.jpg"]}


@pytest.mark.parametrize("thing", THINGS)
def test_so_in_the_work_folder(tmp_path, monkeypatch, thing):
    source = make_tree(tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    for name in ("lock", "state.json", "journal"):
        target = tmp_path / name
        stopped(source, target)
        path = StagePaths(target).work / name
        path.unlink()
        THINGS[thing](path)
        with pytest.raises(StagingError, match="' is in the way: it is a "):
            kappacore.stage(source, target)
        assert os.path.lexists(path)


def test_who_holds_a_lock_is_only_a_note(tmp_path):
    """What has taken its name, but a folder, is replaced."""
    source, paths = make_tree(tmp_path / "s"), StagePaths(tmp_path / "t")
    os.mkfifo(paths.holder)
    with paths.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StagingTimeoutError, match="has just begun to stage"):
            kappacore.stage(source, paths.target, timeout=0)
    assert kappacore.stage(source, paths.target).copied
    assert not os.path.lexists(paths.holder)
    paths.holder.mkdir()
    with pytest.raises(StagingError, match="holder' is in the way: it is a folder"):
        kappacore.stage(source, paths.target, recheck=True)


def test_a_complete_target_needs_none_of_the_lock(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    paths = StagePaths(target)
    paths.lock.unlink()
    paths.lock.mkdir()
    paths.work.mkdir()
    assert not kappacore.stage(source, target).copied


def test_a_kill_while_a_manifest_is_replaced(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    kappacore.stage(source, target)
    make_tree(tmp_path, {"s/.kappacore-lock": b""})  # which changes the time of the folder
    other = tmp_path / "other"
    stopped(source, other)
    os.utime(source, (1, 1))
    work = StagePaths(other).work.rename(StagePaths(target).work)
    (work / MANIFEST).write_bytes(b"half")
    assert not kappacore.stage(source, target).copied
