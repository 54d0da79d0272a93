"""A failure counts, unless the machine stood still."""

from __future__ import annotations

import ctypes

import pytest

from support.stalls import repeated_where_stalled


def stand_still():
    ctypes.PyDLL(None).usleep(100_000)  # and let no other thread of Python run


def test_what_fails_in_a_stall_is_tried_again():
    attempts = []

    @repeated_where_stalled
    def test(expected):
        attempts.append(expected)
        if len(attempts) < 3:
            stand_still()
            pytest.fail("too late")

    test(expected="kept")
    assert attempts == ["kept"] * 3


def test_what_fails_every_time_fails():
    @repeated_where_stalled
    def test():
        attempts.append(1)
        stand_still()
        raise ValueError("wrong")

    attempts = []
    with pytest.raises(ValueError, match="wrong"):
        test()
    assert len(attempts) == 5


def test_what_fails_without_a_stall_fails_at_once(monkeypatch):
    monkeypatch.setattr("support.stalls._BEARABLE", 1000)

    @repeated_where_stalled
    def test():
        attempts.append(1)
        raise ValueError("wrong")

    attempts = []
    with pytest.raises(ValueError, match="wrong"):
        test()
    assert len(attempts) == 1
