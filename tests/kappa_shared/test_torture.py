from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_cache_survives_processes_that_are_killed_all_the_time():
    """See torture.py; ``make torture`` goes on for longer."""
    program = Path(__file__).with_name("torture.py")
    done = subprocess.run(
        [sys.executable, str(program), "--seconds", "6"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = re.search(r": (\d+) killed, .* (\d+) values written, (\d+) found", done.stdout)
    assert all(int(count) > 50 for count in counts.groups()), done.stdout
