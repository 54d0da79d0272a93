"""Locks and work folders of other users, of nobody, and of processes that lost them."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import kappacore
from kappacore.errors import StagingError, StagingTimeoutError
from kappacore.staging.target.paths import StagePaths
from support.caching import start_script
from support.staging import SMALL, make_tree, tree_of

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def scratch():
    """A folder that everybody can write to, as /scratch mostly is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)
        yield folder


def stage_as(user, source, target, *, umask=0o022, timeout=None):
    """Stage in a process of another user, and return what it printed."""
    script = (
        "import os, sys, kappacore\n"
        "kappacore.stage(sys.argv[1], sys.argv[3])\n"  # imports what root alone may read
        f"os.umask({umask}); os.setgid({user}); os.setuid({user})\n"
        "try: print(kappacore.stage(*sys.argv[1:3], timeout=" + repr(timeout) + ").copied)\n"
        "except kappacore.KappaError as error: print(type(error).__name__, error)\n"
    )
    with tempfile.TemporaryDirectory() as warm:
        command = [sys.executable, "-c", script, source, target, f"{warm}/t"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.strip()


@as_root
def test_a_stale_lock_of_another_user_blocks_nobody(scratch):
    """Whether it is held only the kernel knows."""
    source = make_tree(scratch / "source")
    lock = StagePaths(scratch / "t").lock
    lock.touch(0o644)
    os.chown(lock, 65533, 65533)
    assert stage_as(65534, source, scratch / "t") == "True"
    assert tree_of(scratch / "t") == SMALL


@as_root
def test_a_lock_can_be_opened_whatever_the_umask_of_its_owner(scratch):
    source = make_tree(scratch / "source")
    old = os.umask(0o077)
    try:
        lock = StagePaths(scratch / "t").lock
        kappacore.stage(source, scratch / "t")
    finally:
        os.umask(old)
    assert lock.stat().st_mode & 0o777 == 0o644
    (scratch / "t").rename(scratch / "gone")
    assert stage_as(65534, source, scratch / "t") == "True"


@as_root
def test_a_lock_that_another_user_holds_is_waited_for(scratch):
    source = make_tree(scratch / "source")
    lock = StagePaths(scratch / "t").lock
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        printed = stage_as(65534, source, scratch / "t", timeout=0.2)
        assert re.match(r"StagingTimeoutError waited \d+ s for", printed)
    assert not (scratch / "t").exists()


@pytest.mark.slow
@as_root
def test_a_complete_copy_of_another_user_is_used(scratch):
    source = make_tree(scratch / "source")
    target = kappacore.stage(source, scratch / "t").path
    assert stage_as(65534, source, target) == "False"
    make_tree(scratch, {".t.kappacore-holder": b"process 1 of root"})  # left by a kill
    assert stage_as(65534, source, target) == "False"


@pytest.mark.slow
@as_root
def test_so_it_is_where_its_source_was_only_touched(scratch):
    source = make_tree(scratch / "source")
    scratch.chmod(0o755)
    target = kappacore.stage(source, scratch / "t").path
    os.utime(source)
    assert stage_as(65534, source, target) == "False"
    make_tree(source, {"new.jpg": b"new"})
    assert stage_as(65534, source, target).startswith("StagingError cannot stage to")


@as_root
def test_a_work_folder_of_another_user_is_refused(scratch):
    source = make_tree(scratch / "source")
    work = StagePaths(scratch / "t").work
    work.mkdir()
    printed = stage_as(65534, source, scratch / "t")
    assert re.match(r"StagingError '.*-work' is in the way: .*another user's", printed)


@pytest.mark.parametrize(
    "files", [{"thesis.tex": b"x"}, {"tree/thesis.tex": b"x"}, {"state.json": b"{}"}]
)
def test_a_folder_of_that_name_that_staging_did_not_make_is_not_removed(tmp_path, files):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    work = make_tree(StagePaths(target).work, files)
    with pytest.raises(StagingError, match=r"is in the way: .* that staging did not make"):
        kappacore.stage(source, target)
    assert tree_of(work) == files
    kappacore.stage(source, tmp_path / "u")
    (tmp_path / "u").rename(target)
    assert not kappacore.stage(source, target).copied
    assert tree_of(work) == files


@pytest.mark.slow
def test_one_that_a_kill_left_while_it_was_made_or_removed_is_no_hindrance(tmp_path):
    """Killed right before each file or folder that is made or removed there."""
    source = make_tree(tmp_path / "s")
    script = (
        "import os, sys, kappacore\n"
        "left = int(sys.argv[3])\n"
        "def hook(event, args):\n"
        "    global left\n"
        "    path = ' '.join(map(str, args))\n"
        "    if event in CHANGES and ('-work' in path or 'state' in path):\n"
        "        left -= 1\n"
        "        if left < 0: os._exit(9)\n"
        "CHANGES = ('os.mkdir', 'os.rename', 'os.remove', 'os.rmdir', 'shutil.rmtree', 'open')\n"
        "sys.addaudithook(hook)\n"
        "kappacore.stage(*sys.argv[1:3], workers=1)\n"
    )
    for moment in [*range(12), *range(12, 60, 3)]:
        target = tmp_path / str(moment) / "t"
        command = [sys.executable, "-c", script, str(source), str(target), str(moment)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode in (0, 9), done.stderr
        kappacore.stage(source, target)
        assert tree_of(target) == SMALL
        assert not StagePaths(target).work.exists()
        if done.returncode == 0:
            break
    else:
        pytest.fail("it was always killed")


HOLD = """
import pathlib, sys, time, kappacore

def progress(now):
    if now.files == now.total_files:
        print("copied", flush=True)
        sys.stdin.readline()

print(kappacore.stage(*sys.argv[1:], progress=progress).copied)
"""


@pytest.mark.parametrize("complete", [False, True])
def test_a_lock_that_is_removed_in_mid_copy_lets_nobody_in(tmp_path, complete):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    if complete:  # by now
        kappacore.stage(source, target)
        make_tree(source, {"labels.csv": b"new"})
        os.utime(source)
    command = [sys.executable, "-c", HOLD, str(source), str(target)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "copied\n"
        StagePaths(target).lock.unlink()
        began = time.monotonic()
        with pytest.raises(StagingTimeoutError, match=r"waited \d+ s for"):
            kappacore.stage(source, target, timeout=0.3)
        assert time.monotonic() - began < 60
        out, err = first.communicate("\n", timeout=250)
        assert (out.strip(), err) == ("True", "")
    assert tree_of(target) == tree_of(source)
    assert not kappacore.stage(source, target).copied
    assert not StagePaths(target).work.exists()


def test_an_error_leaves_nobody_locked_out(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"

    def fail(now):
        raise RuntimeError("no more")

    kept = []
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no more") as caught:
            kappacore.stage(source, target, progress=fail, timeout=0)
        kept.append(caught)  # with its traceback
    assert kappacore.stage(source, target, timeout=0).copied


def test_a_child_that_is_forked_in_mid_copy_keeps_nothing_locked(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    script = """
    import os, sys, time, kappacore

    def progress(now):
        if now.files == now.total_files:
            child = os.fork()
            if not child:
                time.sleep(100)
            print(child, flush=True)
            time.sleep(100)

    kappacore.stage(*sys.argv[1:], progress=progress)
    """
    with start_script(tmp_path, script, source, target) as parent:
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            assert kappacore.stage(source, target, timeout=100).copied
        finally:
            os.kill(child, 9)
