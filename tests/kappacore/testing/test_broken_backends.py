"""The suite passes for a backend that does everything right, and notices every broken promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from kappacore.testing import CacheBackendSuite

HERE = Path(__file__).parent

# What is broken, the test that notices it, and what the test says.
BROKEN = [
    ("AbsentIsEmpty", "a_key_that_was_never_stored_is_none", "assert b'' is None"),
    ("EmptyIsAbsent", "a_value_comes_back_exactly[0_bytes]", "got NoneType"),
    ("TextMode", "every_byte_and_every_key_can_be_stored", "a value changed"),
    ("SixteenBitSizes", "a_value_comes_back_exactly[64_KiB]", "expected 65536 bytes"),
    ("TwentyFourBitSizes", "a_value_comes_back_exactly[16_MiB]", "got 16777215 bytes"),
    ("FirstPieceOnly", "pieces_of_every_kind_are_joined", "got 100 bytes"),
    ("ThousandPieces", "thousands_of_pieces_are_joined", "a value changed"),
    ("KeepsPieces", "pieces_are_copied", "a value changed"),
    ("KeepsTheFirst", "a_value_is_replaced[1000-1000]", "a value changed"),
    ("KeepsTheRest", "a_value_is_replaced[1000-10]", "got 1000 bytes"),
    ("LosesRepeats", "a_key_may_repeat_in_a_batch", "assert"),
    ("StoresTheFirstOfTwo", "a_key_may_repeat_in_a_batch", "b'old'"),
    ("SortsKeys", "batches_and_single_calls_agree", "assert"),
    ("NeedsKeys", "an_empty_batch_is_an_empty_list", "wrong number of arguments"),
    ("ReusesBuffers", "a_buffer_stays_as_it_is_while_somebody_holds_it", "a buffer that was held"),
    (
        "ViewsOfWhatIsReplaced",
        "a_buffer_stays_as_it_is_while_somebody_holds_it",
        "a buffer that was held changed after put",
    ),
    ("OneNamespace", "namespaces_do_not_see_each_other", "assert"),
    ("ShortNamespaces", "namespaces_do_not_see_each_other", "assert"),
    (
        "ClearsByPrefix",
        "clear_removes_all_of_its_namespace_and_nothing_else",
        "another namespace was changed",
    ),
    ("ClearsNothing", "clear_removes_all_of_its_namespace_and_nothing_else", "assert"),
    ("ClearsOnce", "a_cleared_namespace_can_be_filled_and_cleared_again", "is None"),
    ("CannotClear", "what_outlives_the_process_can_be_cleared", "define clear()"),
    ("CountsPuts", "info_says_what_is_stored", "entries"),
    ("CountsNoBytes", "info_says_what_is_stored", "bytes"),
    ("NeverFull", "a_full_backend_refuses_and_raises_nothing", "info() does not say full"),
    ("RaisesWhenFull", "a_full_backend_refuses_and_raises_nothing", "No space left"),
    ("IgnoresTheLimit", "a_full_backend_refuses_and_raises_nothing", "128 values"),
    ("EvictsWhenFull", "a_full_backend_refuses_and_raises_nothing", "a full backend lost a value"),
    ("StoresAPartWhenFull", "a_value_beyond_the_limit_is_refused", "is None"),
    ("ClosesOnce", "close_may_be_called_twice", "AttributeError"),
    (
        "ClosesForAll",
        "instances_of_one_process_share_and_close_apart",
        "close() took it from another instance",
    ),
    ("RemembersValues", "clear_reaches_every_instance", "still sees what was cleared"),
    ("OpensOnce", "a_namespace_can_be_opened_again", "FileExistsError"),
    ("KeepsForEver", "entries_go_with_their_last_user", "0 samples were read at the second"),
    ("TornWrites", "readers_see_whole_values_while_other_processes_write", "is torn"),
    ("AbsentIsEmpty", "a_stored_none_is_no_miss", "assert"),
    ("ReusesBuffers", "views_of_the_cache_are_exact_too", "assert"),
    ("TornWrites", "a_writer_may_be_killed_at_any_moment", "is torn"),
    ("OneBuffer", "threads_may_share_an_instance", "torn"),
    ("LockOutlivesItsHolder", "a_writer_may_be_killed_at_any_moment", "hung for 3 s"),
    ("GrantsAll", "a_claim_is_one_process_s_alone", "assert"),
    (
        "ClaimsInTwoSteps",
        "claims_at_the_same_moment_go_to_one_process_each",
        "a key was granted to two processes",
    ),
    ("NeverRenews", "a_claim_of_the_same_process_is_renewed", "it was not granted again"),
    ("NeverExpires", "a_claim_runs_out", "assert"),
    ("NeverExpires", "the_claims_of_a_killed_process_run_out", "never runs out"),
    ("ReleasesNothing", "a_released_claim_is_free", "assert"),
    ("ReleasesForOthers", "nobody_else_releases_a_claim", "assert"),
    ("GrantsWhatIsStored", "what_is_stored_is_not_granted", "assert"),
    ("Unpicklable", "a_choice_survives_pickling", "does not pickle"),
    ("OneProcess", "an_unrelated_process_sees_the_entries", "another process finds None"),
    ("OneInstance", "a_dataset_survives_pickling", "it was read again"),
    ("NoForks", "workers_read_through_the_cache[fork]", "belongs to another process"),
    ("OneFamily", "workers_read_through_the_cache[spawn]", "samples were read instead of"),
    ("OneFamily", "workers_read_through_the_cache[forkserver]", "samples were read instead of"),
]


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


@pytest.mark.slow
def test_a_backend_that_keeps_every_promise_passes(tmp_path):
    shutil.copy(HERE / "folder_backend.py", tmp_path / "test_folder_backend.py")
    results = run_pytest(tmp_path, "test_folder_backend.py", "-k", "not forkserver")
    assert len(results) > 40
    unusual = {name: what for name, what in results.items() if what}
    assert list(unusual) == ["Folder.test_it_is_found_without_being_imported"]
    assert "registered in code: there is nothing to be found" in str(unusual)


@pytest.mark.slow
def test_every_broken_promise_is_noticed(tmp_path):
    shutil.copy(HERE / "folder_backend.py", tmp_path / "test_folder_backend.py")
    shutil.copy(HERE / "broken_backends.py", tmp_path / "test_broken.py")
    chosen = [f"test_broken.py::Test{name}::test_{test}" for name, test, _ in BROKEN]
    results = run_pytest(tmp_path, *chosen)
    unnoticed = [
        (name, test, says, what)
        for name, test, says in BROKEN
        for what in [results[f"{name}.test_{test}"]]
        if "failure" not in what or says not in what
    ]
    assert unnoticed == []


def test_every_test_of_the_suite_is_known_to_fail_for_something():
    tests = {name for name in dir(CacheBackendSuite) if name.startswith("test_")}
    assert tests == {
        "test_it_is_found_without_being_imported",  # see below
        *(f"test_{test.partition('[')[0]}" for _, test, _ in BROKEN),
    }


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
from kappacore.hookspecs import hookimpl
from kappacore.specs import CacheBackendSpec

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
    results = run_pytest(tmp_path, "test_folder.py", "-k", "not forkserver")
    assert len(results) > 40
    assert {name: what for name, what in results.items() if what and what[:8] != "skipped "} == {}
