from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import signal
import time

import pytest

from kappacore.machine import waiting
from kappacore.machine.locks import flock
from kappacore.machine.waiting import Wait


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(waiting, "SAY_AFTER", 0.2)
    monkeypatch.setattr(waiting, "SAY_EVERY", 0.3)


def wait_for(seconds, wait):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        wait.pause()


def test_a_short_wait_is_silent(caplog):
    wait_for(0.1, Wait(lambda: pytest.fail("asked for nothing")))
    assert caplog.text == ""


def test_a_long_wait_is_heard_now_and_then(caplog):
    wait_for(0.75, Wait(lambda: "x is being loaded by process 7"))
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    assert all("x is being loaded by process 7" in text for text in texts)
    assert {(record.name, record.levelname) for record in caplog.records} == {
        ("kappacore.cache", "WARNING")
    }


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
    wait_for(0.3, Wait(lambda: "x"))
    for handler in added:
        handler.close()
    assert capsys.readouterr().err.count("Still waiting") == 1


def test_pauses_grow_to_50_ms_and_add_little_to_the_wait(monkeypatch):
    pauses = []
    now = 0.0

    def sleep(seconds):
        nonlocal now
        pauses.append((now, seconds))
        now += seconds

    monkeypatch.setattr(waiting.time, "sleep", sleep)
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now)
    wait = Wait(lambda: "x")
    while now < 2:
        wait.pause()
    assert pauses[0][1] <= 0.001
    assert max(seconds for _, seconds in pauses) == 0.05
    assert all(seconds <= max(waited / 4, 0.001) for waited, seconds in pauses)


def test_who_waits_for_a_lock_says_who_holds_it(tmp_path, caplog):
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
    kill = multiprocessing.get_context("fork").Process(
        target=lambda: (time.sleep(0.5), os.kill(process.pid, signal.SIGKILL))
    )
    kill.start()
    fd = os.open(path, os.O_RDWR)
    flock(fd, path)
    os.close(fd)
    process.join()
    kill.join()
    assert f"the lock {path} is held by process {process.pid}" in caplog.text
    assert "it is stopped" in caplog.text
