"""Several processes at once."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import kappacore
from kappacore.errors import StagingError, StagingTimeoutError
from kappacore.machine.locks import try_lock
from kappacore.staging.target.lock import release_lock, target_lock
from kappacore.staging.target.paths import StagePaths
from support.caching import start_script
from support.interrupts import interrupts
from support.noflock import NO_LOCKS, without_flock
from support.staging import SMALL, left_beside, make_tree, tree_of

STAGE = """
import json, os, sys, kappacore
part = sys.argv[3] if sys.argv[3:] else None
result = kappacore.stage(*sys.argv[1:3], verify="hash", relative=part)
names = sorted(os.path.relpath(os.path.join(folder, name), result)
               for folder, _, found in os.walk(result) for name in found)
print(json.dumps([result.copied, len(names), result.copied_bytes]))
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", STAGE, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(children):
    found = []
    for child in children:
        out, err = child.communicate(timeout=250)
        assert child.returncode == 0, err
        found.append(json.loads(out))
    return found


@pytest.mark.slow
def test_of_eight_processes_one_copies_and_all_see_everything(tmp_path):
    files = {f"{number % 10}/{number}.jpg": os.urandom(20_000) for number in range(500)}
    source = make_tree(tmp_path / "s", files)
    found = results([start(source, tmp_path / "local" / "t") for _ in range(8)])
    assert sorted(copied for copied, _, _ in found) == [False] * 7 + [True]
    assert {count for _, count, _ in found} == {len(files) + 1}  # and the manifest
    assert sum(size for _, _, size in found) == 500 * 20_000
    assert tree_of(tmp_path / "local" / "t") == files
    assert left_beside(tmp_path / "local" / "t") == []


def test_threads_of_one_process_wait_for_each_other_too(tmp_path):
    source = make_tree(tmp_path / "s", {f"{number}.jpg": b"x" * 5000 for number in range(200)})
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(kappacore.stage(source, tmp_path / "t")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.copied for result in found) == [False] * 3 + [True]


@pytest.mark.slow
def test_parts_and_the_whole_at_the_same_time(tmp_path):
    files = {f"{split}/{number}.jpg": os.urandom(5000) for split in "abcd" for number in range(200)}
    source = make_tree(tmp_path / "s", files)
    for turn in range(2):
        target = tmp_path / f"t{turn}"
        parts = [start(source, target, split) for split in "abcd"]
        time.sleep(0.1 * turn)
        children = [*parts, start(source, target), start(source, target)]
        results(children)
        assert tree_of(target) == files
        assert (target / ".kappacore-manifest").exists()


# Runs `stage` again and again; each time "another process" finishes one file or folder later. An
# audit hook is the place for it: Python calls it right before it opens, lists or renames anything.
FINISHED_AT_EVERY_MOMENT = """
import itertools, os, pathlib, shutil, sys
import kappacore
from kappacore.staging.target.paths import MANIFEST, UNFINISHED

case, root = sys.argv[1], pathlib.Path(sys.argv[2])
source, template = root / "s", root / "template"
kappacore.stage(source, template, relative="train")
part = (template / "train" / MANIFEST).read_bytes()
if case == "a part":
    folder = "train"
    (template / "train" / MANIFEST).rename(template / "train" / UNFINISHED)
else:
    folder = "."
    kappacore.stage(source, template)
    (template / MANIFEST).rename(template / UNFINISHED)
manifest = (template / folder / UNFINISHED).read_bytes()
if case == "the whole, which absorbs the part":
    (template / UNFINISHED).unlink()
    (template / "train" / MANIFEST).write_bytes(part)
    os.utime(source / "train")  # so that it is listed again

def finish():
    (target / folder / MANIFEST).write_bytes(manifest)
    (target / folder / UNFINISHED).unlink(missing_ok=True)
    if folder == ".":
        (target / "train" / MANIFEST).unlink(missing_ok=True)

left = None

def hook(event, args):
    global left
    if left is not None and event.startswith(("open", "os.")) and str(target) in str(args[0]):
        left -= 1
        if left < 0:
            left = None
            finish()

sys.addaudithook(hook)
for moment in itertools.count():
    target = root / str(moment) / "t"
    shutil.copytree(template, target)
    left = moment
    kappacore.stage(source, target, relative=None if case == "a part" else "train", workers=1)
    if left is not None:
        left = None
        print(moment)
        break
"""


@pytest.mark.slow
@pytest.mark.parametrize("case", ["a part", "the whole", "the whole, which absorbs the part"])
def test_another_process_may_finish_at_any_moment(tmp_path, case):
    make_tree(tmp_path / "s")
    with start_script(tmp_path, FINISHED_AT_EVERY_MOMENT, case, tmp_path) as process:
        moments, error = process.communicate(timeout=250)
    assert error == ""
    assert int(moments) > 10
    for moment in range(int(moments)):
        assert tree_of(tmp_path / str(moment) / "t") == SMALL
    assert list(tmp_path.rglob("*.kappacore-work")) == []


def test_a_waiting_process_logs_for_whom_and_since_when(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    lines = []
    with target_lock(StagePaths(target), "/global/imagenet", timeout=None, log=lines.append):
        with pytest.raises(kappacore.errors.StagingTimeoutError) as caught:
            kappacore.stage(source, target, timeout=0.2, log=lines.append)
        assert (tmp_path / ".t.kappacore-lock").exists()
    assert isinstance(caught.value, TimeoutError)
    holder = (
        rf"process {os.getpid()} of \S+ on \S+ has been staging from '/global/imagenet' since \d+-"
    )
    assert len(lines) == 1
    for line in (lines[0], str(caught.value)):
        assert re.search(holder, line), line
    assert kappacore.stage(source, target, timeout=0).copied  # free again


def test_a_holder_that_is_killed_keeps_nobody_waiting(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    script = (
        "import sys, time, pathlib\n"
        "from kappacore.staging.target.lock import target_lock\n"
        "from kappacore.staging.target.paths import StagePaths\n"
        "with target_lock(StagePaths(pathlib.Path(sys.argv[1])), 'x', timeout=None, log=print):\n"
        "    print('held', flush=True); time.sleep(100)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    threading.Timer(0.3, lambda: child.send_signal(signal.SIGKILL)).start()
    result = kappacore.stage(source, target, timeout=100)
    child.communicate()
    assert result.copied
    assert tree_of(target) == SMALL


def test_a_holder_that_is_stopped_is_named_as_such(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    with start_script(
        tmp_path,
        """
        import pathlib, sys, time
        from kappacore.staging.target.lock import target_lock
        from kappacore.staging.target.paths import StagePaths

        with target_lock(StagePaths(pathlib.Path(sys.argv[1])), "x", timeout=None, log=print):
            print("held", flush=True)
            time.sleep(100)
        """,
        target,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(kappacore.errors.StagingTimeoutError) as caught:
            kappacore.stage(source, target, timeout=0.2)
        holder.kill()
    assert f"process {holder.pid} of" in str(caught.value)
    assert "it is stopped (by SIGSTOP, Ctrl-Z or a debugger)" in str(caught.value)


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_lock(tmp_path):
    """Such as a DataLoader's worker that outlives its killed parent."""
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    holder = start_script(
        tmp_path,
        """
        import os, pathlib, sys, time
        from kappacore.staging.target.lock import target_lock
        from kappacore.staging.target.paths import StagePaths

        with target_lock(StagePaths(pathlib.Path(sys.argv[1])), "x", timeout=None, log=print):
            child = os.fork()
            if child:
                print(child, flush=True)
            time.sleep(100)
        """,
        target,
    )
    with holder:
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(StagingTimeoutError):
                kappacore.stage(source, target, timeout=0)
            holder.kill()
            assert kappacore.stage(source, target, timeout=100).copied
            os.kill(child, 0)  # it lives
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a lock that is dropped, not closed
def test_an_interrupt_at_any_moment_leaves_no_lock(tmp_path):
    paths = StagePaths(tmp_path / "t")

    def use():
        with target_lock(paths, "x", timeout=0, log=print) as lock:
            try:
                time.sleep(0)
            finally:
                release_lock(paths, lock)

    moments = 0
    for _held in interrupts(use):
        with try_lock(paths.lock) as lock:
            assert lock, f"held after moment {moments}"
        moments += 1
    assert moments > 20


def test_a_link_instead_of_the_lock_is_refused(tmp_path):
    (tmp_path / "elsewhere").write_text("precious")
    lock = tmp_path / ".t.kappacore-lock"
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StagingError, match=rf"'{lock}' is in the way: it is a link"):
        kappacore.stage(make_tree(tmp_path / "s"), tmp_path / "t")
    assert (tmp_path / "elsewhere").read_text() == "precious"
    assert not (tmp_path / "t").exists()


STAGE_OR_REFUSE = """
import sys, kappacore
try:
    kappacore.stage(sys.argv[1], sys.argv[2])
except kappacore.errors.StagingError as error:
    print(error)
"""


@pytest.mark.parametrize("number", NO_LOCKS, ids=errno.errorcode.get)
@pytest.mark.parametrize("target", ["t", "new/folder/t"])
def test_a_file_system_without_locks_is_refused(tmp_path, number, target):
    source, disk = make_tree(tmp_path / "s"), tmp_path / "disk"
    disk.mkdir()
    env = without_flock(tmp_path / "noflock.so", number, disk)
    with start_script(tmp_path, STAGE_OR_REFUSE, source, disk / target, env=env) as process:
        out, err = process.communicate(timeout=250)
    assert err == ""
    assert out == (
        f"the file system of '{disk / target}' has no locks (flock): [Errno {number}] "
        f"{os.strerror(number)}. Two processes could copy at once. Choose a target on a local "
        f"disk.\n"
    )
    assert list(disk.iterdir()) == []


def test_what_is_complete_can_be_used_where_there_are_no_locks(tmp_path):
    """Also where a kill has left a work folder: that stays, for it may be in use."""
    source, disk = make_tree(tmp_path / "s"), tmp_path / "disk"
    disk.mkdir()
    kappacore.stage(source, disk / "t")
    (disk / ".t.kappacore-work").mkdir()
    env = without_flock(tmp_path / "noflock.so", errno.ENOLCK, disk)
    with start_script(tmp_path, STAGE_OR_REFUSE, source, disk / "t", env=env) as process:
        assert process.communicate(timeout=250) == ("", "")
    assert (disk / ".t.kappacore-work").exists()
    kappacore.stage(source, disk / "t")
    assert not (disk / ".t.kappacore-work").exists()
