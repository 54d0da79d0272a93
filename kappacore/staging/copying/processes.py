"""Worker processes, which copy small files faster than threads: Python runs one thread at a time.

They start within milliseconds (:mod:`kappacore.staging.copying.worker`) and end with the process
that started them. Until then they keep its lock, so nobody else works on a target while one of them
still may.
"""

from __future__ import annotations

import marshal
import os
import select
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import xxhash

from kappacore.staging.copying import worker
from kappacore.staging.sources.base import parent_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kappacore.staging.sources.base import Entry, Source
    from kappacore.staging.target.paths import StagePaths

_AHEAD = 2  # batches that a worker has at a time: one that it copies, and the next
_TOGETHER = 256  # files of folders that are looked at together
_TICK = 100  # milliseconds
_AT_ONCE = 16  # processes at most; more of them wait for each other in the kernel


class Outcome(NamedTuple):
    """What became of a batch.

    Attributes:
        batch: The batch.
        digests: Those of the files that were copied, from the first to the last; None if there are
            none.
        died: Whether the worker ended without an answer: nobody knows what it copied.
    """

    batch: list[Entry]
    digests: list[bytes | None]
    died: bool = False


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    input: IO[bytes]
    output: IO[bytes]
    jobs: deque[list[Entry]] = field(default_factory=deque)  # in hand, in order

    def ask(self, job: list[Entry], message: bytes) -> None:
        self.jobs.append(job)
        with suppress(BrokenPipeError):  # it has ended, as its output shows
            worker.send(self.input.fileno(), message)

    def answer(self) -> Any:
        """Return its next answer; None if it has ended."""
        length = self._read(worker.LENGTH)
        data = self._read(int.from_bytes(length or b"", "little"))
        return marshal.loads(data) if data else None  # noqa: S302 - this very program wrote it

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.input.close()
        self.output.close()

    def _read(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            more = os.read(self.output.fileno(), size - len(data))
            if not more:
                return None
            data += more
        return data


def workers_possible() -> bool:
    """Return whether processes can be started that run this Python: it may be embedded."""
    name = os.path.basename(sys.executable or "")  # noqa: PTH119
    is_python = name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)
    return is_python and os.path.isfile(worker.__file__)  # noqa: PTH113


class Workers:
    """Worker processes.

    Args:
        count: How many.
        source: Where files come from.
        paths: Where they go.
        kept: Descriptors that the workers keep open: those of locks and archives.
        with_digest: Whether to compute digests.
    """

    def __init__(
        self,
        count: int,
        source: Source,
        paths: StagePaths,
        kept: Iterable[int],
        *,
        with_digest: bool,
    ):
        self._source = source
        self._tree = os.fsencode(paths.tree)
        self._workers: list[_Worker] = []
        package = os.path.dirname(os.path.dirname(xxhash.__file__))  # noqa: PTH120
        command = [
            sys.executable, "-I", "-S", worker.__file__, f"{os.getpid()}",
            package if with_digest else "",
        ]  # fmt: skip
        try:
            for _ in range(min(count, _AT_ONCE)):
                process = subprocess.Popen(  # noqa: S603 - it is this Python
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=tuple(kept),
                    bufsize=0,
                )
                pipes = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
                self._workers.append(_Worker(process, *pipes))
        except OSError:  # too many processes, or too little memory: fewer must do
            pass
        except BaseException:
            self.close()
            raise

    def copy(self, batches: deque[list[Entry]]) -> Iterator[Outcome | None]:
        """Copy batches, and yield what became of each; None about ten times a second.

        Batches that no worker is left for stay in ``batches``. What workers had in hand when an
        earlier call was left is done first.
        """
        for found in self._answers(batches, self._files_of):
            if found is None:
                yield None
            else:
                batch, digests = found
                yield Outcome(batch, digests or [], died=digests is None)

    def check(self, entries: list[Entry]) -> bool:
        """Return whether all files have been copied with their sizes, and the source is as listed.

        Args:
            entries: All files and folders, as listed. Of an archive, only the copies are looked at.
        """
        folders: dict[str, list[Entry]] = {"": []}
        for entry in entries:
            folders.setdefault(parent_of(entry.path), []).append(entry)
            if entry.is_folder:
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
        self, jobs: deque[Any], message: Callable[[Any], tuple[str, Any]]
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
                answer = None if found.process.returncode is not None else found.answer()
                if answer is None:
                    poll.unregister(output)
                    del by_output[output]
                    self._workers.remove(found)
                    found.end()  # it writes nothing any more
                    for job in found.jobs:
                        yield job, None
                    continue
                job = found.jobs.popleft()
                self._feed(found, jobs, message)
                yield job, answer
            if time.monotonic() - yielded > _TICK / 1000:
                yielded = time.monotonic()
                yield None

    def close(self) -> None:
        """End the workers, whatever they do."""
        for found in self._workers:
            found.process.kill()
        for found in self._workers:
            found.end()

    def _feed(
        self, found: _Worker, jobs: deque[Any], message: Callable[[Any], tuple[str, Any]]
    ) -> None:
        while jobs and len(found.jobs) < _AHEAD:
            job = jobs.popleft()
            found.ask(job, marshal.dumps(message(job)))

    def _folders_of(self, folders: list[tuple[str, list[Entry]]]) -> tuple[str, Any]:
        root = self._source.folder
        groups = []
        for folder, entries in folders:
            inside = os.fsencode(folder)
            start = len(inside) + 1 if inside else 0
            listed = {
                os.fsencode(entry.path)[start:]: (entry.size, entry.mtime_ns) for entry in entries
            }
            origin = None if root is None else os.fsencode(root) + b"/" + inside
            groups.append((origin, self._tree + b"/" + inside, listed))
        return "check", groups

    def _files_of(self, batch: list[Entry]) -> tuple[str, Any]:
        groups: list[tuple[bytes | int, bytes, list[Any]]] = []
        last = None
        for entry in batch:
            folder, _, name = entry.path.rpartition("/")
            where = self._source.place(entry)
            if where is None:
                raise ValueError(f"{entry} is for this process")
            root, place = where
            if (folder, root) != last:
                last = folder, root
                inside = os.fsencode(folder)
                origin = root if isinstance(root, int) else os.fsencode(f"{root}/{folder}")
                files: list[Any] = []
                groups.append((origin, self._tree + b"/" + inside, files))
            files.append(
                (os.fsencode(name), entry.size, entry.mtime_ns, entry.mode, entry.crc, place)
            )
        return "copy", groups
