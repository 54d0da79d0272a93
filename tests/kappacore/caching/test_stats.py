from __future__ import annotations

import multiprocessing
import os

import pytest

from kappacore.caching.stats import CacheStats, Counters
from kappacore.machine.folders import user_folder


def test_statistics_add_and_subtract_field_by_field():
    before = CacheStats(hits=3, misses=2, seconds_get=0.5)
    after = CacheStats(hits=10, misses=2, source_reads=7, seconds_get=2.0)
    assert after - before == CacheStats(hits=7, source_reads=7, seconds_get=1.5)
    assert before + (after - before) == after
    assert sum([before, after], CacheStats()).hits == 13


def test_the_hit_rate_is_the_share_of_hits_and_zero_without_any_sample():
    assert CacheStats().hit_rate == 0
    assert CacheStats(hits=3, misses=1).hit_rate == 0.75


def test_statistics_print_as_a_sentence_that_leaves_out_what_did_not_happen():
    stats = CacheStats(hits=3, misses=1, source_reads=1, stores=1, bytes_read=1536, bytes_stored=9)
    assert str(stats) == (
        "4 samples: 3 from the cache (75.0%, 1.5 KiB), 1 read from the source; 1 stored (9 B)"
    )
    more = CacheStats(refused=1, corrupt=2, waits=3, backend_errors=4)
    assert str(more).endswith(", 1 refused, 2 corrupt, 3 waits, 4 backend errors")


def test_counters_of_one_namespace_are_summed_and_others_are_not():
    one, two, other = Counters("a"), Counters("a"), Counters("b")
    one.add(hits=1, seconds_get=0.25)
    two.add(hits=2, misses=5)
    other.add(hits=100)
    assert one.total() == two.total() == CacheStats(hits=3, misses=5, seconds_get=0.25)
    for counters in (one, two, other):
        counters.close()


def test_the_sum_at_closing_can_be_read_afterwards_even_where_all_are_gone():
    one, two = Counters("a"), Counters("a")
    one.add(hits=1)
    two.add(hits=2)
    assert not one.close()
    two.add(hits=10)
    assert two.close()
    assert (one.total().hits, two.total().hits) == (3, 13)
    assert not two.close()


def test_a_slot_that_became_free_is_counted_on_without_losing_what_was_counted():
    first = Counters("a")
    for _ in range(5):
        other = Counters("a")
        other.add(hits=1)
        other.close()
    first.add(misses=1)
    folder = user_folder("stats") / "a"
    assert sorted(path.name for path in folder.glob("slot-*")) == ["slot-0000", "slot-0001"]
    assert first.total() == CacheStats(hits=5, misses=1)
    first.close()


def test_counters_start_at_zero_when_everybody_has_left_in_between():
    first = Counters("a")
    first.add(hits=5)
    first.close()
    second = Counters("a")
    assert second.total() == CacheStats()
    second.close()


def test_a_forked_child_that_lives_on_does_not_keep_the_slot():
    context = multiprocessing.get_context("fork")
    keeper, first = Counters("a"), Counters("a")
    stop = context.Event()
    child = context.Process(target=stop.wait, daemon=True)
    child.start()
    first.add(hits=1)
    first.close()
    second = Counters("a")
    second.add(hits=1)
    assert len(list((user_folder("stats") / "a").glob("slot-*"))) == 2
    assert keeper.total().hits == 2
    stop.set()
    child.join()
    second.close()
    keeper.close()


def count(number):
    counters = Counters("a")
    for _ in range(number):
        counters.add(hits=1, bytes_read=10)
    # No close: ending the process gives the slot back.


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["normal", "killed"])
def test_sums_are_exact_over_processes_that_end_and_begin(ending):
    context = multiprocessing.get_context("fork")
    mine = Counters("a")
    for _ in range(4):
        target = count if ending == "normal" else count_and_die
        processes = [context.Process(target=target, args=(200,), daemon=True) for _ in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    assert mine.total() == CacheStats(hits=4 * 3 * 200, bytes_read=4 * 3 * 2000)
    assert len(list((user_folder("stats") / "a").glob("slot-*"))) <= 4
    mine.close()


def count_and_die(number):
    count(number)
    os.kill(os.getpid(), 9)


def test_a_counter_that_does_not_exist_is_an_error_in_the_code():
    counters = Counters("a")
    with pytest.raises(KeyError):
        counters.add(hitz=1)
    counters.close()


def test_exactly_one_of_all_processes_is_the_first():
    context = multiprocessing.get_context("fork")
    mine = Counters("a")
    queue = context.SimpleQueue()
    processes = [context.Process(target=be_first, args=(queue,), daemon=True) for _ in range(6)]
    for process in processes:
        process.start()
    answers = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    assert sorted(answers) == [False] * 5 + [True]
    assert not mine.first_to("do something")
    assert mine.first_to("do something else")
    mine.close()


def be_first(queue):
    counters = Counters("a")
    queue.put(counters.first_to("do something"))
    counters.close()


def test_threads_of_one_process_lose_no_count():
    import threading

    counters = Counters("a")
    threads = [
        threading.Thread(target=lambda: [counters.add(hits=1) for _ in range(2000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.total().hits == 8000
    counters.close()


def test_counting_goes_on_when_somebody_removes_the_files():
    import shutil

    counters = Counters("a")
    counters.add(hits=1)
    shutil.rmtree(user_folder("stats") / "a")
    counters.add(hits=1)
    assert counters.total().hits == 2
    # What must be said is said, once in each process: none knows of the others.
    assert [counters.first_to("report"), counters.first_to("report")] == [True, False]
    counters.close()
    assert counters.total().hits == 2
    fresh = Counters("a")
    assert fresh.total().hits == 0
    fresh.close()
