"""``stage``: copy a dataset from global storage to the local disk, once, however often called."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kappacore._printable import printable, printable_errors
from kappacore.errors import KappaError, NotEnoughSpaceError, StagingError
from kappacore.machine.system import NO_SPACE
from kappacore.staging.found import is_the_dataset
from kappacore.staging.options import Options, as_path, as_patterns, checked_relative, resolved
from kappacore.staging.run import StageResult, is_still_complete, run
from kappacore.staging.sources.archive_safety import ArchiveLimits
from kappacore.staging.sources.find import find_source, without_suffix
from kappacore.staging.sources.stamps import stamp_of
from kappacore.staging.target.lock import release_lock, target_lock, wait_until_free
from kappacore.staging.target.paths import StagePaths, has_work
from kappacore.staging.target.state import Status, TargetState, inspect_target
from kappacore.staging.target.work_folder import remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from kappacore.staging.options import Verify
    from kappacore.staging.progress import StageProgress

logger = logging.getLogger("kappacore.staging")


@printable_errors()
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
    exclude: str | Iterable[str] | None = None,
) -> StageResult:
    """Copy a dataset to the local disk, unless it is there.

    Every rank of every job may call this when it starts: one process copies, the others wait, and
    all return when the complete dataset is there. It appears all at once. A copy that was killed is
    continued. Once the dataset is there, a call takes about a millisecond, however many files it
    has: it trusts the manifest in the target, and compares only the source's size and time (of an
    archive) or the time of its top folder, which changes when something is added or removed there.

    Args:
        source: A folder, or a zip or tar file, recognised by content; the suffix may be omitted. A
            tar file may be compressed (gz, zst, xz, bz2). A folder that contains only zip files is
            extracted to folders.
        target: The folder for the dataset, on a local disk. Files that staging did not put there
            are left as they are.
        relative: A part of the dataset, such as ``"train"``: ``source/train`` is copied to
            ``target/train``. Staging the whole later completes it.
        verify: ``"none"``; ``"size"``: sizes are compared, and the source is listed again to see
            whether it has changed meanwhile; ``"hash"``: also, the manifest stores digests of what
            was read, for :func:`kappacore.staging.check_staged`; ``"reread"``: also, the files on
            the disk are read back and compared with them. CRCs of zip files are always checked.
        workers: Number of processes where files are small and many, and of threads otherwise; None:
            chosen by the number of CPUs.
        progress: None: a bar if there is a terminal, else a line after two seconds and then one a
            minute; True: a bar; False: nothing; a function: called about ten times a second with a
            :class:`~kappacore.staging.StageProgress`.
        log: Called with a line about each step.
        timeout: Seconds to wait for another process that stages to this target; None: as long as
            it lives.
        recheck: Do not trust the manifest: compare source and target file by file, with their
            contents if there are digests, and copy what differs or is missing.
        limits: The most an archive may contain.
        exclude: Patterns of files and folders to leave out, such as ``"*.tmp"`` (a name, at every
            level) or ``"train/masks"`` (a path in the whole dataset, also where a part is staged).
            Each call should give the same.

    Returns:
        What was done; it is path-like, with the path of the dataset.

    Raises:
        StagingError: If the dataset is not there in the end; the message says why. Nothing that
            was not staged is ever removed or overwritten.
        StagingTimeoutError: If ``timeout`` passed; names the holder of the lock.
        NotEnoughSpaceError: If the disk was or became full.
        SourceChangedError: If the source changed while it was copied.
        UnsafeArchiveError: If an archive has members that lead elsewhere, or is a bomb.
        InvalidOptionError: If an option is invalid.

    Example::

        train = kappacore.stage("/global/imagenet", "/local/imagenet", relative="train")
        dataset = kappacore.load_dataset("imagefolder", root=train)
    """
    part = checked_relative(relative)
    part = part.with_name(without_suffix(part.name)) if part.name else part
    options = Options(
        verify,
        workers,
        progress,
        log,
        timeout,
        recheck,
        limits or ArchiveLimits(),
        as_patterns(exclude),
        part.as_posix(),
    )
    wanted = as_path(source, "source") / part
    folder = resolved(as_path(target, "target") / part)
    started = time.monotonic()
    if folder == folder.parent:
        raise StagingError(f"'{folder}' is the root of all file systems. Choose a folder in it.")
    with os_errors_explained(folder):
        result = _stage(wanted, folder, options)
    return dataclasses.replace(result, seconds=time.monotonic() - started)


def _stage(wanted: Path, target: Path, options: Options) -> StageResult:
    source = find_source(wanted)
    if source is not None:
        _check_apart(source, target)
    state = inspect_target(target)
    if (result := _ready(state, source, target, options)) is not None:
        if has_work(target):  # left by a kill after publishing
            remove_leftovers(target)
        return result
    if source is None:
        raise StagingError(
            f"there is no source '{wanted}', neither a folder nor an archive (.zip, .tar, "
            f".tar.gz, …), and '{target}' is not complete. Is the storage mounted?"
        )
    if state.above is not None:  # the folder above may be being completed right now
        wait_until_free(StagePaths(state.above), timeout=options.timeout, log=options.report)
    paths = StagePaths(target)
    if (
        state.status is Status.COMPLETE
        and not (options.recheck or os.access(paths.lock.parent, os.W_OK))
        and (result := is_still_complete(source, paths, options)) is not None
    ):
        return result
    with target_lock(paths, str(source), timeout=options.timeout, log=options.report) as lock:
        try:
            state = inspect_target(target)  # another process may have completed it
            return _ready(state, source, target, options) or run(source, paths, state, options)
        except KeyboardInterrupt:
            logger.warning(
                "interrupted: what was copied is kept in '%s'; stage again to continue",
                printable(str(paths.work)),
            )
            raise
        finally:
            release_lock(paths, lock)


def _ready(
    state: TargetState, source: Path | None, target: Path, options: Options
) -> StageResult | None:
    """Return the result if nothing is to be done."""
    if state.status is Status.COMPLETE and state.summary is not None and not options.recheck:
        summary = state.summary
        if source is not None and (
            summary["source"] != os.fspath(source)
            or summary["stamp"] != stamp_of(source, summary["kind"])
            or summary.get("exclude", []) != list(options.exclude)
        ):
            return None
        options.report(f"using '{target}', which is complete")
        return StageResult(target, files=summary["files"], bytes=summary["bytes"])
    if state.status is Status.KAPPADATA:
        options.report(f"using '{target}', which KappaData copied")
    elif is_the_dataset(state, source, target, options):
        why = f"it is part of '{state.above}'" if state.above else "staging did not put it there"
        options.report(f"using '{target}' as it is: {why}")
    else:
        return None
    return StageResult(target, found=True)


def _check_apart(source: Path, target: Path) -> None:
    if source == target or source in target.parents or target in source.parents:
        raise StagingError(
            f"source '{source}' and target '{target}' contain each other. Choose another target."
        )


@contextmanager
def os_errors_explained(target: Path) -> Iterator[None]:
    """Turn errors of the operating system into ones that say what to do."""
    try:
        yield
    except KappaError:
        raise
    except OSError as error:
        if error.errno in NO_SPACE:
            raise NotEnoughSpaceError(
                f"the disk of '{target}' is full ({error.strerror}); nothing was published, and "
                f"what was copied is kept in '{StagePaths(target).work}'. Free space, then stage "
                f"again."
            ) from error
        if error.errno == errno.EXDEV:
            raise StagingError(
                f"cannot stage to '{target}': a disk is mounted within it ('{error.filename2}' is "
                f"not on that of '{error.filename}'). Stage each part that has a disk of its own "
                f"separately (relative=), or choose another target."
            ) from error
        path = f" ('{error.filename}')" if error.filename else ""
        raise StagingError(
            f"cannot stage to '{target}': {error.strerror}{path}. The source must be readable, "
            f"and the target a folder that you can write to or a path where you can make one."
        ) from error
