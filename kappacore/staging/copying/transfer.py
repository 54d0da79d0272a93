"""Copying many files at once into the work folder."""

from __future__ import annotations

import errno
import gzip
import os
import threading
import zlib
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from kappacore.errors import KappaError, SourceChangedError, StagingError
from kappacore.machine.system import NO_SPACE
from kappacore.staging.copying.digests import CHUNK, crc_text, digest_text
from kappacore.staging.copying.large_files import LargeFile
from kappacore.staging.copying.strategies import DamagedError, Ladder, TooShortError, copy_summed
from kappacore.staging.sources.entries import Entry, Extent, parent_of
from kappacore.staging.target.manifest import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.staging.copying.journal import Journal
    from kappacore.staging.progress import Progress
    from kappacore.staging.sources.entries import Deflated, Stream
    from kappacore.staging.sources.find import Source
    from kappacore.staging.target.paths import Places

__all__ = ["Transfer"]

_BATCH_FILES = 32
_BATCH_BYTES = 1 << 23
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TICK = 0.1  # seconds between two looks at the progress


class _Chunk(NamedTuple):
    file: LargeFile
    number: int


_Work = list[Entry] | _Chunk


class _StoppedError(Exception):
    """Another thread has failed, or the user wants to end."""


class Transfer:
    """Copies files into the tree of a work folder, whose folders are there.

    Args:
        source: where they are.
        places: where they go.
        journal: takes down each file that is whole.
        progress: counts them.
        workers: number of threads.
        with_digest: whether to compute digests.
    """

    def __init__(
        self,
        source: Source,
        places: Places,
        journal: Journal,
        progress: Progress,
        *,
        workers: int,
        with_digest: bool,
    ):
        self.records: dict[str, Record] = {}
        self._source = source
        self._places = places
        self._journal = journal
        self._progress = progress
        self._workers = 1 if source.ordered else workers
        self._with_digest = with_digest
        self._ladder = Ladder()
        self._tree = -1
        self._work: deque[_Work] = deque()
        self._large: list[LargeFile] = []
        self._stopped = threading.Event()
        self._error: BaseException | None = None

    def plan(self, entries: list[Entry]) -> int:
        """Take what is to be copied, and return the bytes of it that earlier tries left."""
        kept = 0
        batch: list[Entry] = []
        size = 0
        for entry in entries:
            if entry.size > CHUNK and not self._source.ordered and self._has_parts(entry):
                file = LargeFile(entry, self._places.large, self._with_digest)
                self._large.append(file)
                self._work.extend(_Chunk(file, index) for index in file.missing)
                kept += file.kept_bytes
                continue
            full = len(batch) >= _BATCH_FILES or size + entry.size > _BATCH_BYTES
            if batch and (full or parent_of(batch[0].path) != parent_of(entry.path)):
                self._work.append(batch)
                batch, size = [], 0
            batch.append(entry)
            size += entry.size
        if batch:
            self._work.append(batch)
        LargeFile.keep_only(self._large, self._places.large)
        return kept

    def run(self, tick: Callable[[], None]) -> None:
        """Copy what was planned.

        Args:
            tick: called now and then by this thread.

        Raises:
            StagingError: the first error; what is whole is in the journal.
        """
        self._tree = os.open(self._places.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        threads = [
            threading.Thread(target=self._worker, name=f"kappacore-stage-{number}", daemon=True)
            for number in range(min(self._workers, len(self._work)))
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_TICK)
                    tick()
        finally:
            self._stopped.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            for file in self._large:
                file.close(self._source)
            os.close(self._tree)
        if self._error is not None:
            raise self._error

    def _has_parts(self, entry: Entry) -> bool:
        try:
            content = self._source.open(entry)
        except Exception as error:
            self._explain(entry, error)
            raise
        self._source.release(content)
        return isinstance(content, Extent)

    def _worker(self) -> None:
        while not self._stopped.is_set():
            try:
                work = self._work.popleft()
            except IndexError:
                return
            try:
                if isinstance(work, _Chunk):
                    self._copy_chunk(work)
                else:
                    self._copy_batch(work)
            except _StoppedError:
                return
            except BaseException as error:  # handed to the thread that waits
                self._error = self._error or error
                self._stopped.set()
                return

    def _copy_batch(self, batch: list[Entry]) -> None:
        """Copy files of one folder."""
        done: list[tuple[str, Record]] = []
        folder = _open_folder(self._tree, parent_of(batch[0].path))
        try:
            for entry in batch:
                if self._stopped.is_set():
                    break
                try:
                    digest = self._copy(entry, folder)
                except Exception as error:
                    self._explain(entry, error)
                    raise
                done.append((entry.path, Record(entry.size, entry.mtime_ns, digest)))
        finally:
            os.close(folder)
            if done:
                self._journal.write(done)
                self.records.update(done)
                # The bytes of a long file were counted as they moved.
                sizes = [record.size for _, record in done if record.size <= _BATCH_BYTES]
                self._progress.add(len(done), sum(sizes))

    def _copy(self, entry: Entry, folder: int) -> str | None:
        """Copy a file and return its digest."""
        name = entry.path.rpartition("/")[2]
        content = self._source.open(entry)
        try:
            fd = os.open(name, _NEW_FILE, entry.mode | 0o600, dir_fd=folder)
            try:
                digest = self._move(entry, content, fd)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            except BaseException:
                os.unlink(name, dir_fd=folder)
                raise
            finally:
                os.close(fd)
        finally:
            self._source.release(content)
        return digest

    def _move(self, entry: Entry, content: Extent | Deflated | Stream, fd: int) -> str | None:
        moved = self._moved if entry.size > _BATCH_BYTES else None
        with_crc = entry.crc is not None
        if isinstance(content, Extent) and not with_crc and not self._with_digest:
            self._ladder.copy(content, fd, 0, moved)
            return None
        sums = copy_summed(
            content, fd, 0, with_crc=with_crc, with_digest=self._with_digest, moved=moved
        )
        if sums.crc != entry.crc:
            raise DamagedError("its bytes do not have the CRC that the archive gives")
        if sums.digest is not None:
            return digest_text(sums.digest)
        return crc_text(sums.crc) if sums.crc is not None else None

    def _copy_chunk(self, chunk: _Chunk) -> None:
        file, entry = chunk.file, chunk.file.entry
        try:
            record = file.copy(chunk.number, self._source, self._ladder, self._moved)
        except Exception as error:
            if isinstance(error, DamagedError):
                file.forget()
            self._explain(entry, error)
            raise
        if record is not None:
            self._journal.write([(entry.path, record)])
            folder = _open_folder(self._tree, parent_of(entry.path))
            try:
                file.move(folder)
            finally:
                os.close(folder)
            file.close(self._source)
            self.records[entry.path] = record
            self._progress.add(1, 0)

    def _explain(self, entry: Entry, error: Exception) -> None:
        """Raise what an error of one file means to the user, unless that is clear already."""
        place = f"'{entry.path}' of '{self._source.path}'"
        if isinstance(error, (TooShortError, FileNotFoundError, IsADirectoryError)) or (
            isinstance(error, OSError) and error.errno == errno.ESTALE
        ):
            why = error.strerror or error if isinstance(error, OSError) else error
            raise SourceChangedError(
                f"{place} changed while it was copied: {why}. Stage again when nobody writes to "
                f"the source any more; what was copied is kept."
            ) from error
        if isinstance(error, (DamagedError, EOFError, zlib.error, gzip.BadGzipFile)):
            raise StagingError(
                f"{place} is damaged: {error}. Copy or pack the archive again; what was extracted "
                f"is kept."
            ) from error
        if isinstance(error, OSError) and not isinstance(error, KappaError):
            if error.errno in NO_SPACE:
                raise error
            raise StagingError(
                f"{place} cannot be copied: {error.strerror}. What was copied is kept for the next "
                f"try."
            ) from error

    def _moved(self, size: int) -> None:
        self._progress.add(0, size)
        if self._stopped.is_set():
            raise _StoppedError


def _open_folder(root: int, path: str) -> int:
    """Open a folder below a descriptor, following no link on the way."""
    fd = os.dup(root)
    for part in path.split("/") if path else ():
        try:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd
