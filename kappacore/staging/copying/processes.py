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
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import xxhash

from kappacore.staging.copying import worker
from kappacore.staging.sources.base import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from kappacore.staging.sources.base import Source

_FOLDERS = 32  # that are listed together
_AHEAD = 2  # batches that a worker has at a time: one that it copies, and the next
_TOGETHER = 256  # files of folders that are looked at together
_TICK = 100  # milliseconds
_PATIENCE = 10.0  # seconds
_READ = 1 << 16  # bytes of answers
_AT_ONCE = 16  # processes at most; more of them wait for each other in the kernel


class Outcome(NamedTuple):
    """What became of a batch.

    Attributes:
        batch: The batch.
        copied: How many files were copied, from the first on; they are in the journal.
        sums: Their sums as text; empty if there are none.
        died: Whether the worker ended without an answer: nobody knows what it copied.
    """

    batch: list[Entry]
    copied: int = 0
    sums: Sequence[str | None] = ()
    died: bool = False


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    input: socket.socket
    output: IO[bytes]
    jobs: deque[Any] = field(default_factory=deque)  # in hand, in order
    _unread: bytearray = field(default_factory=bytearray)

    def ask(self, job: Any, message: bytes) -> None:
        self.jobs.append(job)
        with suppress(ConnectionError):  # it has ended, as its output shows
            worker.send(self.input.fileno(), message)

    def give(self, message: bytes, fds: list[int]) -> bool:
        """Send a message that is not answered, and descriptors; return whether they were sent."""
        try:
            worker.send(self.input.fileno(), message)
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

    def answers(self) -> list[Any] | None:
        """Return the answers that have come; None if it has ended."""
        data = os.read(self.output.fileno(), _READ)
        if not data:
            return None
        self._unread += data
        found = []
        while len(self._unread) >= worker.LENGTH:
            end = worker.LENGTH + int.from_bytes(self._unread[: worker.LENGTH], "little")
            if end > len(self._unread):
                break
            found.append(marshal.loads(self._unread[worker.LENGTH : end]))  # noqa: S302 - our own
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
        count: How many.
        with_digest: Whether to compute digests.
    """

    def __init__(self, count: int, *, with_digest: bool):
        self._count = min(count, _AT_ONCE)
        self._with_digest = with_digest
        self._workers: list[_Worker] = []
        self._source: Source | None = None

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

    def look(self, folders: Sequence[str], skipped: Iterable[str]) -> Iterator[tuple[int, Any]]:
        """List folders, and yield the number of each with what a worker says is in it.

        Folders that are not plain, or that no worker is left for, are passed over.

        Args:
            folders: Their paths.
            skipped: Names that make a folder not plain.
        """
        self.start()
        step = max(1, min(_FOLDERS, len(folders) // (4 * self._count)))
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

    def prepare(self, source: Source, tree: Path, journal: int, kept: Iterable[int]) -> None:
        """Start them to copy.

        Args:
            source: Where files come from.
            tree: The folder that they go to.
            journal: A descriptor of the journal, which the workers write to.
            kept: Other descriptors that they keep open: those of locks and archives.
        """
        self.start()
        self._source = source
        numbers = [journal, *kept]
        message = marshal.dumps(("take", os.fspath(tree), journal, numbers))
        for found in [*self._workers]:
            if not found.give(message, numbers):
                found.end()
                self._workers.remove(found)

    def copy(self, batches: deque[list[Entry]]) -> Iterator[Outcome | None]:
        """Copy batches, and yield what became of each; None about ten times a second.

        Batches that no worker is left for stay in ``batches``. What workers had in hand when an
        earlier call was left is done first.
        """
        for found in self._answers(batches, self._files_of):
            if found is None:
                yield None
            else:
                batch, answer = found
                yield Outcome(batch, died=True) if answer is None else Outcome(batch, *answer)

    def check(self, entries: list[Entry]) -> bool:
        """Return whether all files have been copied with their sizes, and the source is as listed.

        False also means that nobody has looked.

        Args:
            entries: All files and folders, as listed. Of an archive, only the copies are looked at.
        """
        if self._source is None:
            return False
        folders: dict[str, list[Entry]] = {"": []}
        for entry in entries:
            above = _folder_of(entry)
            if above in folders:
                folders[above].append(entry)
            else:
                folders[above] = [entry]
            if entry.size < 0:
                folders.setdefault(entry.path, [])
        jobs: deque[list[tuple[str, list[Entry]]]] = deque([[]])
        size = 0
        for folder in folders.items():
            if size > _TOGETHER:
                jobs.append([])
                size = 0
            jobs[-1].append(folder)
            size += len(folder[1])
        answers = self._answers(jobs, self._folders_of)
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
                    for job in found.jobs:
                        yield job, None
                    continue
                done = [(found.jobs.popleft(), answer) for answer in answers]
                self._feed(found, jobs, message)
                yield from done
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

    def _feed(
        self, found: _Worker, jobs: deque[Any], message: Callable[[Any], tuple[Any, ...]]
    ) -> None:
        while jobs and len(found.jobs) < _AHEAD:
            job = jobs.popleft()
            found.ask(job, marshal.dumps(message(job)))

    def _folders_of(self, folders: list[tuple[str, list[Entry]]]) -> tuple[str, Any]:
        root = cast("Source", self._source).folder
        groups = []
        for folder, entries in folders:
            names, columns = _columns(folder, entries)
            origin = None if root is None else f"{root}/{folder}"
            groups.append((origin, folder, names, *columns[:2]))
        return "check", groups

    def _files_of(self, batch: list[Entry]) -> tuple[str, Any]:
        groups = []
        source = cast("Source", self._source)
        for folder, entries in groupby(batch, _folder_of):
            files = list(entries)
            places = [place for entry in files if (place := source.place(entry))]
            if len(places) < len(files):
                raise ValueError(f"some of {files} are for this process")
            root = places[0][0]  # of all in one folder
            names, columns = _columns(folder, files)
            origin = root if isinstance(root, int) else f"{root}/{folder}"
            groups.append((origin, folder, names, *columns[:4], [place for _, place in places]))
        return "copy", groups


def _folder_of(entry: Entry) -> str:
    return entry.path.rpartition("/")[0]


def _columns(folder: str, entries: list[Entry]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the names of entries of one folder, and their other attributes one by one."""
    start = len(folder) + 1 if folder else 0
    paths, *columns = zip(*entries, strict=True) if entries else [()] * len(Entry._fields)
    return [path[start:] for path in paths], columns
