"""``stage``: a dataset from global storage to the local disk, once, whoever calls it how often."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappacore.errors import (
    InvalidOptionError,
    KappaError,
    NotEnoughSpaceError,
    StagingError,
)
from kappacore.machine.system import NO_SPACE
from kappacore.staging.options import Options, as_path, relative_parts
from kappacore.staging.result import StageResult
from kappacore.staging.sources.find import find_source, stamp_of, without_suffix
from kappacore.staging.target.paths import has_work, places_of
from kappacore.staging.target.state import Look, State, look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kappacore.staging.options import Verify
    from kappacore.staging.progress import StageProgress
    from kappacore.staging.sources.archive_safety import ArchiveLimits
    from kappacore.staging.target.paths import Places

__all__ = ["stage"]

logger = logging.getLogger("kappacore.staging")


def stage(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    relative: str | os.PathLike[str] | None = None,
    verify: Verify = "size",
    workers: int | None = None,
    progress: bool | Callable[[StageProgress], None] | None = None,
    log: Callable[[str], Any] | None = None,
    timeout: float | None = None,
    recheck: bool = False,
    limits: ArchiveLimits | None = None,
) -> StageResult:
    """Bring a dataset to the local disk, unless it is there.

    Every rank of every job may call this when it starts: one process copies, the others wait, and
    all return when the whole dataset is there. It appears all at once. A copy that was killed goes
    on where it was. Once it is there, a call takes about a millisecond, however many files it has:
    it trusts the manifest in the target, and compares of the source what one look tells (an
    archive's size and time; of a folder, whether something was added or removed at its top).

    Args:
        source: a folder, or a zip, tar or tar.gz file, told by content; without the suffix, too.
            A folder that holds only zip files comes out as folders.
        target: the folder that the dataset is to be in, on a local disk. What is there and was not
            put there by staging is left as it is.
        relative: a part of it, such as ``"train"``: ``source/train`` comes to ``target/train``.
            Staging the whole later completes what is there.
        verify: ``"none"``; ``"size"``: sizes are compared, and the source is listed again to see
            whether it changed meanwhile; ``"hash"``: also, digests of what was read go into the
            manifest, for :func:`kappacore.staging.check_staged`; ``"reread"``: also, what lies on
            the disk is read back and compared with them. CRCs of zip files are always checked.
        workers: number of threads; None: chosen by the number of CPUs.
        progress: None: a bar where there is a terminal; True: a bar; False: none; a function:
            called about ten times a second with a :class:`~kappacore.staging.StageProgress`.
        log: called with a line about each thing that is done.
        timeout: seconds to wait for another process that stages to this target; None: as long as
            it lives.
        recheck: do not trust the manifest: compare source and target file by file, contents too
            where there are digests, and copy again what differs or is missing.
        limits: what an archive may hold at most.

    Returns:
        What was done; it is path-like, its path being that of the dataset.

    Raises:
        StagingError: if the dataset is not there in the end; the message says why. Nothing that
            was not staged is ever removed or overwritten.
        StagingTimeoutError: if ``timeout`` passed; says who holds the lock.
        NotEnoughSpaceError: if the disk is or became full.
        SourceChangedError: if the source changed while it was copied.
        UnsafeArchiveError: if an archive has members that lead elsewhere, or is a bomb.
        InvalidOptionError: if an option cannot be used.

    Example::

        train = kappacore.stage("/global/imagenet", "/local/imagenet", relative="train")
        dataset = kappacore.load_dataset("imagefolder", root=train)
    """
    from kappacore.staging.sources.archive_safety import ArchiveLimits

    options = Options(verify, workers, progress, timeout, recheck, limits or ArchiveLimits())
    part = relative_parts(relative)
    part = part.with_name(without_suffix(part.name)) if part.name else part
    asked = as_path(source, "source") / part
    place = Path(os.path.realpath(as_path(target, "target") / part))
    started = time.monotonic()
    with _explained(place):
        result = _stage(asked, place, options, _speaker(log))
    seconds = time.monotonic() - started
    return dataclasses.replace(result, seconds=seconds)


def _stage(asked: Path, target: Path, options: Options, log: Callable[[str], None]) -> StageResult:
    look = look_at(target)
    if (result := _ready(look, asked, target, options, log)) is not None:
        if has_work(target):  # a kill after publishing left it
            from kappacore.staging.target.work_folder import tidy

            tidy(places_of(target))
        return result
    source = _source_for(asked, target)
    from kappacore.staging.target.lock import held, let_go, wait_until_free

    if look.above is not None:  # whoever completes the folder above may be at it now
        wait_until_free(places_of(look.above), timeout=options.timeout, log=log)
    places = places_of(target)
    with held(places, str(source), timeout=options.timeout, log=log) as lock:
        try:
            return _bring(source, asked, places, options, log)
        finally:
            let_go(places, lock)


def _bring(
    source: Path, asked: Path, places: Places, options: Options, log: Callable[[str], None]
) -> StageResult:
    """Bring the dataset, its lock being held, unless another process has done so meanwhile."""
    look = look_at(places.target)
    if (result := _ready(look, asked, places.target, options, log)) is not None:
        return result
    from kappacore.staging.run import bring

    try:
        return bring(source, places, look, options, log)
    except KeyboardInterrupt:
        logger.warning(
            "interrupted: what was copied is kept in '%s'; stage again to go on from there",
            places.work,
        )
        raise


def _ready(
    look: Look, asked: Path, target: Path, options: Options, log: Callable[[str], None]
) -> StageResult | None:
    """Return the result if nothing is to be done."""
    if look.state is State.COMPLETE and look.summary is not None and not options.recheck:
        source = find_source(asked)
        summary = look.summary
        if source is not None and not _is_current(summary, source):
            return None
        log(f"using '{target}', which is complete")
        return StageResult(target, files=summary["files"], bytes=summary["bytes"])
    if look.state is State.KAPPADATA:
        log(f"using '{target}', which KappaData copied")
        return StageResult(target, found=True)
    if look.state is State.FOUND:
        why = f"it is part of '{look.above}'" if look.above else "it was not put there by staging"
        log(f"using '{target}' as it is: {why}")
        return StageResult(target, found=True)
    return None


def _is_current(summary: dict[str, Any], source: Path) -> bool:
    if summary["source"] != os.fspath(source):
        return False
    return bool(summary["stamp"] == stamp_of(source, summary["kind"]))


def _source_for(asked: Path, target: Path) -> Path:
    source = find_source(asked)
    if source is None:
        raise StagingError(
            f"there is no source '{asked}', neither a folder nor an archive (.zip, .tar, .tar.gz), "
            f"and '{target}' is not complete. Is the storage mounted?"
        )
    if source == target or source in target.parents or target in source.parents:
        raise StagingError(
            f"source '{source}' and target '{target}' lie in each other. Choose another target."
        )
    return source


@contextlib.contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Turn what the operating system says into what the user can do."""
    try:
        yield
    except KappaError:
        raise
    except OSError as error:
        if error.errno in NO_SPACE:
            work = places_of(target).work
            raise NotEnoughSpaceError(
                f"the disk of '{target}' is full ({error.strerror}); nothing was published, and "
                f"what was copied is kept in '{work}'. Free space, then stage again."
            ) from error
        if error.errno == errno.EXDEV:
            raise StagingError(
                f"cannot stage to '{target}': a disk is mounted within it ('{error.filename2}' is "
                f"not on that of '{error.filename}'). Stage each part that has a disk of its own "
                f"by itself (relative=), or choose another target."
            ) from error
        place = f" ('{error.filename}')" if error.filename else ""
        raise StagingError(
            f"cannot stage to '{target}': {error.strerror}{place}. The source must be readable, "
            f"and the target a folder that you can write to or a path where you can make one."
        ) from error


def _speaker(log: Callable[[str], Any] | None) -> Callable[[str], None]:
    if log is not None and not callable(log):
        raise InvalidOptionError(
            f"log={log!r} cannot be called. Give a function of one line, such as print or a "
            f"logger's info."
        )

    def say(line: str) -> None:
        logger.info("%s", line)
        if log is not None:
            log(line)

    return say
