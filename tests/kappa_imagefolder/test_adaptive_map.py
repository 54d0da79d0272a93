"""Many calls: in this thread while they compute, in threads once they wait."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from kappa_imagefolder import adaptive_map as module
from kappa_imagefolder.adaptive_map import THREADS, adaptive_map


def test_calls_that_compute_stay_in_this_thread(monkeypatch):
    now = 0.0

    def compute(_):
        nonlocal now
        now += 0.01
        return threading.current_thread().name

    # Not the machine's clocks: a busy one makes all calls wait.
    clocks = SimpleNamespace(perf_counter=lambda: now, thread_time=lambda: now)
    monkeypatch.setattr(module, "time", clocks)
    assert set(adaptive_map(compute, range(2000))) == {threading.current_thread().name}


def test_calls_that_wait_wait_together():
    running, most = 0, 0
    lock, all_there = threading.Lock(), threading.Event()

    def wait(number):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        if most == THREADS:
            all_there.set()
        elif threading.current_thread() is not threading.main_thread():
            assert all_there.wait(60)
        with lock:
            running -= 1
        return number

    assert list(adaptive_map(wait, range(300))) == list(range(300))
    assert most == THREADS
    assert [t for t in threading.enumerate() if t.name.startswith("kappa-imagefolder")] == []


def test_an_error_ends_it_and_leaves_no_thread():
    started = []

    def fail(number):
        started.append(number)
        time.sleep(0.002)
        if number == 50:
            raise KeyError(number)
        return number

    found = []
    with pytest.raises(KeyError, match="50"):
        found.extend(adaptive_map(fail, range(100_000)))
    assert len(started) < 500
    assert [t for t in threading.enumerate() if t.name.startswith("kappa-imagefolder")] == []


def test_nothing_is_nothing():
    assert list(adaptive_map(str, [])) == []
