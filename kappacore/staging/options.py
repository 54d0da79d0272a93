"""The options of staging, checked before anything is touched."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, get_args

from kappacore._printable import printable
from kappacore.errors import InvalidOptionError, StagingError
from kappacore.staging.sources.archive_safety import ArchiveLimits
from kappacore.staging.sources.exclude import parts_of_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.staging.progress import StageProgress

logger = logging.getLogger("kappacore.staging")

Verify = Literal["none", "size", "hash", "reread"]


@dataclass(frozen=True)
class Options:
    """The options of :func:`kappacore.stage`; see there."""

    verify: Verify = "size"
    workers: int | None = None
    progress: bool | Callable[[StageProgress], None] | None = None
    log: Callable[[str], Any] | None = None
    timeout: float | None = None
    recheck: bool = False
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    exclude: tuple[str, ...] = ()
    part: str = ""  # of the dataset, which the patterns are of

    def __post_init__(self) -> None:
        checks = {
            f"verify={self.verify!r} is unknown. Use 'none', 'size', 'hash' (the manifest stores "
            f"digests of what was read) or 'reread' (and the files on the disk are compared with "
            f"them).": self.verify in get_args(Verify),
            f"workers={self.workers!r} is not a number of threads. Give an integer from 1 to "
            f"1000, or None.": self.workers is None
            or (type(self.workers) is int and 0 < self.workers <= 1000),
            f"log={self.log!r} cannot be called. Give a function of one line, such as print or a "
            f"logger's info.": self.log is None or callable(self.log),
            f"timeout={self.timeout!r} is not a number of seconds. Give one, or None to wait as "
            f"long as it takes.": self.timeout is None
            or (isinstance(self.timeout, (int, float)) and self.timeout >= 0),
            f"recheck={self.recheck!r} is neither True nor False.": isinstance(self.recheck, bool),
            f"progress={self.progress!r} is neither True, False, None nor a function of a "
            f"StageProgress.": self.progress is None
            or isinstance(self.progress, bool)
            or callable(self.progress),
            f"limits={self.limits!r} are not limits of an archive. Give ArchiveLimits(…) of "
            f"kappacore.staging.": isinstance(self.limits, ArchiveLimits),
        }
        for message, valid in checks.items():
            if not valid:
                raise InvalidOptionError(message)

    @property
    def threads(self) -> int:
        """The number of threads: more than CPUs, because they wait on storage."""
        return self.workers or min(32, 4 + 2 * len(os.sched_getaffinity(0)))

    @property
    def processes(self) -> int:
        """The number of processes."""
        return self.workers or len(os.sched_getaffinity(0))

    @property
    def waiting_threads(self) -> int:
        """The number of threads where each of them mostly waits."""
        return self.workers or 64

    @property
    def with_digest(self) -> bool:
        """Whether digests are computed."""
        return self.verify in ("hash", "reread")

    def report(self, line: str) -> None:
        """Log a line, and pass it to the caller's ``log``."""
        line = printable(line)
        logger.info("%s", line)
        if self.log is not None:
            self.log(line)


def as_patterns(exclude: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the patterns of ``exclude=``, sorted.

    Raises:
        InvalidOptionError: If one of them is no pattern.
    """
    patterns = [exclude] if isinstance(exclude, str) else exclude or []
    if not isinstance(patterns, Iterable) or not all(map(_is_pattern, patterns := [*patterns])):
        raise InvalidOptionError(
            f"exclude={exclude!r} is not a pattern, or a list of them. Give some such as '*.tmp' "
            f"or 'train/masks'."
        )
    return tuple(sorted(set(patterns)))


def _is_pattern(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    parts = parts_of_path(value)
    return parts != [] and ".." not in parts


def as_path(value: str | os.PathLike[str], option: str) -> Path:
    """Return a path with ``~`` expanded.

    Raises:
        InvalidOptionError: If it is not a path, or is empty, such as an unset variable.
    """
    text = _text_of(value)
    if not text:
        raise InvalidOptionError(
            f"{option}={value!r} is not a path. Give that of a folder or file; the current folder "
            f"is '.'."
        )
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InvalidOptionError(
            f"{option}={value!r} begins with the home of a user that does not exist. Give the path "
            f"of a folder or file; './~…' if it is called so."
        ) from None


def _text_of(value: object) -> str | None:
    """Return a path as text; None if it is none."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str) or "\0" in text:
        return None
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # a character that file systems have no bytes for
        return None
    return text


def resolved(path: Path) -> Path:
    """Return a path from the root, without links.

    Raises:
        StagingError: If it is relative to a current folder that was removed.
    """
    try:
        return Path(os.path.realpath(path))
    except FileNotFoundError:
        raise StagingError(
            f"'{path}' is relative, and the current folder is gone. Give a path that begins with "
            f"a slash, or go to another folder."
        ) from None


def checked_relative(relative: str | os.PathLike[str] | None) -> Path:
    """Return the part of a dataset to stage, as a relative path; ``.`` is all of it.

    Raises:
        InvalidOptionError: If it is not a path, or leads out of the dataset.
    """
    text = "" if relative is None else _text_of(relative)
    if text is None:
        raise InvalidOptionError(
            f"relative={relative!r} is not a path. Give one below the dataset, such as 'train'."
        )
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        raise InvalidOptionError(
            f"relative={os.fspath(path)!r} leads out of the dataset. Give a path below it, such "
            f"as 'train'."
        )
    return Path(path)
