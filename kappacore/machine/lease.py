"""Folders that several processes share and the last of them removes.

Every user holds a *shared* kernel lock on one file of the folder. Holding the lock exclusively
proves that the folder is unused. The kernel frees the lock of a killed process, so process ids,
which may be reused, play no part.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import time
import uuid
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

from kappacore.errors import StorageError
from kappacore.machine.folders import (
    check_private,
    list_folder,
    make_private,
    open_private,
    prune,
)
from kappacore.machine.locks import (
    LockFile,
    check_locks,
    flock,
    holders_of,
    is_at,
    open_lock,
    unlock_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("kappacore.cache")

_USERS = "users"
_KEEP = "keep-"  # followed by a number of seconds
_ONCE = "once-"  # followed by what was done
_TRASH = ".trash-"
# After multiprocessing has ended this process's daemonic children, which may be users as well.
_EXIT_PRIORITY = -10


class SharedFolderLease:
    """This process's use of a shared folder, from construction until :meth:`release`.

    Garbage collection and normal exit release it too, also in a DataLoader worker. What a killed
    process leaves is removed by the next call of :func:`collect`.

    Args:
        folder: The folder, in one of :func:`user_folder`.
        keep: Seconds that the folder stays after its last use: ``0`` removes it with its last user,
            ``inf`` never. The longest time that any user gave counts.

    Raises:
        StorageError: If the folder or one around it is somebody else's, a link, or open to others,
            or if its file system has no locks.
    """

    def __init__(self, folder: Path, keep: float = 0) -> None:
        self.folder = folder
        self._done: set[str] = set()
        empty_trash(folder.parent)
        file = _join(folder)
        self._last: list[Callable[[], bool] | None] = [None]
        self._release = Finalize(
            self, _release, args=(file, folder, self._last), exitpriority=_EXIT_PRIORITY
        )
        if keep > _longest_keep(folder):
            # In the name of a file, so that two processes cannot overwrite each other's.
            os.close(open_private(folder / f"{_KEEP}{keep}"))

    def release(self, last: Callable[[], bool] | None = None) -> bool:
        """End the use; the last user removes the folder unless it is kept. Idempotent.

        Args:
            last: Called before the folder is removed, while nobody can join it; if it returns
                False, the folder stays.

        Returns:
            True if the folder was removed.
        """
        self._last.append(last)
        return bool(self._release())

    def note_use(self) -> None:
        """Record that the folder is in use now, in case this process is killed later."""
        with contextlib.suppress(FileNotFoundError):  # somebody has removed it
            os.utime(self.folder / _USERS)

    def first_to(self, what: str) -> bool:
        """Return True for exactly one caller among all that use the folder at the same time.

        Args:
            what: Names the occasion.
        """
        try:
            os.close(open_private(self.folder / f"{_ONCE}{what}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        except FileNotFoundError:  # somebody removed the folder: once a process
            if what in self._done:
                return False
            self._done.add(what)
        return True


def collect(parent: Path) -> list[str]:
    """Remove the folders in ``parent`` that are neither in use nor kept.

    Args:
        parent: Holds a folder for each namespace.

    Returns:
        The names of the removed folders.
    """
    empty_trash(parent)
    removed = [
        entry.name
        for entry in list_folder(parent)
        if entry.is_dir(follow_symlinks=False) and remove(Path(entry.path), kept=False)
    ]
    prune(parent)
    return removed


def empty_trash(parent: Path) -> None:
    """Remove what processes were removing from ``parent`` when they were killed."""
    for entry in list_folder(parent):
        if entry.name.startswith(_TRASH):
            shutil.rmtree(entry.path, ignore_errors=True)


def remove(folder: Path, *, kept: bool, last: Callable[[], bool] | None = None) -> bool:
    """Remove a folder that is not in use.

    Args:
        folder: The folder.
        kept: Whether to remove it even while it is kept.
        last: See :meth:`SharedFolderLease.release`.

    Returns:
        True if it was removed.
    """
    try:
        file = open_lock(folder / _USERS)
    except FileNotFoundError:
        return False
    try:
        trash = _take_away_if_alone(file.fileno(), folder, kept=kept, last=last)
    finally:
        unlock_file(file)
    return _delete(trash)


def last_used(folder: Path) -> float:
    """Return when a folder was last used, to the minute, in seconds since 1970; 0: never.

    Args:
        folder: A folder that was made for a lease.
    """
    try:
        return (folder / _USERS).stat().st_mtime
    except FileNotFoundError:
        return 0


def kept_until(folder: Path) -> float:
    """Return until when an unused folder is kept, in seconds since 1970; 0: not at all.

    Args:
        folder: A folder that was made for a lease.
    """
    keep = _longest_keep(folder)
    return last_used(folder) + keep if keep else 0


def count_users(folder: Path) -> int | None:
    """Return how many processes visible to this one use a folder; None if that is unknown.

    For display only: proof takes the lock.

    Args:
        folder: A folder that was made for a lease.
    """
    try:
        return len(holders_of(folder / _USERS))
    except OSError:
        return None


def _longest_keep(folder: Path) -> float:
    """Return the longest ``keep`` that any user gave, in seconds."""
    longest = 0.0
    for entry in list_folder(folder):
        if entry.name.startswith(_KEEP):
            try:
                longest = max(longest, float(entry.name[len(_KEEP) :]))
            except ValueError:  # another version's
                return math.inf
    return longest


def _join(folder: Path) -> LockFile:
    while True:
        try:
            if not (folder / _USERS).exists():
                _check_locks(folder)  # before anything is created
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            check_private(folder)
            file = open_lock(folder / _USERS)  # an interrupt leaves the folder in no use
        except FileNotFoundError:  # removed meanwhile, perhaps with the folders around it
            make_private(folder.parent)
            continue
        flock(file.fileno(), folder / _USERS, shared=True)
        if is_at(file.fileno(), folder / _USERS):
            os.utime(file.fileno())
            return file
        file.close()


def _check_locks(folder: Path) -> None:
    try:
        check_locks(folder)
    except StorageError:
        prune(folder.parent)  # nothing is to be left
        check_locks(folder)  # names what was there before
        raise


def _release(file: LockFile, folder: Path, last: list[Callable[[], bool] | None]) -> bool:
    try:
        os.utime(file.fileno())
        trash = _take_away_if_alone(file.fileno(), folder, last=last[-1])
    except StorageError as error:  # too many open files
        log.info("%s is left to the next process: %s", folder, error)
        return False
    finally:
        unlock_file(file)
    return _delete(trash)


def _take_away_if_alone(
    fd: int, folder: Path, *, kept: bool = False, last: Callable[[], bool] | None = None
) -> Path | None:
    """Rename a folder that nobody else uses; return its new path, or None."""
    # Of several processes that try at the same time, one succeeds: a failed request for the
    # exclusive lock gives up, by flock(2), the shared one that stood in the way of the others.
    try:
        flock(fd, folder / _USERS, wait=False)
    except BlockingIOError:
        return None
    if not is_at(fd, folder / _USERS):
        return None
    if not kept and kept_until(folder) > time.time():
        for once in folder.glob(f"{_ONCE}*"):  # the next user is the first again
            once.unlink(missing_ok=True)
        return None
    if last is not None and not last():
        return None
    # The name goes first, in one step: a process that comes now makes a new folder.
    trash = folder.with_name(_TRASH + uuid.uuid4().hex)
    try:
        folder.rename(trash)
    except FileNotFoundError:  # somebody has removed it just now
        return None
    return trash


def _delete(trash: Path | None) -> bool:
    # After its lock was closed, so that a process at its limit of open files has some for this.
    if trash is None:
        return False
    with contextlib.suppress(OSError):  # one file at a time: there may be no other left to open
        for entry in list_folder(trash):
            Path(entry.path).unlink()
    shutil.rmtree(trash, ignore_errors=True)
    with contextlib.suppress(OSError):  # rmtree opens what it removes
        trash.rmdir()
    prune(trash.parent)
    return True
