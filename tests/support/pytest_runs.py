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
    """Run pytest in a folder; return what went wrong in each test, or why it was skipped, or ''.

    The run takes nothing from the one around it, and loads none of the plugins that happen to be
    installed: warnings are errors, and one of theirs would end the run. ``-p`` loads one.
    """
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    outside = {key: text for key, text in os.environ.items() if not key.startswith("PYTEST_")}
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "KAPPACORE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=folder,
        env={**outside, **alone},
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
