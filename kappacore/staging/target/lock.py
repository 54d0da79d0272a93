"""One process at a time works on a target; the others wait and name the one they wait for.

The lock is the kernel's (flock), on the local disk beside the target: it is released the moment its
holder ends, for whatever reason.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import io
import os
import socket
import stat
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from kappacore.errors import StagingError, StagingTimeoutError, StorageError
from kappacore.machine.locks import check_locks, flock, is_at, seen_holders, try_lock
from kappacore.machine.system import opened
from kappacore.staging.target.own_files import check_own, open_own, read_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kappacore.staging.target.paths import StagePaths

_LOG_AGAIN = 60.0  # seconds
_POLL = 0.05  # seconds
# Locks on other users' files. As with all locks, a forked child must not hold its parent's.
_others: weakref.WeakSet[io.FileIO] = weakref.WeakSet()


def _close_inherited() -> None:
    for lock in list(_others):
        lock.close()


os.register_at_fork(after_in_child=_close_inherited)


def target_lock(
    paths: StagePaths, source: str, *, timeout: float | None, log: Callable[[str], None]
) -> io.FileIO:
    """Lock a target, after waiting for the current holder.

    Args:
        paths: Those of the target; the folder around the lock is made.
        source: What is staged, for those who wait.
        timeout: Seconds to wait at most; None: as long as the holder lives.
        log: Called with a line when waiting begins, and every minute.

    Returns:
        The lock, for a ``with`` statement, which releases it in any case; the last statement in it
        should be :func:`release_lock`.

    Raises:
        StagingError: If the file system has no locks, or the lock is a link or another user's.
        StagingTimeoutError: If the lock was not free in time; names its holder.
    """
    lock = _wait(paths, timeout, log)
    try:
        _write_holder(paths.holder, source)
    except BaseException:
        lock.close()
        raise
    return lock


def release_lock(paths: StagePaths, lock: io.FileIO) -> None:
    """Remove the note of who holds the lock of a target, and release the lock."""
    if lock.closed:  # in a forked child: the lock is its parent's
        return
    try:
        with suppress(PermissionError):  # another user's
            paths.holder.unlink(missing_ok=True)
    finally:
        # Explicitly, not by closing: a process that Python did not fork may have it open.
        fcntl.flock(lock, fcntl.LOCK_UN)


def wait_until_free(
    paths: StagePaths, *, timeout: float | None, log: Callable[[str], None]
) -> None:
    """Wait until nobody holds the lock of a target; see :func:`target_lock`."""
    with _wait(paths, timeout, log):
        pass


def _wait(paths: StagePaths, timeout: float | None, log: Callable[[str], None]) -> io.FileIO:
    started = time.monotonic()
    log_at = 0.0
    while (lock := _try(paths)) is None:
        waited = time.monotonic() - started
        if timeout is not None and waited >= timeout:
            raise StagingTimeoutError(
                f"waited {waited:.0f} s for '{paths.target}': {_describe(paths)}. Wait "
                f"longer (timeout=), or end that process; what it copied is kept."
            )
        if waited >= log_at:
            log(f"waiting for '{paths.target}': {_describe(paths)}")
            log_at = waited + _LOG_AGAIN
        time.sleep(_POLL if timeout is None else min(_POLL, timeout - waited))
    return lock


def _try(paths: StagePaths) -> io.FileIO | None:
    """Return the lock of a target; None if another process or thread works on it."""
    lock = _try_file(paths)
    if lock is None:
        return None
    try:
        _open_to_all(lock)
        in_use = is_in_use(paths)  # by one whose lock file was removed
    except BaseException:
        lock.close()
        raise
    if in_use:
        lock.close()
        return None
    return lock


def _try_file(paths: StagePaths) -> io.FileIO | None:
    """Lock the file beside a target; None if another process or thread has locked it."""
    folder = paths.lock.parent
    try:
        if not folder.exists():
            check_locks(folder)  # before anything is made
            folder.mkdir(parents=True, exist_ok=True)
        check_own(paths.lock)
        return try_lock(paths.lock)
    except StorageError as error:
        raise StagingError(
            f"the file system of '{paths.target}' has no locks (flock): {error.__cause__}. Two "
            f"processes could copy at once. Choose a target on a local disk."
        ) from error
    except PermissionError:
        if not paths.lock.exists():  # it cannot be made
            raise
        return _try_to_read(paths)


def is_in_use(paths: StagePaths) -> bool:
    """Return whether a process works in the work folder, which it then has locked, too."""
    if not os.path.lexists(paths.work_lock):
        return False
    try:
        lock = try_lock(paths.work_lock)
    except OSError:  # gone by now, or whoever opens the folder says what is wrong
        return False
    if lock is None:
        return True
    with lock:
        fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def _open_to_all(lock: io.FileIO) -> None:
    """Let every user open a lock file, whatever the umask: it is empty."""
    found = os.fstat(lock.fileno())
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != 0o644:
        os.fchmod(lock.fileno(), 0o644)


def _try_to_read(paths: StagePaths) -> io.FileIO | None:
    """Return the lock on a file of another user; None if somebody holds it.

    Its owner may be long gone: whether it is held only the kernel knows.
    """
    try:
        fd = open_own(paths.lock, os.O_RDONLY)
    except FileNotFoundError:  # removed meanwhile
        return None
    except PermissionError:
        _refuse_lock(paths)
    lock = io.FileIO(fd, "r")
    _others.add(lock)
    try:
        flock(fd, paths.lock, wait=False)
        if is_at(fd, paths.lock):
            return lock
    except BlockingIOError:
        pass
    except BaseException as error:
        lock.close()
        if isinstance(error, OSError) and error.errno == errno.EBADF:
            _refuse_lock(paths)  # a network file system, where a lock needs the right to write
        raise
    lock.close()
    return None


def _refuse_lock(paths: StagePaths) -> NoReturn:
    raise StagingError(
        f"'{paths.target}' is staged by {_owner(paths.lock)}, whose lock '{paths.lock}' you "
        f"cannot open. Wait until it is complete, or choose another target."
    ) from None


def _write_holder(path: Path, source: str) -> None:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without a name for this user
        user = f"user {os.getuid()}"
    text = (
        f"process {os.getpid()} of {user} on {socket.gethostname()} has been staging from "
        f"'{source}' since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    )
    with suppress(PermissionError):  # another user's, in a folder like /tmp; it is only a note
        try:
            path.unlink(missing_ok=True)  # left by a kill, or a link meant to be followed
        except IsADirectoryError:
            check_own(path)
        with opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644) as fd:
            os.write(fd, os.fsencode(text))


def _describe(paths: StagePaths) -> str:
    path, text = paths.holder, ""
    with suppress(OSError):  # gone, or something else than a note
        text = os.fsdecode(read_own(path) or b"")
        text += f" ({max(0.0, time.time() - path.stat().st_mtime):.0f} s)" if text else ""
    # Who holds it may not have written the note yet.
    text = text or "another process has just begun to stage"
    holders = seen_holders(paths.lock) + seen_holders(paths.work_lock)
    return text + next((holder.trouble for holder in holders if holder.trouble), "")


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):
        return "another user"
