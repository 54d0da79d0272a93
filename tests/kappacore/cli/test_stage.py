"""``kappacore stage``."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from support.staging import SMALL, make_tree, run_stage, staged_json, tree_of


def test_it_prints_what_it_did(tmp_path):
    source, target = make_tree(tmp_path / "s"), tmp_path / "t"
    done = run_stage(source, target)
    assert (done.returncode, tree_of(target)) == (0, SMALL)
    assert re.fullmatch(rf"{target}: copied 5 files, 7\.8 KiB in \d+\.\d s .*\n", done.stdout)
    assert f"kappacore: copying '{source}' to '{target}': 5 files, 7.8 KiB\n" in done.stderr
    done = run_stage(source, target, "--quiet")
    assert (done.stdout, done.stderr) == (f"{target}: nothing to copy\n", "")


@pytest.mark.slow
def test_json_is_for_programs(tmp_path):
    source = make_tree(tmp_path / "s")
    result = staged_json(source, tmp_path / "t", "--relative", "train", "--verify", "hash")
    assert result["path"] == str(tmp_path / "t" / "train")
    assert (result["copied"], result["copied_files"], result["kind"]) == (True, 3, "folder")
    report = json.loads(
        run_stage("--check", "--json", tmp_path / "t", "--relative", "train").stdout
    )
    assert (report["files"], report["digests"], report["problems"]) == (3, 3, [])


@pytest.mark.slow
def test_errors_are_a_line_and_a_code(tmp_path):
    done = run_stage(tmp_path / "none", tmp_path / "t")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kappacore: there is no source")
    assert done.stderr.count("\n") == 1
    done = run_stage(tmp_path / "t")
    assert done.returncode == 2
    assert "SRC is missing" in done.stderr
    assert run_stage(tmp_path, tmp_path / "t", "--max-ratio", "0").returncode == 2


@pytest.mark.slow
def test_a_bar_is_shown_on_a_terminal_only(tmp_path):
    source = make_tree(tmp_path / "s")
    assert "Staging" not in run_stage(source, tmp_path / "quiet").stderr
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-m", "kappacore", "stage", str(source), str(tmp_path / "t")],
        stderr=side,
        stdout=subprocess.DEVNULL,
    )
    child.wait(250)
    os.close(side)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    assert re.search(r"Staging t: 100%.* 7\.8\dk/7\.8\dk .*B/s.*5 of 5 files", shown), shown


# Interrupts itself when half of the files are copied. From then on each file takes 10 ms, so that
# the copy cannot be complete before the main thread sees the signal.
INTERRUPTED = """
import os, signal, sys, time
from kappacore.cli import main

copied = 0

def hook(event, args):
    global copied
    if event == "open" and str(args[0]).endswith(".jpg") and args[2] & os.O_CREAT:
        copied += 1
        if copied == 3000:
            os.kill(os.getpid(), signal.SIGINT)
        elif copied > 3000:
            time.sleep(0.01)

sys.addaudithook(hook)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_copied_and_reports_it(tmp_path):
    files = {f"{number % 50}/{number}.jpg": b"x" * 1000 for number in range(6000)}
    source, target = make_tree(tmp_path / "s", files), tmp_path / "t"
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "stage", "--workers", "1", str(source), str(target)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 130, done.stderr
    assert f"what was copied is kept in '{tmp_path}/.t.kappacore-work'; stage again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not target.exists()
    result = staged_json(source, target)
    assert 2_900_000 < result["kept_bytes"] < 6_000_000
    assert result["kept_bytes"] + result["copied_bytes"] == 6_000_000
    assert tree_of(target) == files
