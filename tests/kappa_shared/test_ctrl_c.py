from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_ctrl_c_leaves_nothing():
    """See ctrl_c.py; ``make torture`` presses it a hundred times, with spawn too."""
    program = Path(__file__).with_name("ctrl_c.py")
    done = subprocess.run(
        [sys.executable, str(program), "--runs", "5"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing left" in done.stdout
