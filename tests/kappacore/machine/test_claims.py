from __future__ import annotations

import fcntl
import multiprocessing
import os
import resource
import signal
import time

import pytest

from kappacore.machine.claims import MachineClaims, open_claims
from support.interrupts import interrupts

LONG = 60.0


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


def test_the_claim_of_a_killed_process_runs_out(claims, tmp_path):
    def claim(claimed):
        claimed.send(MachineClaims(tmp_path, 10).claim_many([1], 0.5))
        time.sleep(LONG)

    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=claim, args=(sender,))
    process.start()
    assert receiver.recv() == [True]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    deadline = time.monotonic() + LONG
    while claims.claim_many([1], LONG) == [False]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
