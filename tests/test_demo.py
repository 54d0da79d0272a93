"""The demo, on a small folder, as `make demo ROOT=…` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from support.images import make_image_folder

DEMO = Path(__file__).parents[1] / "demo" / "run.py"


@pytest.mark.slow
def test_the_demo_reads_each_image_once_with_a_cache(tmp_path):
    make_image_folder(tmp_path / "images", per_class=12)
    drawing = find_spec("matplotlib") is not None  # `make demo` installs it, `make test` does not
    command = [sys.executable, str(DEMO), "--root", str(tmp_path / "images")]
    command += ["--latency", "1", "--epochs", "2"]
    command += ["--plot", str(tmp_path / "plot.svg")] if drawing else ["--no-plot"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w[\w ]*?) +(\d) +(\d+) +(\d+) +[\d,]+$", done.stdout, re.MULTILINE)
    expected = [
        ("without cache", "1", "24", "0"),
        ("without cache", "2", "24", "0"),
        ("KappaData", "1", "24", "0"),
        ("KappaData", "2", "0", "24"),
        ("shared raw", "1", "24", "0"),
        ("shared raw", "2", "0", "24"),
        ("second process", "1", "0", "24"),
        ("shared decoded", "1", "24", "0"),
        ("shared decoded", "2", "0", "24"),
        ("Loader", "1", "0", "24"),
        ("Loader", "2", "0", "24"),
    ]
    if "KappaData is left out" in done.stdout:
        expected = [row for row in expected if row[0] != "KappaData"]
    assert rows == expected
    assert "All 24 labels took" in done.stdout
    assert "0 images were read for it" in done.stdout
    assert len(re.findall("^  .*  # ", done.stdout, re.MULTILINE)) == 3  # commands to try next
    assert not drawing or 1000 < (tmp_path / "plot.svg").stat().st_size < 40_000
