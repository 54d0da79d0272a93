"""What long work shows: a bar on a terminal, elsewhere a line now and then, and never on stdout."""

from __future__ import annotations

import json
import re
import sys
import threading
import time

import pytest

import kappacore
from kappacore import _progress
from kappacore._progress import progress_bar
from kappacore.caching.backends.base import BackendInfo
from kappacore.cli import main
from support.staging import make_tree


@pytest.fixture
def _soon(monkeypatch):
    """What is said after two seconds is said at once, and is never waited for in vain."""
    monkeypatch.setattr(_progress, "SAY_AFTER", 0.001)


def wait_for_a_line(capsys, words="\n"):
    """Be the long step in which a line with certain words comes; return what was written."""
    until = time.monotonic() + 60
    said = ""
    while words not in said and time.monotonic() < until:
        time.sleep(0.002)
        said += capsys.readouterr().err
    return said


@pytest.mark.usefixtures("_soon")
def test_a_line_comes_in_the_middle_of_a_step_and_at_the_end(capsys, monkeypatch):
    monkeypatch.setattr(_progress, "SAY_EVERY", 0.001)  # the first may come before what is counted
    with progress_bar("Caching x", 50_000, "sample") as bar:
        bar.update(12_000)
        bar.set_postfix_str("34.1 MB/s", refresh=False)
        said = wait_for_a_line(capsys, "34.1 MB/s")
        line = r"kappacore: Caching x: 12,000 of 50,000 samples, 34\.1 MB/s \(\d+ s\)\n"
        assert re.search(rf"{line}$", said)
        bar.update(38_000)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("kappacore: Caching x: 50,000 of 50,000 samples")
    assert "kappacore-progress" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(
    ("total", "unit", "line"),
    [(None, "", "Waiting"), (3 << 20, "B", "Waiting: 1.0 MiB of 3.0 MiB")],
)
def test_bytes_have_units_and_a_total_may_be_unknown(capsys, total, unit, line):
    with progress_bar("Waiting", total, unit, done=1 << 20):
        assert re.fullmatch(rf"kappacore: {line} \(\d+ s\)\n", wait_for_a_line(capsys))


@pytest.mark.parametrize("total", [None, 3])
def test_short_work_says_nothing(capsys, monkeypatch, total):
    monkeypatch.setattr(_progress, "SAY_AFTER", 60)
    with progress_bar("Waiting", total, "sample") as bar:
        bar.update(1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("stream", [None, "closed"])
def test_work_goes_on_where_nothing_can_be_written(monkeypatch, tmp_path, stream):
    if stream:
        stream = (tmp_path / "errors").open("w")
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("Waiting", None):
        time.sleep(0.02)


@pytest.mark.usefixtures("_soon")
def test_nothing_is_shown_where_it_is_not_wanted(capsys):
    with progress_bar("Waiting", 3, "sample", show=False) as bar:
        bar.update(1)
        time.sleep(0.02)
    assert capsys.readouterr() == ("", "")


# ---- what takes long


class Slow(kappacore.CacheBackend):
    """A backend whose class methods take as long as ``pause``."""

    scope = "network"

    def __init__(self, namespace, length): ...

    def get(self, key):
        return None

    def put(self, key, value):
        return False

    @classmethod
    def namespaces(cls, **options):
        cls.pause()
        return [
            BackendInfo(namespace=name, entries=1, bytes=1, capacity=None, full=False, where="")
            for name in "ab"
        ]

    @classmethod
    def remove(cls, namespace, **options):
        cls.pause()
        return True

    @classmethod
    def collect(cls, **options):
        cls.pause()
        return ["a"]


@pytest.fixture
def slow(capsys, monkeypatch):
    """Register it; return the lines that came in its long steps."""
    lines = []
    Slow.pause = lambda: lines.append(wait_for_a_line(capsys))
    kappacore.register_cache_backend("slow", Slow)
    monkeypatch.setattr(_progress, "SAY_EVERY", 0.001)
    yield lines
    kappacore.plugins.unregister_cache_backend("slow")


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["ls"], "Listing the caches of 'slow' ("),
        (["info"], "Listing the caches of 'slow' ("),
        (["clear", "--all"], "Removing caches: 1 of 2 caches ("),
        (["gc"], "Removing what nobody uses from 'slow' ("),
    ],
)
def test_a_cache_command_that_takes_long_says_what_it_does(capsys, slow, command, line):
    assert main(["cache", *command, "--backend", "slow", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)
    assert f"kappacore: {line}" in "".join([*slow, captured.err])


@pytest.mark.usefixtures("_soon")
def test_a_check_of_plugins_says_how_far_it_is(capsys, monkeypatch):
    said = []

    def checked(info):
        if not said:
            said.append(wait_for_a_line(capsys, "Importing"))
        return info

    monkeypatch.setattr("kappacore.cli.plugins._checked", checked)
    assert main(["plugins", "--check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert re.search(r"kappacore: Importing plugins: \d+ of \d+ plugins \(\d+ s\)\n$", said[0])


def test_a_terminal_shows_a_bar_that_goes(capsys, monkeypatch):
    monkeypatch.setattr(_progress, "_is_terminal", lambda: True)
    monkeypatch.setattr("kappacore.cli.plugins._checked", lambda info: info)
    assert main(["plugins", "--check", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)
    assert re.search(r"\rImporting plugins:  +0%\|", captured.err)
    assert re.search(r"\r +\r$", captured.err)


@pytest.mark.usefixtures("_soon")
def test_filling_and_staging_say_how_far_they_are(capsys, monkeypatch, tmp_path):
    said = []

    class Samples(list):
        def __getitem__(self, index):
            if filling and not said:
                said.append(wait_for_a_line(capsys))
            return super().__getitem__(index)

    filling = False
    samples = Samples([b"x"] * 5)
    with kappacore.CachedDataset(samples, "memory", namespace=kappacore.PRIVATE) as dataset:
        dataset[0]  # the first look
        filling = True
        dataset.prefill()
    assert re.match(r"kappacore: Caching: \d+ of 5 samples", said[0])
    monkeypatch.setattr(_progress, "SAY_AFTER", 0)
    source = make_tree(tmp_path / "s", {f"{number}": b"x" * 1000 for number in range(300)})
    kappacore.stage(source, tmp_path / "t")
    captured = capsys.readouterr()
    assert re.search(r"kappacore: Staging t: .* of 293\.0 KiB, .* of 300 files", captured.err)
    assert captured.out == ""


def test_ctrl_c_ends_a_command_without_a_traceback(capsys, monkeypatch):
    def interrupted(info):
        raise KeyboardInterrupt

    monkeypatch.setattr("kappacore.cli.plugins._checked", interrupted)
    assert main(["plugins", "--check"]) == 130
    assert capsys.readouterr() == ("", "")
