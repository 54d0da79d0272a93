"""Ctrl-C in a terminal, again and again, while DataLoader workers read a cold shared cache.

Each run is a process group of its own, as a shell makes it: a program that reads a cache through
two workers, over and over, and clears it in between. The whole group gets SIGINT at a random time.
It must end within seconds, and leave no process and no file, and every sample to the next reader.

CPython itself loses a Ctrl-C that comes in one of its at-fork hooks or destructors ("Exception
ignored in"), and then a DataLoader may wait for a worker for ever. ``--without`` runs the same
program without a cache, to tell its hangs from ours. By hand::

    python tests/kappa_shared/ctrl_c.py --runs 100 --start fork
    python tests/kappa_shared/ctrl_c.py --runs 100 --start spawn
    python tests/kappa_shared/ctrl_c.py --runs 100 --start fork --without
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset

from kappacore import CachedDataset

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 30.0  # seconds after Ctrl-C that are called a hang
LENGTH = 200


class Source(Dataset[Any]):
    """Samples that take a moment to read."""

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, idx: int) -> tuple[int, str]:
        if not 0 <= idx < LENGTH:
            raise IndexError(idx)
        time.sleep(0.002)
        return idx, f"sample {idx}"


def open_cache() -> CachedDataset:
    return CachedDataset(Source(), "shared", namespace="ctrl-c", max_bytes="8MiB")


def read_again_and_again(start: str, *, without: bool) -> None:
    data = Source() if without else open_cache()
    while True:
        for _ in DataLoader(data, batch_size=8, num_workers=2, multiprocessing_context=start):
            pass
        if isinstance(data, CachedDataset):
            data.clear()


def read_all() -> None:
    """What the next user does."""
    with open_cache() as data:
        assert [data[idx] for idx in range(LENGTH)] == [
            (idx, f"sample {idx}") for idx in range(LENGTH)
        ]


@dataclass
class Outcome:
    """What became of one run.

    Args:
        hung: Whether it had to be killed.
        text: What it printed.
        problems: What it left behind.
    """

    hung: bool
    text: str
    problems: list[str]

    @property
    def lost(self) -> bool:
        """Whether CPython says that it lost an interrupt."""
        return "Exception ignored" in self.text


def run(folder: Path, start: str, wait: float, *, without: bool) -> Outcome:
    """Start the program, press Ctrl-C after a while, and look at what is left."""
    base = folder / "base"
    base.mkdir()
    os.environ["KAPPACORE_DIR"] = str(base)
    group = fork(folder / "out", lambda: read_again_and_again(start, without=without))
    time.sleep(wait)
    os.killpg(group, signal.SIGINT)
    hung = not ends(group)
    text = (folder / "out").read_text(errors="replace")
    problems = []
    if not without and not hung:
        reader = fork(folder / "reader", read_all)
        if not ends(reader):
            problems.append("the next reader waits for ever")
        if said := (folder / "reader").read_text():
            problems.append(f"the next reader: {said}")
        problems += [f"left: {path.relative_to(base)}" for path in sorted(base.rglob("*"))]
    return Outcome(hung, text, problems)


def fork(out: Path, work: Callable[[], None]) -> int:
    """Do work in a process of its own, in a group of its own; return its number."""
    child = os.fork()
    if child:
        with contextlib.suppress(PermissionError, ProcessLookupError):  # it was faster
            os.setpgid(child, child)
        return child
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work()
    except KeyboardInterrupt:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        from multiprocessing.util import _exit_function

        _exit_function()
        os._exit(0)
    return 0


def ends(group: int) -> bool:
    """Wait until no process of a group is left; end it otherwise, and return False."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-group, os.WNOHANG)
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)
    os.waitpid(group, 0)
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--start", choices=["fork", "spawn", "forkserver"], default="fork")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", action="store_true", help="the same without a cache")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    hung = lost = 0
    problems: list[str] = []
    for number in range(options.runs):
        folder = Path(tempfile.mkdtemp(prefix="kappacore-ctrl-c-", dir="/dev/shm"))
        wait = rng.uniform(0.05, 1.5 if options.start == "fork" else 8)
        outcome = run(folder, options.start, wait, without=options.without)
        hung += outcome.hung
        lost += outcome.lost
        problems += [f"run {number}, after {wait:.3f} s: {text}" for text in outcome.problems]
        if outcome.hung and not (outcome.lost or options.without):
            problems.append(f"run {number}, after {wait:.3f} s, hung: {outcome.text}")
        shutil.rmtree(folder)
    how = " without a cache" if options.without else ""
    print(
        f"{options.runs} runs by {options.start}{how}: {hung} hung, CPython lost {lost} interrupts"
    )
    print("\n".join(problems) if problems else "nothing left")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
