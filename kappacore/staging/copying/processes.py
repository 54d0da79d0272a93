"""Worker processes, which copy small files faster than threads: Python runs one thread at a time.

They start within milliseconds (:mod:`kappacore.staging.copying.worker`) and end with the process
that started them. Until then they keep its lock, so nobody else works on a target while one of them
still may.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import xxhash

from kappacore.staging.copying import worker
from kappacore.staging.sources.base import Block, batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from kappacore.staging.sources.base import Listing, Source

_FOLDERS = 32  # that are listed together
_TOGETHER = 256  # files of folders that are looked at together
_TICK = 100  # milliseconds
_PATIENCE = 10.0  # seconds
_READ = 1 << 16  # bytes of answers
_AT_ONCE = 16  # processes at most; more of them wait for each other in the kernel


class Outcome(NamedTuple):
    """What became of a batch.

    Attributes:
        batch: The batch.
        copied: How many files were copied, from the first on.
        lines: Their lines, which are in the journal.
        died: Whether the worker ended without an answer: nobody knows what it copied.
    """

    batch: list[Block]
    copied: int = 0
    lines: bytes = b""
    died: bool = False


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    input: socket.socket
    output: IO[bytes]
    jobs: dict[int, Any] = field(default_factory=dict)  # in hand, by the numbers of messages
    ahead: int = 2  # messages that it has at a time: one for each thread, and the next
    _numbers: Iterator[int] = field(default_factory=count)
    _unread: bytearray = field(default_factory=bytearray)

    def ask(self, job: Any, message: tuple[Any, ...]) -> None:
        number = next(self._numbers)
        self.jobs[number] = job
        with suppress(ConnectionError):  # it has ended, as its output shows
            self._send((number, *message))

    def take(self, tree: str, journal: int, fds: list[int], threads: int) -> bool:
        """Send what is needed to copy; return whether it was sent."""
        self.ahead = threads + 1
        try:
            self._send((0, "take", tree, journal, fds, threads))
            for start in range(0, len(fds), worker.FDS_AT_ONCE):
                self._send_fds(fds[start : start + worker.FDS_AT_ONCE])
        except OSError:  # it has ended, or too many are on their way
            return False
        return True

    def _send_fds(self, fds: list[int]) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            try:
                socket.send_fds(self.input, [b"."], fds)
                return
            except OSError as error:  # a user may have only so many on their way
                if error.errno != errno.ETOOMANYREFS or time.monotonic() > end:
                    raise
            time.sleep(0.001)

    def _send(self, message: tuple[Any, ...]) -> None:
        worker.send(self.input.fileno(), marshal.dumps(message))

    def answers(self) -> list[tuple[Any, Any]] | None:
        """Return the jobs that are done and their answers; None if it has ended."""
        data = os.read(self.output.fileno(), _READ)
        if not data:
            return None
        self._unread += data
        found = []
        while len(self._unread) >= worker.LENGTH:
            end = worker.LENGTH + int.from_bytes(self._unread[: worker.LENGTH], "little")
            if end > len(self._unread):
                break
            number, answer = marshal.loads(self._unread[worker.LENGTH : end])  # noqa: S302 - our own
            found.append((self.jobs.pop(number), answer))
            del self._unread[:end]
        return found

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.input.close()
        self.output.close()


def _started(command: list[str]) -> _Worker:
    here, there = socket.socketpair()  # descriptors can be sent through it
    try:
        process = subprocess.Popen(  # noqa: S603 - it is this Python
            command,
            stdin=there.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
    except BaseException:
        here.close()
        raise
    finally:
        there.close()
    return _Worker(process, here, cast("IO[bytes]", process.stdout))


def workers_possible() -> bool:
    """Return whether processes can be started that run this Python: it may be embedded."""
    name = os.path.basename(sys.executable or "")  # noqa: PTH119
    is_python = name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)
    return is_python and os.path.isfile(worker.__file__)  # noqa: PTH113


class Workers:
    """Worker processes, which are started when they are first needed.

    Args:
        processes: How many.
        with_digest: Whether to compute digests.
    """

    def __init__(self, processes: int, *, with_digest: bool):
        self._count = self._at_once = min(processes, _AT_ONCE)
        self._with_digest = with_digest
        self._workers: list[_Worker] = []
        self._source: Source | None = None  # of what they copy

    def start(self) -> None:
        """Start them, unless they have been."""
        if self._workers:
            return
        package = os.path.dirname(os.path.dirname(xxhash.__file__))  # noqa: PTH120
        command = [
            sys.executable, "-I", "-S", worker.__file__, f"{os.getpid()}",
            sys.getfilesystemencoding(), package if self._with_digest else "",
        ]  # fmt: skip
        try:
            for _ in range(self._count):
                self._workers.append(_started(command))
        except OSError:  # too many processes, or too little memory: fewer must do
            pass
        except BaseException:
            self.close()
            raise

    def look(
        self, folders: Sequence[tuple[str, list[str]]], skipped: Iterable[str]
    ) -> Iterator[tuple[int, Any]]:
        """List folders, and yield the number of each with what a worker says is in it.

        Folders that are not plain, or that no worker is left for, are passed over.

        Args:
            folders: Their paths, and the names in each of them that matter; none: all.
            skipped: Names that make a folder not plain.
        """
        self.start()
        step = self._step(len(folders))
        jobs = deque(range(0, len(folders), step))
        names = list(skipped)

        def message(start: int) -> tuple[Any, ...]:
            return "look", names, list(folders[start : start + step])

        for found in self._answers(jobs, message):
            if found is not None:
                start, answers = found
                yield from (
                    (number, listed)
                    for number, listed in enumerate(answers or (), start)
                    if listed is not None
                )

    def prepare(
        self, source: Source, tree: Path, journal: int, kept: Iterable[int], waiting: int = 0
    ) -> int:
        """Start them to copy, and return how many batches they take at a time.

        Args:
            source: Where files come from.
            tree: The folder that they go to.
            journal: A descriptor of the journal, which the workers write to.
            kept: Other descriptors that they keep open: those of locks and archives.
            waiting: Where the storage makes them wait: how many threads they have together.
        """
        self.start()
        self._source = source
        threads = max(1, -(-waiting // max(1, len(self._workers))))
        for found in [*self._workers]:
            if not found.take(os.fspath(tree), journal, [journal, *kept], threads):
                found.end()
                self._workers.remove(found)
        self._at_once = max(1, threads * len(self._workers))
        return self._at_once

    def copy(self, batches: deque[list[Block]]) -> Iterator[Outcome | None]:
        """Copy batches, and yield what became of each; None about ten times a second.

        Batches that no worker is left for stay in ``batches``. What workers had in hand when an
        earlier call was left is done first.
        """
        for found in self._answers(batches, _files_of):
            if found is None:
                yield None
            else:
                batch, answer = found
                yield Outcome(batch, died=True) if answer is None else Outcome(batch, *answer)

    def check(self, listing: Listing) -> bool:
        """Return whether all files have been copied with their sizes, and the source is as listed.

        False also means that nobody has looked. Of an archive, only the copies are looked at.
        """
        if self._source is None:
            return False
        root = self._source.folder
        names: dict[str, list[str]] = {path: [] for path in ("", *listing.folders)}
        for path in listing.folders:
            above, _, name = path.rpartition("/")
            names[above].append(name)
        folders = [
            Block(None, path, below, [-1] * len(below), [0] * len(below), [])
            for path, below in names.items()
            if below
        ]
        at_a_time = max(8, min(_TOGETHER, listing.count // (4 * self._at_once)))
        jobs: deque[tuple[str, list[Any]]] = deque(
            ("check_files", [_to_check(root, block) for block in batch])
            for batch in batches([*listing.blocks, *folders], at_a_time, most=sys.maxsize)
        )
        if root is not None:
            for block in listing.blocks:
                names[block.folder] += block.names
            left = ((f"{root}/{path}", below) for path, below in names.items())
            while some := [*islice(left, self._step(len(names)))]:
                jobs.append(("check_names", some))
        answers = self._answers(jobs, lambda job: job)
        good = all(found is None or found[1] is True for found in answers)
        return good and not jobs

    def _answers(
        self, jobs: deque[Any], message: Callable[[Any], tuple[Any, ...]]
    ) -> Iterator[tuple[Any, Any] | None]:
        """Yield each job with its answer; None for that of a worker that has ended."""
        poll = select.poll()
        by_output = {found.output.fileno(): found for found in self._workers}
        for output, found in by_output.items():
            poll.register(output, select.POLLIN)
            self._feed(found, jobs, message)
        yielded = time.monotonic()
        while any(found.jobs for found in by_output.values()):
            ready = [output for output, _ in poll.poll(_TICK)] or [
                # Of one that has ended, a process that was forked meanwhile may keep the pipe open.
                output
                for output, found in by_output.items()
                if found.process.poll() is not None
            ]
            for output in ready:
                found = by_output[output]
                answers = None if found.process.returncode is not None else found.answers()
                if answers is None:
                    poll.unregister(output)
                    del by_output[output]
                    self._workers.remove(found)
                    found.end()  # it writes nothing any more
                    for job in found.jobs.values():
                        yield job, None
                    continue
                self._feed(found, jobs, message)
                yield from answers
            if time.monotonic() - yielded > _TICK / 1000:
                yielded = time.monotonic()
                yield None

    def close(self) -> None:
        """End the workers, whatever they do."""
        for found in self._workers:
            found.process.kill()
        for found in self._workers:
            found.end()
        self._workers = []
        self._source = None

    def _step(self, folders: int) -> int:
        """Return how many of so many folders a worker takes at a time."""
        return max(1, min(_FOLDERS, folders // (4 * self._at_once)))

    def _feed(
        self, found: _Worker, jobs: deque[Any], message: Callable[[Any], tuple[Any, ...]]
    ) -> None:
        while jobs and len(found.jobs) < found.ahead:
            job = jobs.popleft()
            found.ask(job, message(job))


def _to_check(root: str | None, block: Block) -> tuple[Any, ...]:
    source = None if root is None else f"{root}/{block.folder}"
    return source, block.folder, block.names, block.sizes, block.times


def _files_of(batch: list[Block]) -> tuple[str, Any]:
    groups = []
    for block in batch:
        sizes, times, modes, crcs, wheres, _, _ = block.columns()
        source = f"{block.root}/{block.folder}" if isinstance(block.root, str) else block.root
        groups.append((source, block.folder, block.names, sizes, times, modes, crcs, wheres))
    return "copy", groups
