"""Filling a cache by hand: the bar that is shown, and Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import time

import pytest

from kappacore import CachedDataset
from support.cache_sources import Samples
from support.caching import run_script, start_script

BAR = """
    import sys
    from kappacore import CachedDataset
    from support.cache_sources import Samples

    with CachedDataset(Samples(sys.argv[1], 100), "memory", max_bytes="1MiB") as cached:
        cached.prefill(**eval(sys.argv[2]))
    """


def run_on_a_terminal(folder, *args):
    """Run the script with its errors on a terminal and return what is seen there."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    seen = b""
    with start_script(folder, BAR, *args, stderr=end, warm=True) as process:
        os.close(end)
        try:
            while chunk := os.read(terminal, 1024):
                seen += chunk
        except OSError:  # how Linux says that nobody else has it open
            pass
        assert process.wait(250) == 0, seen
    os.close(terminal)
    return seen.decode()


def test_a_terminal_shows_a_bar_with_samples_speed_and_time(tmp_path, log):
    seen = run_on_a_terminal(tmp_path, log, "{}")
    assert "Caching" in seen
    assert "100%" in seen
    assert "100/100" in seen
    assert "MB/s" in seen


@pytest.mark.parametrize("options", ["{'progress': False}", "{'shard': (1, 2)}"])
def test_it_is_shown_by_one_rank_and_not_at_all_if_not_wanted(tmp_path, log, options):
    assert run_on_a_terminal(tmp_path, log, options) == ""


def test_it_is_quiet_where_there_is_no_terminal(tmp_path, log):
    assert run_script(tmp_path, BAR, log, "{}", warm=True) == ""  # and nothing on stderr


# ---- interrupted

INTERRUPTED = """
    import sys, logging
    from kappacore import CachedDataset
    from support.cache_sources import Samples

    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    source = Samples(sys.argv[1], 2000, delay=0.006)
    cached = CachedDataset(
        source, "shared", max_bytes="4MiB", namespace="n", check=False
    )
    print("ready", flush=True)
    try:
        cached.prefill(threads=int(sys.argv[2]))
    except KeyboardInterrupt:
        print(cached.stats().stores, flush=True)
        sys.stdin.read()  # alive, as an interpreter in a terminal
    """


@pytest.mark.parametrize("threads", [0, 2])
def test_an_interrupt_leaves_what_was_read_and_the_next_call_goes_on(tmp_path, log, threads):
    options = {"max_bytes": "4MiB", "namespace": "n", "check": False}
    with (
        CachedDataset(Samples(log, 2000), "shared", **options) as cached,
        start_script(tmp_path, INTERRUPTED, log, threads, warm=True) as other,
    ):
        assert other.stdout.readline() == "ready\n", other.stderr.read()
        deadline = time.monotonic() + 100
        while sum(cached.dataset.log.count().values()) < 100:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        other.send_signal(signal.SIGINT)
        message = other.stdout.readline()
        if message.startswith("prefill was interrupted and waits for the samples that are being"):
            message = other.stdout.readline()
        assert message.startswith("prefill was interrupted after "), other.stderr.read()
        assert message.endswith(
            " of 2000 samples; what is cached stays, and the next call goes on from there\n"
        )
        stored = int(other.stdout.readline())
        assert 64 <= stored < 2000
        assert cached.prefill() == 2000 - stored  # the other one lives, but holds no claim
        other.kill()
        again = [idx for idx, count in cached.dataset.log.count().items() if count > 1]
        assert len(again) <= 32 * max(1, threads)  # what was on its way
