"""Copying many files at once into the work folder."""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kappacore.errors import KappaError, SourceChangedError, StagingError, UnsafeArchiveError
from kappacore.machine.system import NO_SPACE, opened
from kappacore.staging.copying.digests import CHUNK
from kappacore.staging.copying.large_files import LargeFile
from kappacore.staging.copying.strategies import CopyStrategy, DamagedError, TooShortError
from kappacore.staging.sources.archive_safety import BROKEN
from kappacore.staging.sources.base import Entry, Extent, parent_of
from kappacore.staging.target.manifest import FileRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kappacore.staging.options import Options
    from kappacore.staging.progress import Progress
    from kappacore.staging.sources.base import Content, Source
    from kappacore.staging.target.manifest import Journal
    from kappacore.staging.target.paths import StagePaths

_BATCH_FILES = 32
_BATCH_BYTES = 1 << 23
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TICK = 0.1  # seconds between two updates of the progress


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
    """

    source: Source
    paths: StagePaths
    journal: Journal
    progress: Progress
    options: Options

    def __post_init__(self) -> None:
        self.records: dict[str, FileRecord] = {}
        self._strategy = CopyStrategy(with_digest=self.options.with_digest)
        self._work: deque[Callable[[], None]] = deque()
        self._large: list[LargeFile] = []
        self._stopped = threading.Event()
        self._last: Entry | None = None

    def plan(self, entries: list[Entry]) -> int:
        """Plan the copying of these files, and return the bytes of them that earlier tries left."""
        kept = 0
        batch: list[Entry] = []
        size = 0
        for entry in entries:
            if entry.size > CHUNK and not (self.source.ordered or entry.packing):
                file = LargeFile(entry, self.paths.large, self._strategy)
                self._large.append(file)
                self._work += [partial(self._copy_chunk, file, index) for index in file.missing]
                kept += file.kept_bytes
                continue
            full = len(batch) >= _BATCH_FILES or size + entry.size > _BATCH_BYTES
            if batch and (full or parent_of(batch[0].path) != parent_of(entry.path)):
                self._work.append(partial(self._copy_batch, batch))
                batch, size = [], 0
            batch.append(entry)
            size += entry.size
        if batch:
            self._work.append(partial(self._copy_batch, batch))
        LargeFile.keep_only(self._large, self.paths.large)
        return kept

    def run(self, tick: Callable[[], None]) -> None:
        """Copy what was planned.

        Args:
            tick: Called now and then by this thread.

        Raises:
            StagingError: The first error; complete files are in the journal.
        """
        count = 1 if self.source.ordered else self.options.threads
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

    def _copy_batch(self, batch: list[Entry]) -> None:
        """Copy files of one folder."""
        done: list[tuple[str, FileRecord]] = []
        try:
            with opened(self.paths.tree / parent_of(batch[0].path), _FOLDER) as folder:
                for entry in batch:
                    if self._stopped.is_set():
                        break
                    with self._errors_explained(entry):
                        done.append((entry.path, self._copy(entry, folder)))
        finally:
            if done:
                self.journal.write(done)
                self.records.update(done)
                # The bytes of a long file were counted as they moved.
                sizes = [record.size for _, record in done if record.size <= _BATCH_BYTES]
                self.progress.add(len(done), sum(sizes))

    def _copy(self, entry: Entry, folder: int) -> FileRecord:
        name = entry.path.rpartition("/")[2]
        moved = self._moved if entry.size > _BATCH_BYTES else lambda _: None
        with self._content(entry) as content:
            fd = os.open(name, _NEW_FILE, entry.mode | 0o600, dir_fd=folder)
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
            yield Extent(fd, 0, entry.size)

    def _copy_chunk(self, file: LargeFile, index: int) -> None:
        entry = file.entry
        with self._errors_explained(entry):
            try:
                record = file.copy(index, self.source, self._moved)
            except DamagedError:
                file.discard()
                raise
        if record is not None:
            self.journal.write([(entry.path, record)])
            file.move(self.paths.tree / entry.path)
            self.records[entry.path] = record
            self.progress.add(1, 0)

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
