"""What authors of backends see of the suite: its options, what it skips, and the page about it."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path

import pytest

from kappacore.testing import CacheBackendSuite
from support.pytest_runs import run_pytest

HERE = Path(__file__).parent

MINIMAL = """
from kappacore import CacheBackend

class Store(CacheBackend):
    scope = "process"

    def __init__(self, namespace, length):
        self.values = {}

    def get(self, key):
        return self.values.get(key)

    def put(self, key, value):
        self.values[key] = b"".join(value)
        return True
"""


def make_plugin(folder, name, *, package="", plugin="", scope="process"):
    """Install a distribution with a backend and its tests in a folder on the path."""
    (folder / f"{name}-1.0.dist-info").mkdir()
    (folder / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    (folder / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(
        f"[kappacore]\n{name} = {name}._plugin\n"
    )
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(package)
    (folder / name / "_plugin.py").write_text(
        f"""{plugin}
from kappacore.plugin_api import CacheBackendSpec, hookimpl

@hookimpl
def kappacore_cache_backends():
    yield CacheBackendSpec(name="{name}", target="{name}.store:Store", scope="{scope}", api=1)
"""
    )
    (folder / name / "store.py").write_text(MINIMAL)
    (folder / f"test_{name}.py").write_text(
        f"""
from kappacore.testing import CacheBackendSuite

class Test{name.title()}(CacheBackendSuite):
    backend = "{name}"
"""
    )
    return f"test_{name}.py"


def test_the_quick_subset_leaves_out_what_takes_seconds():
    slow = {name for name, test in inspect.getmembers(CacheBackendSuite) if hasattr(test, "slow")}
    assert slow == {
        "test_a_writer_may_be_killed_at_any_moment",
        "test_an_unrelated_process_sees_the_entries",
        "test_readers_see_whole_values_while_other_processes_write",
        "test_workers_in_a_new_python_read_through_the_cache",
    }


@pytest.mark.slow
def test_a_plugin_that_costs_time_when_plugins_are_looked_for_is_noticed(tmp_path):
    modules = [
        make_plugin(tmp_path, "good"),
        make_plugin(tmp_path, "eager", plugin="import eager.store"),
        make_plugin(tmp_path, "heavy", package="import numpy"),
        make_plugin(tmp_path, "wrong", scope="machine"),
    ]
    results = run_pytest(tmp_path, *modules, "-k", "found")
    says = {name.partition(".")[0]: what for name, what in results.items()}
    assert says["Good"] == ""
    assert "looking for plugins imports eager.store" in says["Eager"]
    assert "importing heavy imports ['numpy']" in says["Heavy"]
    assert "the scopes of its spec and its class differ" in says["Wrong"]


@pytest.mark.slow
def test_what_a_backend_does_not_promise_is_skipped_with_the_reason(tmp_path):
    (tmp_path / "test_minimal.py").write_text(
        MINIMAL
        + """
from kappacore import register_cache_backend
from kappacore.testing import CacheBackendSuite

def register():
    class Local(Store):
        pass
    register_cache_backend("local", Local)

register()

class TestLocal(CacheBackendSuite):
    backend = "local"
"""
    )
    results = run_pytest(tmp_path, "test_minimal.py")
    skipped = "".join(results.values())
    assert "" in results.values()
    assert all(what.startswith("skipped ") for what in results.values() if what)
    for reason in (
        "its scope 'process' promises nothing to other processes",
        "does not define the optional clear()",
        "does not define the optional info()",
        "has no option 'max_bytes'",
        "is not thread_safe",
        "Local is defined inside a function, where no import can reach it",
        "registered in code: there is nothing to be found",
    ):
        assert reason in skipped


@pytest.mark.slow
def test_the_options_may_come_from_the_class_the_module_or_nowhere(tmp_path):
    shutil.copy(HERE / "folder_backend.py", tmp_path / "folder_backend.py")
    (tmp_path / "test_options.py").write_text(
        """
import pytest
from folder_backend import FolderSuite
from kappacore.testing import CacheBackendSuite

@pytest.fixture
def backend_options(tmp_path):
    return {"path": tmp_path}

class TestModule(CacheBackendSuite):
    backend = "folder"

class TestClass(FolderSuite):
    backend = "folder"

class TestMissing(CacheBackendSuite):
    backend = "folder"

    @pytest.fixture
    def backend_options(self, no_such_fixture):
        return {}

class TestMemory(CacheBackendSuite):
    backend = "memory"

    @pytest.fixture
    def backend_options(self):
        return {"max_byte": 1}
"""
    )
    results = run_pytest(tmp_path, "test_options.py", "-k", "comes_back_exactly and 64")
    says = {name.partition(".")[0]: what for name, what in results.items()}
    assert says["Module"] == says["Class"] == ""
    assert "fixture 'no_such_fixture' not found" in says["Missing"]
    assert "has no option 'max_byte'" in says["Memory"]


@pytest.mark.slow
def test_the_first_backend_of_the_page_for_authors_passes(tmp_path):
    page = (HERE.parents[2] / "docs" / "writing-a-backend.md").read_text(encoding="utf-8")
    backend, suite = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[:2]
    (tmp_path / "folder.py").write_text(backend)
    (tmp_path / "test_folder.py").write_text("import folder\n" + suite)
    results = run_pytest(tmp_path, "test_folder.py", "-k", "not slow")
    assert len(results) > 30
    assert {name: what for name, what in results.items() if what and what[:8] != "skipped "} == {}
