"""A scan that takes long shows how far it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import pytest

from kappa_imagefolder.progress import progress_bar
from support.image_trees import make_tree


def on_a_terminal(command, environment):
    """Return what a command writes when its output is a terminal."""
    main, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))  # a bar needs some room
    with subprocess.Popen(
        command, stdin=end, stdout=end, stderr=end, env={**os.environ, **environment}
    ) as process:
        os.close(end)
        output = b""
        with contextlib.suppress(OSError):  # the end of a terminal is an error
            while chunk := os.read(main, 4096):
                output += chunk
        process.wait()
    os.close(main)
    return output.decode()


@pytest.mark.slow
def test_a_scan_that_takes_long_shows_how_far_it_is(tmp_path):
    make_tree(tmp_path / "data", ["x/a.jpg", "y/b.jpg", "z/c.jpg"])
    code = (
        "import sys\n"
        "from kappa_imagefolder import progress\n"
        "from kappa_imagefolder.files import scan\n"
        "progress.DELAY = float(sys.argv[2])\n"
        "classes, shown = ([*'xyz'], {'x': 0, 'y': 1, 'z': 2}), sys.argv[3] == 'True'\n"
        "found = scan.scan(sys.argv[1], classes, scan.Rules(), progress=shown)\n"
        "print(len(found.listing.labels), 'images')\n"
    )
    for delay, shown, rank in ((0, True, "0"), (0, False, "0"), (0, True, "1"), (60, True, "0")):
        output = on_a_terminal([sys.executable, "-c", code, str(tmp_path / "data"), str(delay),
                                str(shown)], {"RANK": rank})  # fmt: skip
        expected = delay == 0 and shown and rank == "0"
        assert "3 images" in output
        assert ("Scanning" in output) == expected


@pytest.mark.parametrize(("shown", "rank"), [(True, "0"), (False, "0"), (True, "1")])
def test_where_there_is_no_terminal_a_line_says_how_far_it_is(capsys, monkeypatch, shown, rank):
    monkeypatch.setattr("kappacore._progress.SAY_AFTER", 0.001)
    monkeypatch.setattr("kappacore._progress.SAY_EVERY", 0.001)
    monkeypatch.setenv("RANK", rank)
    expected = shown and rank == "0"
    said, end = "", time.monotonic() + (60 if expected else 0.1)
    with progress_bar("Scanning x", show=shown) as done:
        done(1200)
        while "1,200 images" not in said and time.monotonic() < end:
            time.sleep(0.002)
            said += capsys.readouterr().err
    last = capsys.readouterr().err
    if expected:
        line = r"kappacore: Scanning x: 1,200 images \(\d+ s\)\n"
        assert re.search(rf"{line}$", said)
        assert re.search(rf"{line}$", last)
    else:
        assert said == last == ""
