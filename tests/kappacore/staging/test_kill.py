"""SIGKILL at any moment: the next call completes the dataset, and uses what was copied."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest

from support.caching import start_script
from support.staging import SMALL, make_tree, pack, tree_of

# One process forks both, the copy that is killed and the one that goes on: no imports to wait for.
SCRIPT = """
import json, os, pathlib, random, signal, sys, time
import kappacore
from kappacore.staging import check_staged
from kappacore.staging.target import lock
from kappacore.staging.target.paths import StagePaths

sources, work, rounds = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
random.seed(int(sys.argv[4]))
total = int(sys.argv[5])

def fork(action):
    child = os.fork()
    if not child:
        try:
            action()
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return child

def whole_bytes(target):
    # A complete file has the source's time, which is years ago.
    total = 0
    for base in (StagePaths(target).tree, target):
        for folder, _, names in os.walk(base):
            for name in names:
                info = os.stat(os.path.join(folder, name))
                if info.st_mtime < time.time() - 1000000:
                    total += info.st_size
    return total

def wait_until_copied(child, target, size):
    # Until so many bytes are complete, or it has ended: that takes as long as the machine needs.
    peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while whole_bytes(target) < size and os.waitid(os.P_PID, child, peek) is None:
        pass

def timed(source, target):
    started = time.monotonic()
    os.waitpid(fork(lambda: kappacore.stage(source, target, verify="hash", workers=2)), 0)
    return time.monotonic() - started

seconds = {source: timed(source, os.path.join(work, f"first{number}"))
           for number, source in enumerate(dict.fromkeys(sources))}
for number in range(rounds):
    source = sources[number % len(sources)]
    target = pathlib.Path(work) / f"target{number}"
    child = fork(lambda: kappacore.stage(source, target, verify="hash", workers=2))
    if (number + number // len(sources)) % 2:
        wait_until_copied(child, target, random.uniform(0.01, 0.9) * total)
        time.sleep(random.uniform(0, 0.01))
    else:
        time.sleep(random.uniform(0.01, 0.95) * seconds[source])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    there = whole_bytes(target)
    marked = not target.exists() or (target / ".kappacore-manifest").exists()
    read, write = os.pipe()

    def go_on():
        result = kappacore.stage(source, target, verify="hash", workers=2)
        report = check_staged(target)
        os.write(write, json.dumps([result.bytes, result.copied_bytes, result.kept_bytes,
                                    result.copied, report.ok, report.digests]).encode())

    assert os.waitpid(fork(go_on), 0)[1] == 0
    print(json.dumps([source, str(target), there, marked, *json.loads(os.read(read, 1000))]))
    os.close(read); os.close(write)
"""


# `make torture` kills more often.
KILLS = int(os.environ.get("KAPPACORE_KILLS", "6"))
STEP = 1 if "KAPPACORE_KILLS" in os.environ else 3

# The process kills itself right before it opens, lists, moves or removes something: before the
# first of them, before one STEP later, and so on, until it is through.
KILLED_AT_EVERY_MOMENT = """
import itertools, os, pathlib, signal, sys
import kappacore
from kappacore.staging import check_staged

before, step, source, root = sys.argv[1], int(sys.argv[2]), *map(pathlib.Path, sys.argv[3:])

def stage(target, **options):
    return kappacore.stage(source, target, verify="hash", workers=1, **options)

def is_killed(target, moment):
    def hook(event, args):
        nonlocal moment
        if event.startswith(("open", "os.", "fcntl.")) and event != "os.kill":
            moment -= 1
            if moment < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        sys.addaudithook(hook)
        stage(target)
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL

stage(root / "first")  # imports what it needs
for moment in itertools.count(0, step):
    target = root / str(moment) / "t"
    if before == "a part":
        stage(target, relative="train")
    elif before == "an older version":
        (source / "old").write_bytes(b"old")
        (source / "labels.csv").rename(root / "labels.csv")
        stage(target)
        (source / "old").unlink()
        (root / "labels.csv").rename(source / "labels.csv")
    killed = is_killed(target, moment)
    if before == "nothing" and target.exists():
        assert (target / ".kappacore-manifest").exists()
    stage(target)
    assert check_staged(target).ok
    if not killed:
        print(moment)
        break
"""


@pytest.mark.slow
@pytest.mark.parametrize("before", ["nothing", "a part", "an older version"])
def test_every_phase_survives_a_kill(tmp_path, before):
    source = make_tree(tmp_path / "s")
    with start_script(tmp_path, KILLED_AT_EVERY_MOMENT, before, STEP, source, tmp_path) as process:
        moments, error = process.communicate(timeout=250)
    assert error == ""
    assert int(moments) > 30
    for moment in range(0, int(moments), STEP):
        assert tree_of(tmp_path / str(moment) / "t") == SMALL
    assert list(tmp_path.rglob("*.kappacore-work")) == []


@pytest.mark.slow
def test_a_copy_that_is_killed_at_any_moment_is_completed_by_the_next_call(tmp_path):
    files = {f"{number % 20}/{number}.jpg": os.urandom(20_000) for number in range(800)}
    folder = make_tree(tmp_path / "folder", files)
    for path in folder.rglob("*.jpg"):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    sources = [
        folder,
        pack(tmp_path / "a.zip", files, zipfile.ZIP_DEFLATED),
        folder,
        pack(tmp_path / "a.tar", files),
        folder,
        pack(tmp_path / "a.tgz", files),
    ]
    total = sum(map(len, files.values()))
    arguments = [json.dumps(list(map(str, sources))), str(tmp_path), str(KILLS), "1", str(total)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rounds) == KILLS
    interrupted = 0
    for _, _, there, marked, size, copied_bytes, kept_bytes, copied, ok, digests in rounds:
        assert marked  # nothing without a manifest was ever at the target
        assert (ok, digests, size) == (True, len(files), total)
        if copied:
            interrupted += there > 0
            assert copied_bytes + kept_bytes == total
            # At most what the threads had in hand was copied again.
            assert kept_bytes >= there - 2 * 32 * 20_000
    assert interrupted >= KILLS // 4
    assert tree_of(tmp_path / "target0") == files
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith("-work")] == []


@pytest.mark.slow
def test_chunks_of_a_large_file_survive_a_kill(tmp_path):
    """The process ends itself when two chunks of five are there."""
    source = tmp_path / "s"
    source.mkdir()
    with (source / "big.bin").open("wb") as file:
        for number in range(5):
            file.seek(number << 26)
            file.write(b"chunk %d" % number)
        file.truncate(5 << 26)
    script = (
        "import os, sys, kappacore\n"
        "marks = []\n"
        "def kill(event, args):\n"
        "    if event == 'open' and str(args[0]).endswith('.done') and args[2] & os.O_CREAT:\n"
        "        marks.append(args)\n"
        "        if len(marks) == 3: os._exit(9)\n"
        "if 'KILL' in os.environ: sys.addaudithook(kill)\n"
        "print(kappacore.stage(*sys.argv[1:], workers=1, verify='hash').kept_bytes >> 26)"
    )

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, str(source), str(tmp_path / "t")]
        env = {**os.environ, **environment}
        return subprocess.run(command, capture_output=True, text=True, env=env)

    assert run(KILL="1").returncode == 9
    assert not (tmp_path / "t").exists()
    assert run().stdout.strip() == "2"
    same = subprocess.run(["cmp", source / "big.bin", tmp_path / "t" / "big.bin"])
    assert same.returncode == 0
