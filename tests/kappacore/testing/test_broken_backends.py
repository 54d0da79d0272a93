"""The suite passes for a backend that does everything right, and notices every broken promise."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kappacore.testing import CacheBackendSuite
from support.pytest_runs import run_pytest

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
    ("NeverFull", "a_full_backend_refuses_and_raises_nothing", "info() does not report full"),
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
    ("RunsOutInItsLoad", "a_claim_ends_with_its_load", "ran out before its load was over"),
    ("OutlivesItsLoad", "a_claim_ends_with_its_load", "it outlived its load"),
    ("ReleasesNothing", "a_released_claim_is_free", "assert"),
    ("ReleasesForOthers", "nobody_else_releases_a_claim", "assert"),
    ("GrantsWhatIsStored", "what_is_stored_is_not_granted", "assert"),
    ("OffByOne", "values_lie_where_they_are_located", "expected"),
    ("AbsentIsFirst", "nothing_is_located_in_an_empty_namespace", "assert"),
    (
        "OverwritesInPlace",
        "located_memory_stays_as_it_is_while_somebody_holds_it",
        "located memory changed after put",
    ),
    ("OverwritesInPlace", "a_value_that_was_replaced_lies_elsewhere", "is the same"),
    ("NewRegions", "a_region_is_the_same_object_each_time", "is"),
    ("Unpicklable", "a_choice_survives_pickling", "does not pickle"),
    ("OneProcess", "an_unrelated_process_sees_the_entries", "another process finds None"),
    ("OneInstance", "a_dataset_survives_pickling", "it was read again"),
    ("NoForks", "forked_workers_read_through_the_cache", "belongs to another process"),
    (
        "OneFamily",
        "workers_in_a_new_python_read_through_the_cache[spawn]",
        "samples were read instead of",
    ),
]


@pytest.mark.slow
def test_a_backend_that_keeps_every_promise_passes(tmp_path):
    shutil.copy(HERE / "folder_backend.py", tmp_path / "test_folder_backend.py")
    results = run_pytest(tmp_path, "test_folder_backend.py", "-k", "not forkserver")
    assert len(results) > 40
    unusual = {name: what for name, what in results.items() if what}
    name = "Folder.test_it_is_found_without_being_imported"
    assert "registered in code: there is nothing to be found" in str(unusual.pop(name))
    claims = "Folder.test_a_claim_ends_with_its_load"
    assert "the optional begin_load()" in str(unusual.pop(claims))
    assert len(unusual) == 5
    assert all("the optional locate_many()" in str(what) for what in unusual.values())


@pytest.mark.slow
def test_every_broken_promise_is_noticed(tmp_path):
    shutil.copy(HERE / "folder_backend.py", tmp_path / "test_folder_backend.py")
    for module in HERE.glob("broken_*.py"):
        shutil.copy(module, tmp_path)
    chosen = [f"broken_backends.py::Test{name}::test_{test}" for name, test, _ in BROKEN]
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
        "test_it_is_found_without_being_imported",  # see test_suite.py
        *(f"test_{test.partition('[')[0]}" for _, test, _ in BROKEN),
    }
