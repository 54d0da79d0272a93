"""Ctrl-C in a terminal, again and again, while DataLoader workers read a cold shared cache.

Each run is a program of its own in a new process group, as a shell starts it: it fills a cache
through two workers, and the whole group gets SIGINT after a random time. It must end within
seconds and leave no process, no file and no claim: another reader gets every sample.

CPython itself loses a Ctrl-C that comes in one of its at-fork hooks ("Exception ignored in"), and a
DataLoader may then wait for a worker for ever. ``--without`` runs the same program without a cache,
to tell its hangs from ours. By hand::

    python tests/kappa_shared/ctrl_c.py --runs 100 --start fork
    python tests/kappa_shared/ctrl_c.py --runs 100 --start spawn
    python tests/kappa_shared/ctrl_c.py --runs 100 --start fork --without
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 20.0  # seconds after Ctrl-C that are called a hang
LENGTH = 400

PROGRAM = """
import sys, time
import torch
from torch.utils.data import DataLoader, Dataset
import kappacore

class Source(Dataset):
    def __len__(self):
        return {length}

    def __getitem__(self, idx):
        if not 0 <= idx < {length}:
            raise IndexError(idx)
        time.sleep(0.002)
        return torch.full((100,), idx)

if __name__ == "__main__":
    start, without = sys.argv[1], sys.argv[2] == "without"
    data = Source()
    if not without:
        data = kappacore.CachedDataset(data, "shared", namespace="ctrl-c", max_bytes="8MiB")
    print("ready", flush=True)
    while True:
        for _ in DataLoader(data, batch_size=8, num_workers=2, multiprocessing_context=start):
            pass
        if not without:
            data.clear()
"""


@dataclass
class Outcome:
    """What became of one run.

    Args:
        hung: Whether it had to be killed.
        lost: Whether CPython said that it lost an interrupt.
        problems: What it left behind.
    """

    hung: bool
    lost: bool
    problems: list[str]


def run(folder: Path, start: str, wait: float, *, without: bool) -> Outcome:
    """Start the program, press Ctrl-C after a while, and look at what is left."""
    base = folder / "base"
    base.mkdir()
    script = folder / "program.py"
    script.write_text(PROGRAM.format(length=LENGTH))
    words = [sys.executable, str(script), start, "without" if without else "with"]
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            words,
            env={**os.environ, "KAPPACORE_DIR": str(base)},
            stdout=subprocess.PIPE,
            stderr=out,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGINT)
        hung = not ends(process.pid, PATIENCE, process)
        text = (folder / "out").read_text(errors="replace")
        if hung:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    problems = [] if hung or without else left(base)
    shutil.rmtree(base)
    return Outcome(hung, "Exception ignored" in text, problems)


def ends(group: int, patience: float, process: subprocess.Popen[bytes]) -> bool:
    """Wait until no process of a group is left."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        process.poll()
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def left(base: Path) -> list[str]:
    """Return what a run has left that the next user does not find free or remove."""
    reader = (
        "from kappacore import CachedDataset\n"
        "import torch\n"
        f"data = [torch.full((100,), idx) for idx in range({LENGTH})]\n"
        "ds = CachedDataset(data, 'shared', namespace='ctrl-c', max_bytes='8MiB')\n"
        f"assert all((ds[idx] == idx).all() for idx in range({LENGTH}))\n"
        "ds.close()\n"
    )
    environment = {**os.environ, "KAPPACORE_DIR": str(base)}
    try:
        done = subprocess.run(
            [sys.executable, "-c", reader],
            env=environment,
            timeout=60,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ["the next reader waits for ever"]
    problems = [f"the next reader: {done.stderr}"] if done.returncode else []
    if "waiting" in done.stderr:
        problems.append(done.stderr)
    files = sorted(str(path.relative_to(base)) for path in base.rglob("*"))
    return problems + [f"left: {name}" for name in files]


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
        wait = rng.uniform(0, 2 if options.start == "fork" else 8)
        outcome = run(folder, options.start, wait, without=options.without)
        hung += outcome.hung
        lost += outcome.lost
        problems += [f"run {number}, after {wait:.3f} s: {text}" for text in outcome.problems]
        if outcome.hung and not outcome.lost:
            problems.append(f"run {number}, after {wait:.3f} s, hung: {(folder / 'out').read_text()}")
        shutil.rmtree(folder)
    print(
        f"{options.runs} runs by {options.start}{' without a cache' * options.without}: {hung} hung "
        f"({lost} in which CPython lost an interrupt)"
    )
    print("\n".join(problems) if problems else "nothing left")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
