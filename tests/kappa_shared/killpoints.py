"""Kill a process at each system call of opening, filling, clearing, closing and collecting a cache.

A child does one of these while strace counts its system calls; then child after child does it
again, each killed at another one. After each kill the next user must read what is right, wait for
at most 5 s, and leave nothing. Run it with ``make killpoints``. Without strace, the kills come
at each line of the packages' code instead.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from kappa_shared.backend import SharedBackend
from kappacore.caching import inventory
from support.caching import load_bytes, open_cache
from support.kills import killed_at_every_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = list(range(6))
MOST_WAITING = 5.0  # seconds
SLACK = 2.0  # seconds for everything else, on a machine that is busy
SOURCES = tuple(
    f"{package}/{name}.py"
    for package, names in {
        "machine": ("claims", "folders", "lease", "locks", "mapping", "system"),
        "kappa_shared": ("arena", "backend", "layout"),
        "caching": ("stats",),
    }.items()
    for name in names
)


def open_shared() -> Any:
    return open_cache(length=len(KEYS), options={"max_bytes": "1MiB"}, prove=False)


def open_filled() -> Any:
    cache = open_shared()
    read(cache)
    return cache


def read(cache: Any) -> None:
    cache.prove(load_bytes())
    if cache.fetch(KEYS, load_bytes()) != load_bytes()(KEYS):
        raise SystemExit("wrong samples")


def leave_behind() -> None:
    """Leave a filled cache, as a process does that is killed."""
    pid = os.fork()
    if not pid:
        open_filled()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def collect(_: object) -> None:
    SharedBackend.collect()
    inventory.gc_counters()


#: What comes before, and what is killed.
PHASES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "open": (lambda: None, lambda _: open_shared()),
    "put": (open_shared, read),
    "clear": (open_filled, lambda cache: cache.clear()),
    "close": (open_filled, lambda cache: cache.close()),
    "gc": (leave_behind, collect),
}


# ---- by strace


def run_traced(phase: str, *options: str) -> int:
    """Run a phase in a child that strace watches; return its exit code."""
    before, what = PHASES[phase]
    (ready, tell_ready), (go, tell_go) = os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            prepared = before()
            os.write(tell_ready, b"!")
            os.read(go, 1)
            what(prepared)
            code = 0
        except BaseException:  # a child of a fork must not go on as its parent
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        os.read(ready, 1)
        strace = subprocess.Popen(["strace", "-qq", "-p", str(pid), *options])
        while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text():
            if strace.poll() is not None:
                break
            time.sleep(0.002)
        ended, status = os.waitpid(pid, os.WNOHANG) if strace.poll() is not None else (0, 0)
        if not ended:  # a call that was going on may have been the one to be killed at
            if strace.poll() is not None:
                raise SystemExit("strace may not attach to a process here")
            os.write(tell_go, b"!")
            status = os.waitpid(pid, 0)[1]
        strace.wait()
        return os.waitstatus_to_exitcode(status)
    finally:
        for fd in (ready, tell_ready, go, tell_go):
            os.close(fd)


def kill_at_system_calls(phase: str, folder: Path) -> Iterator[str]:
    """Kill child after child; yield where each was killed."""
    log = folder / "strace"
    if run_traced(phase, "-o", str(log)):
        raise SystemExit(f"{phase} fails")
    yield "nowhere"
    calls = Counter(re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE))
    del calls["exit_group"]
    for call, count in calls.items():
        for number in range(1, count + 1):
            code = run_traced(
                phase,
                *("-o", os.devnull, "-e", f"trace={call}"),
                *("-e", f"inject={call}:signal=SIGKILL:when={number}"),
            )
            if code == -signal.SIGKILL:
                yield f"{call} {number}"
            elif code:
                raise SystemExit(f"{phase} fails beside {call} {number}")
            else:  # it needed fewer of them this time
                yield "nowhere"


def kill_at_lines(phase: str, _: Path) -> Iterator[str]:
    before, what = PHASES[phase]
    for line in killed_at_every_line(before, what, *SOURCES):
        yield f"line {line}"


# ---- what is expected after each


def expect_all_is_well(where: str, other: Any) -> float:
    """Use the cache as the next process does; return for how many seconds it waited."""
    started = time.monotonic()
    with contextlib.closing(open_shared()) as cache:
        for user in filter(None, (cache, other)):
            read(user)
        before = cache.stats()
        read(cache)
        if (cache.stats() - before).hits != len(KEYS):
            raise SystemExit(f"{where}: not everything was stored")
        corrupt = cache.stats().corrupt if other is None else 0  # else of before another's clear()
        if corrupt or cache.stats().backend_errors:
            raise SystemExit(f"{where}: {cache.stats()}")
    seconds = time.monotonic() - started
    if seconds > MOST_WAITING + SLACK:
        raise SystemExit(f"{where}: the next user waited for {seconds:.1f} s")
    return seconds


def expect_nothing_left(where: str, caches: Path) -> None:
    collect(None)
    if left := sorted(caches.rglob("*")):
        raise SystemExit(f"{where}: left are {left}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phases", nargs="*", default=list(PHASES))
    parser.add_argument("--lines", action="store_true", help="at lines, though strace is there")
    arguments = parser.parse_args()
    kill = kill_at_system_calls
    if arguments.lines or shutil.which("strace") is None:
        kill = kill_at_lines
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as caches, tempfile.TemporaryDirectory() as folder:
        os.environ["KAPPACORE_DIR"] = caches
        open_filled().close()  # imports what there is to import
        for phase in arguments.phases:
            for beside in (False, True):
                if beside and phase == "gc":
                    continue
                points, slowest = 0, 0.0
                other = None
                if beside:  # which has filled it already, unless that is what is killed
                    other = open_shared() if phase == "put" else open_filled()
                for where in kill(phase, Path(folder)):
                    name = f"{phase}{', beside another user' if beside else ''}, at {where}"
                    slowest = max(slowest, expect_all_is_well(name, other))
                    if other is None:
                        expect_nothing_left(name, Path(caches))
                    points += where != "nowhere"
                if other is not None:
                    other.close()
                expect_nothing_left(phase, Path(caches))
                print(
                    f"{phase:5} {'beside another user' if beside else 'alone':19} "
                    f"{points:4} kills, the next user took at most {slowest:.1f} s",
                    flush=True,
                )
    print("each time the next user read what is right, and nothing was left")


if __name__ == "__main__":
    main()
