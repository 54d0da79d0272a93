"""Folders that several processes share and the last of them removes.

Every user holds a *shared* kernel lock on one file of the folder. Who gets that lock exclusively
knows that nobody uses the folder; the kernel frees the lock of a process that is killed, so no
process ids are compared and nothing is believed of a dead one.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
import uuid
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

from kappacore.machine.folders import check_private, make_private, open_private, prune
from kappacore.machine.locks import check_locks, flock, is_at, keep_from_children, unlock

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "Tenancy",
    "collect",
    "count_users",
    "kept_until",
    "last_used",
    "remove",
]

_USERS = "users"
_KEEP = "keep-"  # and for how many seconds
_ONCE = "once-"  # and what
_TRASH = ".trash-"
# After multiprocessing has ended this process's daemonic children, which may be users too.
_EXIT_PRIORITY = -10


class Tenancy:
    """This process's use of a shared folder, from construction until :meth:`leave`.

    Garbage collection and normal exit leave too, also in a DataLoader worker; a killed process
    leaves by dying, and the next one to call :func:`collect` tidies up after it.

    Args:
        folder: the folder, in one of :func:`user_folder`.
        keep: seconds that the folder stays after its last use; ``0``: it goes with its last user,
            ``inf``: it stays. The longest wish of all users counts.

    Raises:
        StorageError: if the folder or one around it is somebody else's, a link, or open to others,
            or if its file system has no locks.
    """

    def __init__(self, folder: Path, keep: float = 0) -> None:
        self.folder = folder
        fd = _join(folder)
        keep_from_children(fd)
        self._last: list[Callable[[], bool] | None] = [None]
        self._leave = Finalize(
            self, _leave, args=(fd, folder, self._last), exitpriority=_EXIT_PRIORITY
        )
        if keep > _wished(folder):
            # A wish is a file's name, so that two of them cannot overwrite each other.
            os.close(open_private(folder / f"{_KEEP}{keep}"))

    def leave(self, last: Callable[[], bool] | None = None) -> bool:
        """End the use; the last user removes the folder unless it is to be kept. Idempotent.

        Args:
            last: called before the folder is removed, while nobody can join it; False leaves it.

        Returns:
            True if the folder was removed.
        """
        self._last.append(last)
        return bool(self._leave())

    def note_use(self) -> None:
        """Note that the folder is in use now, for the case that this process is killed later."""
        with contextlib.suppress(FileNotFoundError):  # somebody has removed it
            os.utime(self.folder / _USERS)

    def first_to(self, what: str) -> bool:
        """Return True for exactly one caller among all who use the folder at the same time."""
        try:
            os.close(open_private(self.folder / f"{_ONCE}{what}", os.O_CREAT | os.O_EXCL))
        except (FileExistsError, FileNotFoundError):  # the second: somebody removed the folder
            return False
        return True


def collect(parent: Path) -> list[str]:
    """Remove the folders in ``parent`` that nobody uses and nobody wants kept.

    Returns:
        Names of the removed folders.
    """
    removed: list[str] = []
    try:
        entries = list(os.scandir(parent))
    except FileNotFoundError:  # its last user has removed it
        return removed
    for entry in entries:
        folder = Path(entry.path)
        if entry.name.startswith(_TRASH):  # its remover was killed at work
            shutil.rmtree(folder, ignore_errors=True)
        elif entry.is_dir(follow_symlinks=False) and remove(folder, kept=False):
            removed.append(entry.name)
    prune(parent)
    return removed


def remove(folder: Path, *, kept: bool, last: Callable[[], bool] | None = None) -> bool:
    """Remove a folder that nobody uses.

    Args:
        folder: the folder.
        kept: whether to remove it though it is to be kept.
        last: see :meth:`Tenancy.leave`.

    Returns:
        True if it was removed.
    """
    try:
        fd = open_private(folder / _USERS)
    except FileNotFoundError:
        return False
    try:
        return _remove_if_alone(fd, folder, kept=kept, last=last)
    finally:
        unlock(fd)


def last_used(folder: Path) -> float:
    """Return when a folder was used last, to the minute, in seconds since 1970."""
    try:
        return (folder / _USERS).stat().st_mtime
    except FileNotFoundError:
        return 0


def kept_until(folder: Path) -> float:
    """Return until when an unused folder is to stay, in seconds since 1970; 0: not at all."""
    wish = _wished(folder)
    return last_used(folder) + wish if wish else 0


def count_users(folder: Path) -> int | None:
    """Return how many processes use a folder now, as far as this one may see; None if it may not.

    For people: who must be sure asks for the lock.
    """
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii")
        info = (folder / _USERS).stat()
    except OSError:
        return None
    place = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    # "1: FLOCK  ADVISORY  READ 4711 00:1b:2 0 EOF"; who waits for it has "->" before FLOCK.
    rows = (line.split() for line in locks.splitlines())
    return len({row[4] for row in rows if row[1] == "FLOCK" and row[5] == place})


def _wished(folder: Path) -> float:
    """Return for how long the folder is to stay after its last use, in seconds."""
    longest = 0.0
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names suffice
    except FileNotFoundError:
        return longest
    for name in names:
        if name.startswith(_KEEP):
            try:
                longest = max(longest, float(name[len(_KEEP) :]))
            except ValueError:  # another version's
                return math.inf
    return longest


def _join(folder: Path) -> int:
    while True:
        try:
            if not (folder / _USERS).exists():
                check_locks(folder)  # before anything is made
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            check_private(folder)
            fd = open_private(folder / _USERS)
        except FileNotFoundError:  # removed meanwhile, perhaps with the folders around it
            make_private(folder.parent)
            continue
        try:
            flock(fd, fcntl.LOCK_SH, folder / _USERS)
            if is_at(fd, folder / _USERS):
                os.utime(fd)
                return fd
        except BaseException:  # an interrupt, say: it would be in use as long as this process
            os.close(fd)
            raise
        os.close(fd)


def _leave(fd: int, folder: Path, last: list[Callable[[], bool] | None]) -> bool:
    try:
        os.utime(fd)
        return _remove_if_alone(fd, folder, last=last[-1])
    finally:
        unlock(fd)


def _remove_if_alone(
    fd: int, folder: Path, *, kept: bool = False, last: Callable[[], bool] | None = None
) -> bool:
    # Of several that try at the same time one succeeds: who asks for the lock exclusively and does
    # not get it has, by flock(2), lost the shared one that stood in the way of the others.
    try:
        flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, folder / _USERS)
    except BlockingIOError:
        return False
    if not is_at(fd, folder / _USERS):
        return False
    if not kept and kept_until(folder) > time.time():
        for once in folder.glob(f"{_ONCE}*"):  # the next one is the first again
            once.unlink(missing_ok=True)
        return False
    if last is not None and not last():
        return False
    # The name goes first, in one step: whoever comes now makes a new folder.
    trash = folder.with_name(_TRASH + uuid.uuid4().hex)
    folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)
    prune(folder.parent)
    return True
