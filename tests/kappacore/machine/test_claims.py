from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import resource
import signal
import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from kappacore.machine import claims as module
from kappacore.machine import processes
from kappacore.machine.claims import MachineClaims, open_claims
from support.interrupts import interrupts

LONG, SHORT = 60.0, 0.4  # seconds


@pytest.fixture
def claims(tmp_path):
    return MachineClaims(tmp_path, 10)


def test_a_claim_is_one_user_s_alone(claims, tmp_path):
    other = MachineClaims(tmp_path, 10)
    assert claims.claim_many([0, 9], LONG) == [True, True]
    assert other.claim_many([0, 1, 9], LONG) == [False, True, False]
    assert claims.claim_many([0, 1], LONG) == [True, False], "its own is renewed"


def test_only_the_claimant_gives_a_claim_back(claims, tmp_path):
    other = MachineClaims(tmp_path, 10)
    claims.claim_many([1, 2], LONG)
    other.release_many([1, 2, 3])
    assert other.claim_many([1], LONG) == [False]
    claims.release_many([1])
    assert other.claim_many([1, 2], LONG) == [True, False]


def test_an_interrupt_at_any_moment_leaves_no_lock(claims, tmp_path):
    lock = os.open(tmp_path / "claims", os.O_RDWR)

    def use():
        claims.claim_many([1], LONG)
        claims.release_many([1])

    moments = 0
    for _held in interrupts(use):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if it is taken
        fcntl.flock(lock, fcntl.LOCK_UN)
        moments += 1
    os.close(lock)
    assert moments > 5
    assert MachineClaims(tmp_path, 10).claim_many([1], LONG) == [True]


# ---- claims and the lives of loads


@contextmanager
def claiming(folder, then=lambda: time.sleep(LONG)):
    """A process that claims key 1, and then does something else."""

    def claim(claimed):
        backend = MachineClaims(folder, 10)
        load = backend.begin_load()
        claimed.send(backend.claim_many([1], SHORT, load))
        then()

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=claim, args=(sender,))
    process.start()
    assert receiver.recv() == [True]
    yield process.pid
    process.kill()
    process.join()


def is_free(claims):
    granted = claims.claim_many([1], SHORT) == [True]
    claims.release_many([1])
    return granted


def test_a_claim_ends_with_its_load(claims):
    first, second = claims.begin_load(), claims.begin_load()
    assert claims.claim_many([1, 2], SHORT, first) == [True, True]
    assert claims.claim_many([2, 3], SHORT, second) == [False, True]
    first.close()
    third = claims.begin_load()  # in the first one's slot
    assert claims.claim_many([1, 2, 3], SHORT, third) == [True, True, False]
    second.close()
    third.close()


def test_the_claim_of_a_killed_process_is_void_at_once(claims, tmp_path):
    with claiming(tmp_path) as pid:
        assert not is_free(claims)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert is_free(claims)


@pytest.mark.parametrize("stopped", [True, False])
def test_a_forked_child_does_not_keep_its_parents_claim(claims, tmp_path, stopped):
    """Not even one that Python knows nothing of, or that has not run since."""

    def fork():
        libc = ctypes.PyDLL(None)
        child = libc.fork()  # none of Python's hooks
        if child == 0:
            libc.sleep(30)
            os._exit(0)
        if stopped:
            os.kill(child, signal.SIGSTOP)
        (tmp_path / "child.new").write_text(str(child))
        (tmp_path / "child.new").rename(tmp_path / "child")
        time.sleep(LONG)

    with claiming(tmp_path, fork) as pid:
        while not (tmp_path / "child").exists():
            time.sleep(0.01)
        assert not is_free(claims)
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert is_free(claims)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_a_claim_lives_while_its_process_cannot_run_any_thread(claims, tmp_path):
    def keep_the_gil():
        ctypes.PyDLL(None).sleep(30)

    with claiming(tmp_path, keep_the_gil):
        time.sleep(2 * SHORT)
        assert not is_free(claims)


@pytest.fixture
def later(monkeypatch):
    """Moves the clock by which claims run out, and which stands still otherwise."""
    now = time.monotonic()

    def move(seconds):
        nonlocal now
        now += seconds

    clock = SimpleNamespace(monotonic=lambda: now, time=time.time)
    monkeypatch.setattr(module, "time", clock)
    return move


def test_the_claim_of_a_stopped_process_is_void_after_the_ttl(claims, tmp_path, later):
    with claiming(tmp_path) as pid:
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)
        later(10 * SHORT)  # nobody has asked
        assert not is_free(claims)
        [claimant] = claims.claimants([1])
        assert (claimant.pid, claimant.state) == (pid, "stopped")
        assert "it is stopped" in str(claimant)
        later(0.9 * SHORT)
        assert not is_free(claims)
        later(0.2 * SHORT)
        assert is_free(claims)


def test_a_process_that_runs_again_in_time_keeps_its_claim(claims, tmp_path, later):
    with claiming(tmp_path) as pid:
        for _ in range(3):
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED)
            assert not is_free(claims)
            later(0.7 * SHORT)
            assert not is_free(claims)
            os.kill(pid, signal.SIGCONT)
            os.waitid(os.P_PID, pid, os.WCONTINUED)
            assert not is_free(claims)


def test_a_process_that_cannot_be_looked_at_counts_as_alive(claims, tmp_path, monkeypatch, later):
    with claiming(tmp_path) as pid:
        os.kill(pid, signal.SIGSTOP)
        here = processes.own_id()
        monkeypatch.setattr(processes, "own_id", lambda: replace(here, space=here.space + 1))
        assert not is_free(claims)
        later(10 * SHORT)
        assert not is_free(claims)
        os.kill(pid, signal.SIGKILL)  # the kernel's lock tells that all the same
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert is_free(claims)


def test_claimants_are_named(claims, tmp_path):
    before = time.time()
    with claiming(tmp_path) as pid:
        found = claims.claimants([0, 1])
    assert found[0] is None
    assert found[1].pid == pid
    assert found[1].host == socket.gethostname()
    assert before - 1 < found[1].since < time.time() + 1
    assert "python" in found[1].command


def test_where_nothing_can_be_claimed_that_is_said_once_and_no_error(claims, tmp_path, caplog):
    (tmp_path / "claims").unlink()  # as somebody who removes the folder of a running job
    assert claims.begin_load() is None
    assert claims.begin_load() is None
    assert claims.claim_many([1], SHORT) == [True]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "none can be claimed" in caplog.text


def test_slots_are_used_again(claims):
    for _ in range(100):
        load = claims.begin_load()
        claims.claim_many([1], SHORT, load)
        load.close()
    size = (claims._lock_path).stat().st_size
    assert size < 8 * 10 + 3 * 64


def test_without_room_for_them_there_are_none(tmp_path):
    def try_to_open(result):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        result.send(open_claims(tmp_path, 1_000_000))

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=try_to_open, args=(sender,))
    process.start()
    process.join()
    assert receiver.recv() is None
    assert open_claims(None, 10) is None
