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
import stat
import tempfile
import time
import uuid
from multiprocessing.util import Finalize
from pathlib import Path

from kappacore.errors import StorageError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "Tenancy",
    "collect",
    "is_supported",
    "kept_until",
    "open_private",
    "own_lock",
    "unlock",
    "user_folder",
]

_USERS = "users"
_KEEP = "keep"
_TRASH = ".trash-"
_OWN = "kappacore-"  # and the user's number
# After multiprocessing has ended this process's daemonic children, which may be users too.
_EXIT_PRIORITY = -10


def is_supported() -> bool:
    """Return whether this system has the kernel locks that sharing folders needs."""
    return fcntl is not None


def user_folder(kind: str, base: str | os.PathLike[str] | None = None) -> Path:
    """Return this user's own folder for one kind of shared files, made if it is missing.

    Args:
        kind: name of the kind, such as ``"shared"``.
        base: where the folder lies; default ``$KAPPACORE_DIR``, else ``/dev/shm``, else the
            directory for temporary files.

    Raises:
        StorageError: if the folder belongs to somebody else, is a link, or is open to others.
    """
    if base is None:
        base = os.environ.get("KAPPACORE_DIR")
    if base is None:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()  # noqa: S108
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(base) / f"{_OWN}{owner}" / kind
    _make(folder)
    return folder


def _make(folder: Path) -> None:
    """Make a folder and the user's own one around it, again if its last user removes it."""
    while True:
        try:
            _make_private(folder.parent)
            _make_private(folder)
        except StorageError as error:  # noqa: PERF203 - it is a loop for its sake
            base = folder.parent.parent
            if not (isinstance(error.__cause__, FileNotFoundError) and base.is_dir()):
                raise
        else:
            return


def _make_private(folder: Path) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        info = folder.lstat()
    except OSError as error:
        raise StorageError(
            f"Cannot create the folder {folder}: {error}. "
            f"Set KAPPACORE_DIR to a folder that you may write to."
        ) from error
    if not stat.S_ISDIR(info.st_mode):
        problem = "is not a folder"
    elif hasattr(os, "getuid") and info.st_uid != os.getuid():
        problem = f"belongs to user {info.st_uid}, not to you ({os.getuid()})"
    elif os.name == "posix" and info.st_mode & 0o077:
        problem = f"is open to other users (mode {stat.S_IMODE(info.st_mode):o}, expected 700)"
    else:
        return
    raise StorageError(
        f"{folder} {problem}; it is not used, because its content could not be trusted. "
        f"Remove it, or set KAPPACORE_DIR to another folder."
    )


def open_private(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a file of the user's own: mode 0600, no link followed, not inherited by programs."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC, 0o600)


# Descriptors of locks that this process holds. A forked child closes its copies at once: it would
# go on holding its parent's locks after the parent was killed.
_locks: set[int] = set()


def own_lock(owner: object, fd: int) -> Finalize:
    """Have a lock's descriptor closed with its owner, and in every child that is forked meanwhile.

    Returns:
        What closes it before; later calls do nothing.
    """
    _locks.add(fd)
    return Finalize(owner, unlock, args=(fd,))


def unlock(fd: int) -> None:
    """Free a lock and close its descriptor."""
    _locks.discard(fd)
    # Said, not left to the close: a mapping or another process may have the same lock open.
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _close_inherited() -> None:
    for fd in _locks:
        os.close(fd)
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


class Tenancy:
    """This process's use of a shared folder, from construction until :meth:`leave`.

    Garbage collection and normal exit leave too, also in a DataLoader worker; a killed process
    leaves by dying, and the next one to call :func:`collect` tidies up after it.

    Args:
        folder: the folder; its parent must exist.
        keep: seconds that the folder stays after its last user left; ``0``: it goes with them,
            ``inf``: it stays. The longest wish of all users counts.
    """

    def __init__(self, folder: Path, keep: float = 0) -> None:
        self.folder = folder
        fd = _join(folder)
        _locks.add(fd)
        if keep:
            _wish(folder, keep)
        self._leave = Finalize(self, _leave, args=(fd, folder), exitpriority=_EXIT_PRIORITY)

    def leave(self) -> bool:
        """End the use; the last user removes the folder unless it is to be kept. Idempotent.

        Returns:
            True if the folder was removed.
        """
        return bool(self._leave())

    def first_to(self, what: str) -> bool:
        """Return True for exactly one caller among all users of the folder."""
        try:
            os.close(open_private(self.folder / f"once-{what}", os.O_CREAT | os.O_EXCL))
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
        elif entry.is_dir(follow_symlinks=False) and _remove_if_unused(folder):
            removed.append(entry.name)
    return removed


def kept_until(folder: Path) -> float:
    """Return until when an unused folder is to stay, in seconds since 1970; 0: not at all."""
    wish = _wished(folder)
    if not wish:
        return 0
    try:
        return (folder / _USERS).stat().st_mtime + wish
    except FileNotFoundError:
        return 0


def _wished(folder: Path) -> float:
    """Return for how long the folder is to stay after its last use, in seconds."""
    try:
        wish, unit = (folder / _KEEP).read_text(encoding="ascii").split()
        return float(wish) if unit == "s" else math.inf
    except FileNotFoundError:
        return 0
    except ValueError:  # written by another version, or lost in a crash of the machine
        return math.inf


def _wish(folder: Path, keep: float) -> None:
    if keep > _wished(folder):
        temporary = folder / f"{_KEEP}.{uuid.uuid4().hex}"
        temporary.write_text(f"{keep} s\n", encoding="ascii")
        temporary.replace(folder / _KEEP)


def _join(folder: Path) -> int:
    while True:
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
        except FileNotFoundError:  # the last user of another folder has tidied up
            _make(folder.parent)
            continue
        try:
            fd = open_private(folder / _USERS)
        except FileNotFoundError:  # removed between the two calls
            continue
        fcntl.flock(fd, fcntl.LOCK_SH)
        if _is_still_there(fd, folder):
            os.utime(fd)
            return fd
        os.close(fd)


def _leave(fd: int, folder: Path) -> bool:
    try:
        os.utime(fd)
        return _remove_if_alone(fd, folder)
    finally:
        unlock(fd)


def _remove_if_unused(folder: Path) -> bool:
    try:
        fd = open_private(folder / _USERS)
    except FileNotFoundError:
        return False
    try:
        return _remove_if_alone(fd, folder)
    finally:
        unlock(fd)


def _remove_if_alone(fd: int, folder: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if not _is_still_there(fd, folder) or kept_until(folder) > time.time():
        return False
    # The name goes first, in one step: whoever comes now makes a new folder.
    trash = folder.with_name(_TRASH + uuid.uuid4().hex)
    folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)
    if folder.parent.parent.name.startswith(_OWN):
        for empty in (folder.parent, folder.parent.parent):
            with contextlib.suppress(OSError):  # it is not empty
                empty.rmdir()
    return True


def _is_still_there(fd: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), (folder / _USERS).lstat())
    except FileNotFoundError:
        return False
