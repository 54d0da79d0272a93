"""The options of staging, checked before anything is touched."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, get_args

from kappacore.errors import InvalidOptionError
from kappacore.staging.sources.archive_safety import ArchiveLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.staging.progress import StageProgress

__all__ = ["Options", "Verify", "as_path", "checked_relative", "default_workers"]

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

    def __post_init__(self) -> None:
        if self.verify not in get_args(Verify):
            raise InvalidOptionError(
                f"verify={self.verify!r} is unknown. Use 'none', 'size', 'hash' (the manifest "
                f"stores digests of what was read) or 'reread' (and the files on the disk are "
                f"compared with them)."
            )
        workers, timeout = self.workers, self.timeout
        if workers is not None and (
            isinstance(workers, bool) or not isinstance(workers, int) or workers < 1
        ):
            raise InvalidOptionError(
                f"workers={workers!r} is not a number of threads. Give a positive integer, or None."
            )
        if self.log is not None and not callable(self.log):
            raise InvalidOptionError(
                f"log={self.log!r} cannot be called. Give a function of one line, such as print "
                f"or a logger's info."
            )
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout >= 0):
            raise InvalidOptionError(
                f"timeout={timeout!r} is not a number of seconds. Give one, or None to wait as "
                f"long as it takes."
            )
        if not isinstance(self.limits, ArchiveLimits):
            raise InvalidOptionError(
                f"limits={self.limits!r} are not limits of an archive. Give ArchiveLimits(…) of "
                f"kappacore.staging."
            )

    @property
    def threads(self) -> int:
        """The number of threads that copy."""
        return self.workers or default_workers()

    @property
    def with_digest(self) -> bool:
        """Whether digests are computed."""
        return self.verify in ("hash", "reread")

    def report(self, line: str) -> None:
        """Log a line, and pass it to the caller's ``log``."""
        logger.info("%s", line)
        if self.log is not None:
            self.log(line)


def default_workers() -> int:
    """Return the default number of threads: more than CPUs, because they wait on storage."""
    return min(32, 4 + 2 * len(os.sched_getaffinity(0)))


def as_path(value: str | os.PathLike[str], option: str) -> Path:
    """Return a path with ``~`` expanded.

    Raises:
        InvalidOptionError: If it is not a path, or is empty, such as an unset variable.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise InvalidOptionError(
            f"{option}={value!r} is not a path. Give that of a folder or file; the current folder "
            f"is '.'."
        )
    return Path(value).expanduser()


def checked_relative(relative: str | os.PathLike[str] | None) -> Path:
    """Return the part of a dataset to stage, as a relative path; ``.`` is all of it.

    Raises:
        InvalidOptionError: If it is not a path, or leads out of the dataset.
    """
    if not isinstance(relative, (str, os.PathLike, type(None))):
        raise InvalidOptionError(
            f"relative={relative!r} is not a path. Give one below the dataset, such as 'train'."
        )
    path = PurePosixPath(relative or "")
    if path.is_absolute() or ".." in path.parts:
        raise InvalidOptionError(
            f"relative={os.fspath(path)!r} leads out of the dataset. Give a path below it, such "
            f"as 'train'."
        )
    return Path(path)
