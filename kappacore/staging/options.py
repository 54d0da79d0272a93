"""The options of staging, checked before anything is touched."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, get_args

from kappacore.errors import InvalidOptionError
from kappacore.staging.sources.archive_safety import ArchiveLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.staging.progress import StageProgress

__all__ = ["Options", "Verify", "as_path", "default_workers", "relative_parts"]

Verify = Literal["none", "size", "hash", "reread"]


@dataclass(frozen=True)
class Options:
    """What :func:`kappacore.stage` takes besides source and target; see there."""

    verify: Verify = "size"
    workers: int | None = None
    progress: bool | Callable[[StageProgress], None] | None = None
    timeout: float | None = None
    recheck: bool = False
    limits: ArchiveLimits = field(default_factory=ArchiveLimits)

    def __post_init__(self) -> None:
        if self.verify not in get_args(Verify):
            raise InvalidOptionError(
                f"verify={self.verify!r} is unknown. Use 'none', 'size', 'hash' (digests of what "
                f"was read go into the manifest) or 'reread' (and what lies on the disk is "
                f"compared with them)."
            )
        workers = self.workers
        if workers is not None and (
            isinstance(workers, bool) or not isinstance(workers, int) or workers < 1
        ):
            raise InvalidOptionError(
                f"workers={workers!r} is no number of threads. Give a positive integer, or None."
            )
        timeout = self.timeout
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout >= 0):
            raise InvalidOptionError(
                f"timeout={timeout!r} is no number of seconds. Give one, or None to wait as long "
                f"as it takes."
            )
        if not isinstance(self.limits, ArchiveLimits):
            raise InvalidOptionError(
                f"limits={self.limits!r} are no limits of an archive. Give ArchiveLimits(…) "
                f"of kappacore.staging."
            )

    @property
    def threads(self) -> int:
        """The number of threads that copy."""
        return self.workers or default_workers()

    @property
    def with_digest(self) -> bool:
        """Whether digests are computed."""
        return self.verify in ("hash", "reread")


def default_workers() -> int:
    """Return how many threads copy: more than there are CPUs, for they wait on storage."""
    return min(32, 4 + 2 * len(os.sched_getaffinity(0)))


def as_path(value: str | os.PathLike[str], option: str) -> Path:
    """Return a path with ``~`` expanded.

    Raises:
        InvalidOptionError: if it is none; the empty text is none, as of a variable that is not set.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise InvalidOptionError(
            f"{option}={value!r} is no path. Give that of a folder or file; the current folder is "
            f"'.'."
        )
    return Path(value).expanduser()


def relative_parts(relative: str | os.PathLike[str] | None) -> Path:
    """Return the part of a dataset that is asked for, as a relative path; ``.`` is all of it.

    Raises:
        InvalidOptionError: if it is no path, or leads out of the dataset.
    """
    if relative is None:
        return Path()
    if not isinstance(relative, (str, os.PathLike)):
        raise InvalidOptionError(
            f"relative={relative!r} is no path. Give one below the dataset, such as 'train'."
        )
    path = PurePosixPath(os.fspath(relative))
    if path.is_absolute() or ".." in path.parts:
        raise InvalidOptionError(
            f"relative={os.fspath(relative)!r} leads out of the dataset. Give a path below it, "
            f"such as 'train'."
        )
    return Path(path)
