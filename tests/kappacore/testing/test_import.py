"""What importing the suite needs and costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import kappacore


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_pytest_the_error_says_what_to_install():
    code = """
import sys

sys.modules["pytest"] = None
import kappacore

try:
    import kappacore.testing
except kappacore.errors.MissingDependencyError as error:
    print(error)
"""
    assert run(code) == "kappacore.testing needs pytest: pip install 'kappacore[testing]'."


def test_importing_the_suite_imports_no_torch():
    code = "import sys, kappacore.testing; print('torch' in sys.modules)"
    assert run(code) == "False"


def test_only_the_suite_imports_pytest():
    package = Path(kappacore.__file__).parent
    importing = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) _?pytest", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert importing == {"testing"}
