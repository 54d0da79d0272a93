"""Worker processes that end too early, and those that end with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import kappacore
from kappacore.errors import StagingTimeoutError
from kappacore.staging import check_staged
from kappacore.staging.copying import processes, transfer, worker
from kappacore.staging.copying.processes import Workers
from support.staging import left_beside, make_tree, pack, tree_of

FILES = {
    **{f"{number % 7}/{number}.jpg": os.urandom(number * 37) for number in range(700)},
    "large.bin": os.urandom(2_000_000),  # more than a process takes
}


@pytest.fixture
def source(tmp_path):
    return make_tree(tmp_path / "s", FILES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "deflated.zip"])
@pytest.mark.parametrize("killed", [1, 3])
@pytest.mark.parametrize("when", [0, 1, 5])
def test_a_worker_may_be_killed_at_any_moment(tmp_path, monkeypatch, kind, killed, when):
    """What it had in hand is done by others; if no worker is left, by threads."""
    if kind == "folder":
        source = make_tree(tmp_path / "s", FILES)
    else:
        source = pack(tmp_path / kind, FILES, zipfile.ZIP_DEFLATED)
    copy = Workers.copy

    def killing(self, batches):
        victims = [found.process for found in self._workers][:killed]
        outcomes = copy(self, batches)
        if when == 0:  # before they have begun
            [process.kill() for process in victims]
        for number, outcome in enumerate(outcomes, 1):
            if number == when:
                [process.kill() for process in victims]
            yield outcome

    monkeypatch.setattr(Workers, "copy", killing)
    monkeypatch.setattr(transfer, "road", "processes")
    result = kappacore.stage(source, tmp_path / "t", workers=3, verify="hash")
    assert result.copied_files == len(FILES)
    assert tree_of(tmp_path / "t") == FILES
    assert check_staged(tmp_path / "t").ok
    assert left_beside(tmp_path / "t") == []


@pytest.mark.slow
def test_a_worker_that_cannot_start_is_done_without(tmp_path, source, monkeypatch):
    broken = tmp_path / "worker.py"
    broken.write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(worker, "__file__", str(broken))
    monkeypatch.setattr(transfer, "road", "processes")
    kappacore.stage(source, tmp_path / "t")
    assert tree_of(tmp_path / "t") == FILES
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python-is-not-here"))
    kappacore.stage(source, tmp_path / "t2")
    assert tree_of(tmp_path / "t2") == FILES
    monkeypatch.setattr(sys, "executable", "/opt/app/blender")  # would start once more
    assert not processes.workers_possible()


# A copy that prints the pids of its workers after three batches, and then takes long.
SLOW = """
import json, sys, time
import kappacore
from kappacore.staging.copying import transfer
from kappacore.staging.copying.processes import Workers

transfer.road = "processes"
copy = Workers.copy

def slowly(self, batches):
    copied = 0
    for outcome in copy(self, batches):
        yield outcome
        copied += outcome is not None
        if copied == 3:
            print(*[found.process.pid for found in self._workers], flush=True)
            time.sleep(100)

if sys.argv[3] == "slow":
    Workers.copy = slowly
try:
    kappacore.stage(sys.argv[1], sys.argv[2], workers=2, progress=False)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def is_there(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until_gone(pids: list[int]) -> None:
    end = time.monotonic() + 100
    while any(map(is_there, pids)):
        assert time.monotonic() < end
        time.sleep(0.02)


def begin(source: Path, target: Path) -> tuple[subprocess.Popen[str], list[int]]:
    command = [sys.executable, "-c", SLOW, str(source), str(target), "slow"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them_and_keep_its_lock_until_then(
    tmp_path, source
):
    process, workers = begin(source, tmp_path / "t")
    with process:
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGSTOP)
        try:
            process.kill()
            process.wait()
            with pytest.raises(StagingTimeoutError):  # it may still have a file open
                kappacore.stage(source, tmp_path / "t", timeout=0.3)
        finally:
            os.kill(workers[0], signal.SIGCONT)
    wait_until_gone(workers)
    result = kappacore.stage(source, tmp_path / "t")
    assert result.kept_bytes > 0
    assert tree_of(tmp_path / "t") == FILES


@pytest.mark.slow
def test_ctrl_c_ends_everything_and_keeps_what_was_copied(tmp_path, source):
    process, workers = begin(source, tmp_path / "t")
    with process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.communicate(timeout=250)[0].endswith("interrupted\n")
    assert not any(map(is_there, workers))
    assert not (tmp_path / "t").exists()
    assert kappacore.stage(source, tmp_path / "t").kept_bytes > 0
    assert tree_of(tmp_path / "t") == FILES
