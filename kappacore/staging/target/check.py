"""Comparing a staged folder with its manifest."""

from __future__ import annotations

import os
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kappacore.errors import StagingError
from kappacore.staging.copying.digests import ContentDigest, crc_text, digest_text
from kappacore.staging.options import as_path, default_workers
from kappacore.staging.progress import Progress, display
from kappacore.staging.target.manifest import read_manifest
from kappacore.staging.target.paths import MANIFEST, UNFINISHED, is_bookkeeping
from kappacore.staging.target.work_folder import same_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kappacore.staging.progress import StageProgress
    from kappacore.staging.target.manifest import FileRecord

__all__ = ["CheckReport", "Problem", "check_staged", "problems_in"]

_BLOCK = 1 << 20
_BATCH = 64


@dataclass(frozen=True)
class Problem:
    """One file that is not as the manifest has it."""

    path: str
    what: str


@dataclass(frozen=True)
class CheckReport:
    """What was found in a staged folder.

    Attributes:
        path: the folder.
        files: number of files that the manifest lists.
        bytes: their bytes.
        digests: how many of them the manifest has a digest or CRC of, and were read and compared;
            of the others only size and time were.
        problems: the files that are not as the manifest has them.
        extra: files in the folder that the manifest does not list.
    """

    path: Path
    files: int
    bytes: int
    digests: int
    problems: tuple[Problem, ...]
    extra: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all listed files are as the manifest has them."""
        return not self.problems


def check_staged(
    target: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: bool | Callable[[StageProgress], None] | None = None,
) -> CheckReport:
    """Compare a staged folder with its manifest; nothing is changed.

    Files are read from the disk, not from the page cache, where the manifest has a digest of them:
    after ``verify="hash"`` or ``"reread"``, and for zip files always.

    Args:
        target: the folder.
        workers: number of threads; None: chosen by the number of CPUs.
        progress: see :func:`kappacore.stage`.

    Raises:
        StagingError: if the folder has no whole manifest.
        InvalidOptionError: if ``target`` is no path.
    """
    root = as_path(target, "target").resolve()
    path = root / MANIFEST
    if not path.is_file() or (root / UNFINISHED).exists():
        state = "is unfinished" if (root / UNFINISHED).exists() else "has no manifest"
        raise StagingError(
            f"'{root}' {state}, so there is nothing to check it against. Stage it with "
            f"`kappacore stage SRC '{root}'`; a folder that was copied by hand cannot be checked."
        )
    found = read_manifest(path)
    if found.summary is None:
        raise StagingError(
            f"the manifest of '{root}' is damaged, so there is nothing to check it against. Stage "
            f"it again, which repairs it."
        )
    counts = Progress(len(found.files), sum(record.size for record in found.files.values()))
    with display(counts, progress, f"(checking) {root.name}") as tick:
        problems = tuple(problems_in(root, found.files, workers or default_workers(), counts, tick))
    return CheckReport(
        root,
        len(found.files),
        counts.total_bytes,
        sum(record.digest is not None for record in found.files.values()),
        problems,
        tuple(_extra(root, found.files)),
    )


def problems_in(
    root: Path,
    files: dict[str, FileRecord],
    workers: int,
    counts: Progress | None = None,
    tick: Callable[[], None] = lambda: None,
    *,
    contents: bool = True,
) -> Iterator[Problem]:
    """Give the files below ``root`` that are not as their records say.

    Args:
        root: the folder.
        files: their records.
        workers: number of threads.
        counts: counts the files that are done.
        tick: called now and then.
        contents: False: only sizes are compared.
    """
    items = list(files.items())

    def problems(start: int) -> list[Problem]:
        found = []
        for path, record in items[start : start + _BATCH]:
            if (what := _problem_of(f"{root}/{path}", record, contents)) is not None:
                found.append(Problem(path, what))
            if counts is not None:
                counts.add(1, record.size)
        return found

    with ThreadPoolExecutor(workers, "kappacore-check") as pool:
        for found in pool.map(problems, range(0, len(items), _BATCH)):
            tick()
            yield from found


def _problem_of(path: str, record: FileRecord, contents: bool) -> str | None:
    try:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode):
            return "is no file"
        if info.st_size != record.size:
            return f"has {info.st_size} bytes instead of {record.size}"
        if not contents:
            return None
        if record.digest is None:
            same = same_time(info.st_mtime_ns, record.mtime_ns)
            return None if same else "was written to since it was staged"
        same = _digest_of(path, record.digest) == record.digest
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if same else "has other content"


def _digest_of(path: str, like: str) -> str:
    """Return the digest of what the disk, not the page cache, has of a file."""
    buffer = memoryview(bytearray(_BLOCK))
    digest, crc = ContentDigest(), 0
    with_crc = like.startswith("crc32:")
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        while count := os.readv(fd, [buffer]):
            if with_crc:
                crc = zlib.crc32(buffer[:count], crc)
            else:
                digest.update(buffer[:count])
    finally:
        os.close(fd)
    return crc_text(crc) if with_crc else digest_text(digest.value())


def _extra(root: Path, files: dict[str, FileRecord]) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not is_bookkeeping(name)]
        prefix = os.path.relpath(folder, root)
        for name in names:
            path = name if prefix == "." else f"{prefix}/{name}"
            if not is_bookkeeping(name) and path not in files:
                yield path
