"""Comparing a staged folder with its manifest."""

from __future__ import annotations

import os
import stat
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kappacore._printable import printable_errors
from kappacore.errors import StagingError
from kappacore.staging.copying.contents import sums_of_file
from kappacore.staging.copying.digests import sums_in
from kappacore.staging.options import Options, as_path, resolved
from kappacore.staging.progress import Progress, display
from kappacore.staging.target.manifest import read_manifest, same_time
from kappacore.staging.target.paths import MANIFEST, UNFINISHED, is_bookkeeping
from kappacore.staging.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from pathlib import Path

    from kappacore.staging.progress import StageProgress
    from kappacore.staging.target.manifest import FileRecord

_BATCH = 64  # files


@dataclass(frozen=True)
class Problem:
    """A file that differs from the manifest.

    Attributes:
        path: Its path in the folder.
        what: How it differs, such as ``"is missing"``.
    """

    path: str
    what: str


@dataclass(frozen=True)
class CheckReport:
    """The result of checking a staged folder.

    Attributes:
        path: The folder.
        files: Number of files in the manifest.
        bytes: Their bytes.
        digests: Number of files for which the manifest has a digest or CRC; they were read and
            compared. Of the others, only size and time were compared.
        problems: The files that differ from the manifest.
        extra: Files in the folder that the manifest does not list.
    """

    path: Path
    files: int
    bytes: int
    digests: int
    problems: tuple[Problem, ...]
    extra: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all listed files are as in the manifest."""
        return not self.problems


@printable_errors()
def check_staged(
    target: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: bool | Callable[[StageProgress], None] | None = None,
) -> CheckReport:
    """Compare a staged folder with its manifest; nothing is changed.

    Files with a digest in the manifest are read from the disk, not from the page cache: after
    ``verify="hash"`` or ``"reread"``, and always for zip files.

    Args:
        target: The folder.
        workers: Number of threads; None: chosen by the number of CPUs.
        progress: See :func:`kappacore.stage`.

    Raises:
        StagingError: If the folder has no complete manifest.
        InvalidOptionError: If an option is invalid.
    """
    root = resolved(as_path(target, "target"))
    threads = Options(workers=workers).threads
    try:
        unfinished = os.path.lexists(root / UNFINISHED)
        found = read_manifest(root / MANIFEST)
    except OSError as error:
        raise StagingError(
            f"cannot check '{root}': {error.strerror} ('{error.filename}'). It must be a folder "
            f"that you can read."
        ) from error
    if found is None or unfinished:
        state = "is unfinished" if unfinished else "has no manifest"
        raise StagingError(
            f"'{root}' {state}, so there is nothing to check it against. Stage it with "
            f"`kappacore stage SRC '{root}'`; a folder that was copied by hand cannot be checked."
        )
    if found.summary is None:
        raise StagingError(
            f"the manifest of '{root}' is damaged, so there is nothing to check it against. Stage "
            f"it again, which repairs it."
        )
    size = sum(record.size for record in found.files.values())
    counts = Progress(len(found.files), size)
    with display(counts, progress, f"Checking {root.name}") as tick:
        problems = tuple(problems_in(root, found.files, threads, counts, tick))
    return CheckReport(
        root,
        len(found.files),
        size,
        sum(record.digest is not None for record in found.files.values()),
        problems,
        tuple(_extra_files(root, found.files)),
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
    """Yield the files below ``root`` that differ from their records.

    Args:
        root: The folder.
        files: Their records.
        workers: Number of threads.
        counts: Counts the files that are done.
        tick: Called now and then.
        contents: False: only sizes are compared.
    """
    items = list(files.items())

    def check(start: int) -> list[Problem]:
        found = []
        for path, record in items[start : start + _BATCH]:
            if (what := _problem_of(f"{root}/{path}", record, contents)) is not None:
                found.append(Problem(path, what))
            if counts is not None:
                counts.add(1, record.size)
        return found

    starts = range(0, len(items), _BATCH)
    # Reading contents keeps threads busy; asking for sizes does only where it is waiting.
    waiting = Waiting(workers, "kappacore-check")
    waiting.found = contents
    with closing(waiting):
        for found in waiting.map(check, starts):
            tick()
            yield from found


def _problem_of(path: str, record: FileRecord, contents: bool) -> str | None:
    try:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode):
            return "is not a file"
        if info.st_size != record.size:
            return f"has {info.st_size} bytes instead of {record.size}"
        if not contents:
            return None
        if record.digest is None:
            same = same_time(info.st_mtime_ns, record.mtime_ns)
            return None if same else "was written to since it was staged"
        known = sums_in(record.digest)
        with_digest = known.digest is not None
        found = sums_of_file(path, with_crc=not with_digest, with_digest=with_digest)
        same = found.digest == known.digest if with_digest else found.crc == known.crc
    except (FileNotFoundError, NotADirectoryError):
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if same else "has other content"


def _extra_files(root: Path, files: Container[str]) -> Iterator[str]:
    folders = [""]
    while folders:
        folder = folders.pop()
        with suppress(PermissionError), os.scandir(f"{root}/{folder}") as found:
            for item in found:
                path = f"{folder}/{item.name}" if folder else item.name
                if is_bookkeeping(item.name):
                    continue
                if item.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif path not in files:
                    yield path
