"""The demo, on a small folder, as `make demo ROOT=…` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.images import make_image_folder

DEMO = Path(__file__).parents[1] / "demo" / "run.py"


@pytest.mark.slow
def test_the_demo_reads_each_image_once_with_a_cache(tmp_path):
    make_image_folder(tmp_path / "images", per_class=12)
    command = [sys.executable, str(DEMO), "--root", str(tmp_path / "images")]
    done = subprocess.run(
        [*command, "--latency", "1", "--epochs", "2", "--no-plot"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^(\w[\w ]*?) +(\d) +(\d+) +(\d+) +[\d,]+$", done.stdout, re.MULTILINE)
    assert rows == [
        ("without cache", "1", "24", "0"),
        ("without cache", "2", "24", "0"),
        ("shared cache", "1", "24", "0"),
        ("shared cache", "2", "0", "24"),
        ("second process", "1", "0", "24"),
    ]
    assert "All 24 labels took" in done.stdout
    assert "0 images were read for it" in done.stdout
