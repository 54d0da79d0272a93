"""Running pytest in a folder, for tests of the suite that authors of backends run."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from support.warm import run_warm

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["run_pytest"]

# As `python -m pytest`, in a process that has torch imported.
_PROGRAM = """
import os, sys

if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    import pytest

    sys.exit(pytest.main(sys.argv[1:]))
"""
_SECONDS = 280.0  # machines that are busy take ten times as long as others


def run_pytest(folder: Path, *arguments: str) -> dict[str, str]:
    """Run pytest in a folder; return what went wrong in each test, or why it was skipped, or ''.

    The run takes nothing from the one around it, and loads none of the plugins that happen to be
    installed: warnings are errors, and one of theirs would end the run. ``-p`` loads one.
    """
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    script = folder / "run_pytest.py"
    script.write_text(_PROGRAM, encoding="utf-8")
    own = {"KAPPACORE_DIR": str(folder)}
    done = run_warm(script, *options, *arguments, env=own, cwd=folder, timeout=_SECONDS)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    results: dict[str, str] = {}
    for case in ET.parse(folder / "report.xml").iter("testcase"):
        name = f"{case.get('classname', '').partition('.Test')[2]}.{case.get('name')}"
        what = "".join(f"{child.tag} {child.get('message')} {child.text}\n" for child in case)
        results[name] = results.get(name, "") + what
    return results
