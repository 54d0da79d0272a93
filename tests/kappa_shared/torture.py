"""Eight processes read and write a shared cache while one of them is killed every 50 ms.

Started by fork, spawn and forkserver, they read and write 2,000 samples of 1 B to 2 MB whose
content can be told from their keys. Now and then one of them clears the cache, or is interrupted
and goes on, as a notebook does. No wrong byte may be read, no process may hang, no entry may be
lost once it was published, a view must stay what it was, and ``kappacore cache gc`` must leave an
empty directory. Run it for long with ``make torture``.

An entry is lost if it is absent from the generation that it was published in. Whoever clears the
cache, or opens it after its last user is gone, begins another one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import mmap
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from kappa_shared.backend import SharedBackend
from kappa_shared.layout import GENERATION, NEXT

PROCESSES = 8
METHODS = ["spawn", "forkserver"] + (PROCESSES - 2) * ["fork"]  # the others cost seconds to start
INTERRUPTS = 0.3  # for each kill
CLEARS = 0.01  # for each step
EVERY = 0.05  # seconds between kills
SAMPLES = 2000
LARGEST = 2_000_000
VERSIONS = 3
ROUND = 3.0  # seconds until the cache is checked and cleared
PATIENCE = 60.0  # seconds without progress that are called a hang
HELD = 8  # views that a process holds on to
OPTIONS = {"max_bytes": "768MiB"}
NAMESPACE = "torture"


# ---- content: a piece of noise that key and version choose


@functools.cache
def noise() -> memoryview:
    return memoryview(random.Random(0).randbytes(2 * LARGEST))


def content(key: int, version: int) -> memoryview:
    rng = random.Random(key * VERSIONS + version)
    size = int(math.exp(rng.uniform(0, math.log(LARGEST))))
    start = rng.randrange(LARGEST)
    return noise()[start : start + size]


def is_right(key: int, value: memoryview) -> bool:
    return any(value == content(key, version) for version in range(VERSIONS))


# ---- what the processes share beside the cache: a counter each, and what was published, and when


class Board:
    """Numbers that outlive whoever writes them.

    Args:
        path: the file that they are kept in.
    """

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            size = 8 * (PROCESSES + 2 + SAMPLES)
            file.truncate(size)
            whole = memoryview(mmap.mmap(file.fileno(), size)).cast("Q")
        self.steps = whole[:PROCESSES]
        self.written = whole[PROCESSES : PROCESSES + 1]
        self.clears = whole[PROCESSES + 1 : PROCESSES + 2]
        #: The generation of the cache that each key was published in last.
        self.published = whole[PROCESSES + 2 :]


def generation(backend: SharedBackend) -> int:
    """Return the cache's current generation; 0 while it is being cleared."""
    words = backend.arena.index.words
    found = words[GENERATION]
    return found if words[NEXT] == found else 0


def work(folder: Path, slot: int, seed: int) -> None:
    """Read and write until killed."""
    os.nice(5)  # the killer comes in time
    try:
        use(Board(folder / "board"), slot, random.Random(seed))
    except BaseException:
        (folder / f"failed-{seed}").write_text(traceback.format_exc())
        raise


def use(board: Board, slot: int, rng: random.Random) -> None:
    backend = SharedBackend(NAMESPACE, SAMPLES, **OPTIONS)
    held: list[tuple[int, memoryview, bytes]] = []
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                step(backend, board, rng, held)
                board.steps[slot] += 1


def step(
    backend: SharedBackend,
    board: Board,
    rng: random.Random,
    held: list[tuple[int, memoryview, bytes]],
) -> None:
    keys = rng.sample(range(SAMPLES), 8)
    published = [board.published[key] for key in keys]
    values = backend.get_many(keys)
    current = generation(backend)
    for key, value, there in zip(keys, values, published, strict=True):
        if value is None:
            assert not there or there != current, f"{key} was published and is lost"
            continue
        assert is_right(key, value), f"{key} has {len(value)} wrong bytes"
        if rng.random() < 0.1:
            held.append((key, value, bytes(value)))
    while len(held) > HELD:
        key, view, copy = held.pop(rng.randrange(len(held)))
        assert view == copy, f"a view of {key} has changed"
    missing = [key for key, value in zip(keys, values, strict=True) if value is None]
    granted = backend.claim_many(missing, 1.0) if missing else []
    mine = [key for key, ok in zip(missing, granted, strict=True) if ok]
    store(backend, board, mine, rng)
    if mine and rng.random() < 0.9:
        backend.release_many(mine)
    if rng.random() < 0.05:
        store(backend, board, keys[:2], rng)  # replace what is there
    if rng.random() < CLEARS:
        backend.clear()
        board.clears[0] += 1


def store(backend: SharedBackend, board: Board, keys: list[int], rng: random.Random) -> None:
    items = []
    for key in keys:
        value = content(key, rng.randrange(VERSIONS))
        cut = rng.randrange(len(value) + 1)
        items.append((key, [value[:cut], value[cut:]]))
    stored = backend.put_many(items)
    current = generation(backend)
    for key, ok in zip(keys, stored, strict=True):
        board.written[0] += ok
        # Stored may mean: and cleared, such as where it was loaded before a clear.
        if ok and backend.get(key) is not None and generation(backend) == current:
            board.published[key] = current


# ---- who starts, kills and judges them


class Torturer:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.board = Board(folder / "board")
        self.processes: list[multiprocessing.process.BaseProcess] = []
        self.dying: list[multiprocessing.process.BaseProcess] = []
        self.kills = self.interrupts = self.started = self.checked = 0

    def start(self, slot: int) -> multiprocessing.process.BaseProcess:
        self.started += 1
        self.board.steps[slot] = 0
        context = multiprocessing.get_context(METHODS[slot])
        seed = self.rng.randrange(2**40)
        process = context.Process(target=work, args=(self.folder, slot, seed), daemon=True)
        process.start()
        return process

    def kill(self, slot: int) -> None:
        self.processes[slot].kill()
        self.dying.append(self.processes[slot])

    def bury(self) -> None:
        """Wait for the killed and see that they died of nothing else."""
        for process in self.dying:
            process.join()
            if process.exitcode != -signal.SIGKILL:
                raise SystemExit(self.failure(f"a process ended with {process.exitcode}"))
        self.dying.clear()

    def failure(self, text: str) -> str:
        reports = [path.read_text() for path in self.folder.glob("failed-*")]
        return "\n".join([text, *reports])

    def kill_for(self, seconds: float) -> None:
        start = time.monotonic()
        for turn in range(1, int(seconds / EVERY)):
            time.sleep(max(0.0, start + turn * EVERY - time.monotonic()))
            busy = [slot for slot in range(PROCESSES) if self.board.steps[slot]]
            anyone = not busy or self.rng.random() < 0.1  # also those that are only starting
            slot = self.rng.choice(range(PROCESSES) if anyone else busy)
            self.kill(slot)
            self.processes[slot] = self.start(slot)
            self.kills += 1
            slot = self.rng.randrange(PROCESSES)
            if self.board.steps[slot] and self.rng.random() < INTERRUPTS:
                os.kill(self.processes[slot].pid or 0, signal.SIGINT)
                self.interrupts += 1
        self.bury()

    def expect_progress(self) -> None:
        """Leave all alone until each has got on."""
        before = list(self.board.steps)
        end = time.monotonic() + PATIENCE
        while any(self.board.steps[slot] <= before[slot] for slot in range(PROCESSES)):
            for slot, process in enumerate(self.processes):
                if not process.is_alive():
                    raise SystemExit(self.failure(f"process {slot} ended by itself"))
            if time.monotonic() > end:
                raise SystemExit(self.failure(f"a hang: {before} → {list(self.board.steps)}"))
            time.sleep(0.02)

    def look_through(self) -> None:
        """Kill all at once, find everything that was published, and clear the cache."""
        backend = SharedBackend(NAMESPACE, SAMPLES, **OPTIONS)
        for slot in range(PROCESSES):
            self.kill(slot)
        self.bury()
        for key in range(SAMPLES):
            value = backend.get(key)
            if value is None and self.board.published[key] == generation(backend):
                raise SystemExit(self.failure(f"{key} was published and is lost"))
            if value is not None and not is_right(key, value):
                raise SystemExit(self.failure(f"{key} is wrong"))
            self.checked += value is not None
        backend.clear()
        self.processes = [self.start(slot) for slot in range(PROCESSES)]
        self.expect_progress()  # they have joined: the cache stays when this process leaves
        backend.close()

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.processes = [self.start(slot) for slot in range(PROCESSES)]
        try:
            while time.monotonic() < end:
                self.kill_for(min(ROUND, end - time.monotonic()))
                self.expect_progress()
                self.look_through()
        finally:
            for process in self.processes:
                process.kill()
                process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    arguments = parser.parse_args()
    noise()  # before forking
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=base) as caches, tempfile.TemporaryDirectory() as folder:
        os.environ["KAPPACORE_DIR"] = caches
        torturer = Torturer(Path(folder), arguments.seed)
        torturer.run(arguments.seconds)
        if not any(Path(caches).iterdir()):
            raise SystemExit("nothing was left to collect: this test would test nothing")
        subprocess.run([sys.executable, "-m", "kappacore", "cache", "gc"], check=True)
        if left := sorted(Path(caches).rglob("*")):
            raise SystemExit(f"gc has left {left}")
    print(
        f"seed {arguments.seed}: {torturer.kills} killed, {torturer.interrupts} interrupted, "
        f"{torturer.started} started, {torturer.board.clears[0]} clears, "
        f"{torturer.board.written[0]} values written, {torturer.checked} found at the end of "
        f"rounds; none wrong, none lost, nothing left"
    )


if __name__ == "__main__":
    main()
