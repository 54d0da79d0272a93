"""Copying many files at once into the work folder.

Small files are copied by processes (:mod:`kappacore.staging.copying.processes`), unless the storage
makes those who read it wait: then many threads wait at once. The first files tell.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, filterfalse, islice
from typing import TYPE_CHECKING, Literal

from kappacore.errors import KappaError, SourceChangedError, StagingError, UnsafeArchiveError
from kappacore.machine.system import NO_SPACE, opened
from kappacore.staging.copying.digests import CHUNK, Sums
from kappacore.staging.copying.large_files import LargeFile
from kappacore.staging.copying.processes import Outcome, Workers, workers_possible
from kappacore.staging.copying.strategies import CopyStrategy, DamagedError, TooShortError
from kappacore.staging.copying.worker import MOST, NEW_FILE, lines_of
from kappacore.staging.sources.archive_safety import BROKEN
from kappacore.staging.sources.base import BATCH_BYTES, Block, Entry, Extent, batches, blocks_of
from kappacore.staging.target.manifest import FileRecord
from kappacore.staging.waiting import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kappacore.staging.options import Options
    from kappacore.staging.progress import Progress
    from kappacore.staging.sources.base import Content, Listing, Source
    from kappacore.staging.target.manifest import Journal
    from kappacore.staging.target.paths import StagePaths

Road = Literal["processes", "threads"]

_BATCH_FILES = 32
_SMALL = MOST  # larger files keep threads as busy as processes
_MANY = 512  # small files that processes are started for
_FIRST_FILES, _FIRST_SECONDS, _FIRST_BATCH = 64, 0.05, 8  # what tells which road is faster
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_TICK = 0.1  # seconds between two updates of the progress


road: Road | None = None  # of all small files, for tests; None: chosen


def may_use_processes(options: Options) -> bool:
    """Return whether processes may be started to list and copy files."""
    return road != "threads" and options.workers != 1 and workers_possible()


class _StoppedError(Exception):
    """Another thread has failed, or the user has interrupted."""


@dataclass(eq=False)
class Transfer:
    """Copies files into the tree of a work folder, whose folders exist.

    Args:
        source: Where they come from.
        paths: Where they go.
        journal: Records the files that are complete.
        progress: Counts files and bytes.
        options: Number of threads, and whether to compute digests.
        lock: A descriptor of the lock that whoever writes to the work folder has open.
        workers: Processes that may copy small files.
    """

    source: Source
    paths: StagePaths
    journal: Journal
    progress: Progress
    options: Options
    lock: int
    workers: Workers

    def __post_init__(self) -> None:
        self.lines: list[bytes] = []  # of the files that were copied, as in the journal
        self.count = 0  # of these files
        self._strategy = CopyStrategy(with_digest=self.options.with_digest)
        self._work: deque[Callable[[], None]] = deque()
        self._small: deque[list[Block]] = deque()  # what processes could copy
        self._large: list[LargeFile] = []
        self._stopped = threading.Event()
        self._counting = threading.Lock()
        self._waits = False
        self._last: Entry | None = None

    def plan(self, files: list[Block]) -> int:
        """Plan the copying of these files, and return the bytes of them that earlier tries left."""
        kept = 0
        small, others = self._for_processes(files)
        rest: list[Entry] = []
        for entry in chain.from_iterable(block.entries() for block in others):
            if entry.size > CHUNK and not (self.source.ordered or entry.packing):
                file = LargeFile(entry, self.paths.large, self._strategy)
                self._large.append(file)
                self._work += [partial(self._copy_chunk, file, index) for index in file.missing]
                kept += file.kept_bytes
            else:
                rest.append(entry)
        self._work += [
            partial(self._copy_batch, batch) for batch in batches(blocks_of(rest), _BATCH_FILES)
        ]
        # Each process has two of them in hand, and all end at about the same time.
        count = sum(map(len, small)) // (8 * self.options.processes)
        count = min(4 * _BATCH_FILES, max(_BATCH_FILES // 2, count))
        self._small += batches(small, count)
        LargeFile.keep_only(self._large, self.paths.large)
        return kept

    def run(self, tick: Callable[[], None]) -> None:
        """Copy what was planned.

        Args:
            tick: Called now and then by this thread.

        Raises:
            StagingError: The first error; complete files are in the journal.
        """
        if self._small:
            self._run_processes(tick)
        self._work += [partial(self._copy_batch, batch) for batch in self._small]
        self._run_threads(tick)

    def check(self, listing: Listing) -> bool:
        """Return whether processes found that all files have their sizes, and the source as listed.

        False also means that nobody has looked. Of an archive, only the copies are looked at.
        """
        return self.workers.check(listing)

    def _for_processes(self, files: list[Block]) -> tuple[list[Block], list[Block]]:
        """Return the files that processes should copy, many small ones or none, and the others."""
        if not may_use_processes(self.options):
            return [], files
        small: list[Block] = []
        others: list[Block] = []
        for block in files:
            plain = block.data is None and {None, "deflate"}.issuperset(block.packings or ())
            if block.root is None:
                others.append(block)
            elif plain and max(block.sizes) <= _SMALL:
                small.append(block)
            else:
                entries = list(block.entries())
                small += blocks_of(filter(_is_for_processes, entries))
                others += blocks_of(filterfalse(_is_for_processes, entries))
        many = sum(map(len, small)) >= _MANY or road == "processes"
        return (small, others) if many else ([], files)

    def _run_processes(self, tick: Callable[[], None]) -> None:
        """Copy small files by processes, with many threads each where the first files wait."""
        workers = self.workers
        workers.start()
        if road is None:  # the workers start meanwhile
            self._waits = self._storage_waits()
        left = [block for batch in self._small for block in batch]
        roots = {block.root for block in left}
        kept = [self.lock, *(root for root in roots if isinstance(root, int))]
        waiting = self.options.waiting_threads if self._waits else 0
        at_once = workers.prepare(
            self.source, self.paths.tree, self.journal.fileno(), kept, waiting
        )
        if self._waits:
            count = sum(map(len, left)) // (4 * max(1, at_once))
            self._small = deque(batches(left, min(_BATCH_FILES, max(1, count))))
        try:
            for outcome in workers.copy(self._small):
                if outcome is None:
                    tick()
                    continue
                self._note_copied(outcome)
                if outcome.died:
                    self.journal.end_line()
                    self._remove_all(outcome.batch)
                if left := _after(outcome.batch, outcome.copied):
                    self._copy_batch(left)
        except Exception:
            for outcome in workers.copy(deque()):
                if outcome is not None:
                    self._note_copied(outcome)
            raise

    def _note_copied(self, outcome: Outcome) -> None:
        """Count files that a worker has copied, and written to the journal."""
        sizes = chain.from_iterable(block.sizes for block in outcome.batch)
        self._count(outcome.lines, outcome.copied, sum(islice(sizes, outcome.copied)))

    def _count(self, lines: bytes, files: int, size: int) -> None:
        """Count files whose lines are in the journal."""
        with self._counting:
            self.lines.append(lines)
            self.count += files
        self.progress.add(files, size)

    def _storage_waits(self) -> bool:
        """Copy the first files, and return whether that was waiting rather than work."""
        watch = Watch()
        end = time.monotonic() + _FIRST_SECONDS
        files = 0
        enough = _FIRST_BATCH if self.source.waits else _FIRST_FILES
        while self._small and files < _FIRST_FILES and time.monotonic() < end:
            if files >= enough and watch.waits(files):
                break
            first, *others = self._small.popleft()
            some = min(_FIRST_BATCH, _FIRST_FILES - files)
            if left := _after([first], some) + others:
                self._small.appendleft(left)
            first = first.part(0, some)
            self._copy_batch([first])
            files += len(first)
        self._waits = watch.waits(files)
        return self._waits

    def _remove_all(self, batch: list[Block]) -> None:
        """Remove what a worker that was killed has made of a batch."""
        for block in batch:
            folder = self.paths.tree / block.folder
            there = set(os.listdir(folder))  # noqa: PTH208 - in one spelling only
            for name in there.intersection(block.names):
                (folder / name).unlink()

    def _run_threads(self, tick: Callable[[], None]) -> None:
        options = self.options
        threads = options.waiting_threads if self._waits else options.threads
        count = 1 if self.source.ordered else threads
        with ThreadPoolExecutor(count, "kappacore-stage") as pool:
            try:
                workers = [
                    pool.submit(self._run_worker) for _ in range(min(count, len(self._work)))
                ]
                while wait(workers, _TICK).not_done:
                    tick()
            finally:
                self._stopped.set()
        for worker in workers:
            worker.result()

    def _run_worker(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    work = self._work.popleft()
                except IndexError:  # another thread has just taken the last
                    return
                work()
        except _StoppedError:
            pass
        except BaseException:  # raised again by the thread that waits
            self._stopped.set()
            raise

    def _copy_batch(self, batch: list[Block]) -> None:
        done: list[tuple[str, FileRecord]] = []
        try:
            for block in batch:
                with opened(self.paths.tree / block.folder, _FOLDER) as folder:
                    for entry in block.entries():
                        if self._stopped.is_set():
                            return
                        with self._errors_explained(entry):
                            done.append((entry.path, self._copy(entry, folder)))
        finally:
            self._note(done)

    def _note(self, done: list[tuple[str, FileRecord]]) -> None:
        """Record files that are complete."""
        if done:
            lines = lines_of(done)
            self.journal.write(lines)
            # The bytes of a long file were counted as they moved.
            sizes = [record.size for _, record in done if record.size <= BATCH_BYTES]
            self._count(lines, len(done), sum(sizes))

    def _copy(self, entry: Entry, folder: int) -> FileRecord:
        name = entry.path.rpartition("/")[2]
        moved = self._moved if entry.size > BATCH_BYTES else lambda _: None
        with self._content(entry) as content:
            fd = os.open(name, NEW_FILE, entry.mode | 0o600, dir_fd=folder)
            try:
                sums = self._strategy.copy(content, fd, with_crc=entry.crc is not None, moved=moved)
                if sums.crc != entry.crc:
                    raise DamagedError("its bytes do not have the CRC that the archive stores")
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            except BaseException:
                os.unlink(name, dir_fd=folder)
                raise
            finally:
                os.close(fd)
        self._last = entry
        return self._record(entry, sums)

    @staticmethod
    def _record(entry: Entry, sums: Sums) -> FileRecord:
        return FileRecord(entry.size, entry.mtime_ns, sums.text())

    @contextmanager
    def _content(self, entry: Entry) -> Iterator[Content]:
        """Open the content of a file; of a link to the file before it, in what was just copied."""
        last = self._last
        if not self.source.ordered or last is None or last.where != entry.where:
            with self.source.open(entry) as content:
                yield content
            return
        with opened(self.paths.tree / last.path, os.O_RDONLY | os.O_NOFOLLOW) as fd:
            yield Extent(fd, 0, entry.size, sparse=entry.data is not None)

    def _copy_chunk(self, file: LargeFile, index: int) -> None:
        entry = file.entry
        with self._errors_explained(entry):
            try:
                record = file.copy(index, self.source, self._moved)
            except DamagedError:
                file.discard()
                raise
        if record is not None:
            lines = lines_of([(entry.path, record)])
            self.journal.write(lines)
            file.move(self.paths.tree / entry.path)
            self._count(lines, 1, 0)

    def _moved(self, size: int) -> None:
        self.progress.add(0, size)
        if self._stopped.is_set():
            raise _StoppedError

    @contextmanager
    def _errors_explained(self, entry: Entry) -> Iterator[None]:
        """Turn errors of one file into ones that say what to do."""
        try:
            yield
        except UnsafeArchiveError:
            raise
        except (DamagedError, *BROKEN) as error:
            raise StagingError(
                f"'{entry.path}' of '{self.source.path}' is damaged: {error}. Copy or pack the "
                f"archive again; what was extracted is kept."
            ) from error
        except OSError as error:
            file = f"'{entry.path}' of '{self.source.path}'"
            gone = isinstance(error, (TooShortError, FileNotFoundError, IsADirectoryError))
            if gone or error.errno == errno.ESTALE:
                raise SourceChangedError(
                    f"{file} changed while it was copied: {error.strerror or error}. Stage again "
                    f"when nobody writes to the source any more; what was copied is kept."
                ) from error
            if isinstance(error, KappaError) or error.errno in NO_SPACE:
                raise
            raise StagingError(
                f"{file} cannot be copied: {error.strerror}. What was copied is kept for the next "
                f"try."
            ) from error


def _is_for_processes(entry: Entry) -> bool:
    return entry.size <= _SMALL and entry.data is None and entry.packing in (None, "deflate")


def _after(batch: list[Block], count: int) -> list[Block]:
    """Return a batch without the first files."""
    left = []
    for block in batch:
        if count < len(block):
            left.append(block.part(max(0, count)))
        count -= len(block)
    return left
