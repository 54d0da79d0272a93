from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import pytest

from kappacore.machine import waiting
from kappacore.machine.locks import flock
from kappacore.machine.waiting import Wait


@pytest.fixture
def pauses(monkeypatch):
    """When each pause begins, and how long it is, on a clock that only they move."""
    found = []
    now = 0.0

    def sleep(seconds):
        nonlocal now
        found.append((now, seconds))
        now += seconds

    clock = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr(waiting, "time", clock)
    return found


def wait_for(seconds, describe):
    wait = Wait(describe)
    while waiting.time.monotonic() < seconds:
        wait.pause()


@pytest.mark.usefixtures("pauses")
def test_a_short_wait_is_silent(caplog):
    wait_for(4.9, lambda: pytest.fail("asked for nothing"))
    assert caplog.text == ""


@pytest.mark.usefixtures("pauses")
def test_a_long_wait_is_heard_now_and_then(caplog):
    wait_for(124, lambda: "x is being loaded by process 7")
    texts = [record.getMessage() for record in caplog.records]
    assert [text.partition(":")[0] for text in texts] == [
        "Still waiting, for 5 s now",
        "Still waiting, for 65 s now",
    ]
    assert all("x is being loaded by process 7" in text for text in texts)
    assert {(record.name, record.levelname) for record in caplog.records} == {
        ("kappacore.cache", "WARNING")
    }


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("handlers", ["none", "terminal", "file"])
def test_it_is_seen_once_on_the_terminal_wherever_the_log_goes(
    handlers, monkeypatch, capsys, tmp_path
):
    log = logging.getLogger("kappacore.cache")
    monkeypatch.setattr(log, "propagate", False)
    added = []
    if handlers != "none":
        in_file = logging.FileHandler(tmp_path / "log")
        added = [in_file, logging.StreamHandler()] if handlers == "terminal" else [in_file]
    monkeypatch.setattr(log, "handlers", added)
    wait_for(6, lambda: "x")
    for handler in added:
        handler.close()
    assert capsys.readouterr().err.count("Still waiting") == 1


def test_pauses_grow_to_50_ms_and_add_little_to_the_wait(pauses):
    wait_for(2, lambda: "x")
    assert pauses[0][1] <= 0.001
    assert max(seconds for _, seconds in pauses) == 0.05
    assert all(seconds <= max(waited / 4, 0.001) for waited, seconds in pauses)


def test_who_waits_for_a_lock_says_who_holds_it(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(waiting, "SAY_AFTER", 0.01)
    path = tmp_path / "lock"
    path.touch()

    def hold(held):
        fcntl.flock(os.open(path, os.O_RDWR), fcntl.LOCK_EX)
        held.send(True)
        time.sleep(60)

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=hold, args=(sender,))
    process.start()
    receiver.recv()
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    say = waiting._say
    monkeypatch.setattr(
        waiting, "_say", lambda text: (say(text), os.kill(process.pid, signal.SIGKILL))
    )
    fd = os.open(path, os.O_RDWR)
    flock(fd, path)
    os.close(fd)
    process.join()
    assert f"the lock {path} is held by process {process.pid}" in caplog.text
    assert "it is stopped" in caplog.text
