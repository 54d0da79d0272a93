"""Running pytest in a folder, for tests of the suite that authors of backends run."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["run_pytest"]


def run_pytest(folder: Path, *arguments: str) -> dict[str, str]:
    """Run pytest in a folder; return what went wrong in each test, or why it was skipped, or ''."""
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=folder,
        env={**os.environ, "KAPPACORE_DIR": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    results: dict[str, str] = {}
    for case in ET.parse(folder / "report.xml").iter("testcase"):
        name = f"{case.get('classname', '').partition('.Test')[2]}.{case.get('name')}"
        what = "".join(f"{child.tag} {child.get('message')} {child.text}\n" for child in case)
        results[name] = results.get(name, "") + what
    return results
