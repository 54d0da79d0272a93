"""The suite beside plugins of pytest that have nothing to do with it."""

from __future__ import annotations

import os

import pytest

from support.fake_plugins import folders, run_python
from support.pytest_runs import run_pytest

WARNING = "the fake plugin of pytest is loaded"

NOTHING = """
import sys

def test_nothing():
    assert "fake_pytest_plugin" not in sys.modules
"""

MEMORY = """
import sys

from kappacore.testing import CacheBackendSuite

class TestMemory(CacheBackendSuite):
    backend = "memory"

    def test_beside_the_plugin(self):
        assert "fake_pytest_plugin" in sys.modules
"""


@pytest.fixture
def installed(monkeypatch):
    """The plugin is installed for child processes."""
    path = [*folders("pytest_plugin"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))


@pytest.mark.slow
def test_runs_inside_a_run_load_no_plugin_that_happens_to_be_installed(
    installed, tmp_path, monkeypatch
):
    (tmp_path / "test_nothing.py").write_text(NOTHING)
    usual = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "", "PYTEST_PLUGINS": "", "PYTEST_ADDOPTS": ""}
    arguments = ["-m", "pytest", "-W", "error", "-p", "no:benchmark", "-p", "no:cacheprovider"]
    done = run_python(*arguments, str(tmp_path), **usual)
    assert done.returncode != 0
    assert WARNING in done.stdout + done.stderr

    monkeypatch.setenv("PYTEST_PLUGINS", "fake_pytest_plugin")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p fake_pytest_plugin")
    assert run_pytest(tmp_path, "test_nothing.py") == {".test_nothing": ""}


@pytest.mark.slow
def test_an_author_s_plugins_may_warn_reorder_and_reseed(installed, tmp_path):
    (tmp_path / "test_memory.py").write_text(MEMORY)
    ignored = ["-p", "fake_pytest_plugin", "-W", f"ignore:{WARNING}"]
    results = run_pytest(tmp_path, "test_memory.py", *ignored, "-k", "not workers")
    assert results["Memory.test_beside_the_plugin"] == ""
    assert {name: what for name, what in results.items() if what and what[:8] != "skipped "} == {}
