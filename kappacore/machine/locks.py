"""Kernel locks on files: freed when their holder dies, and never held by its forked children."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kappacore.errors import StorageError
from kappacore.machine.folders import open_private
from kappacore.machine.processes import Claimant, ProcessId, look_at, own_id
from kappacore.machine.waiting import Wait

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

Method = TypeVar("Method", bound="Callable[..., Any]")

# What a file system without locks answers, such as NFS without its lock daemon.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


def is_supported() -> bool:
    """Return whether this system has the kernel locks that sharing files needs."""
    return fcntl is not None


def flock(fd: int | io.FileIO, path: Path, *, shared: bool = False, wait: bool = True) -> None:
    """Lock a file.

    Args:
        fd: The file, or a descriptor of it.
        path: Path of the file, for the error.
        shared: Whether others may hold the lock too, if they share it.
        wait: Whether to wait for the lock.

    Raises:
        BlockingIOError: Without ``wait``, if another holder has the lock.
        StorageError: If the file system has no locks.
    """
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    waiting: Wait | None = None
    while True:
        try:
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not wait:
                raise
        except OSError as error:
            _refuse_without_locks(path, error)
            raise
        # Not by the kernel, which would wait without a word for a process that is stopped.
        waiting = waiting or Wait(lambda: f"the lock {path} is held by {_holders(path)}")
        waiting.pause()


def _holders(path: Path) -> str:
    """Return which processes hold a lock, for people."""
    found = " and ".join(map(str, seen_holders(path)))
    return found or "a process that cannot be seen from here"


def seen_holders(path: Path) -> list[Claimant]:
    """Return what is known of the processes that hold a lock; those that cannot be seen lack."""
    try:
        return [look_at(ProcessId(pid, own_id().space, 0)) for pid in holders_of(path)]
    except OSError:
        return []


def holders_of(path: Path) -> list[int]:
    """Return the processes visible to this one that hold a lock on a file, for display only.

    Raises:
        OSError: If that cannot be looked up.
    """
    locks = Path("/proc/locks").read_text(encoding="ascii")
    info = path.stat()
    file = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    # "1: FLOCK  ADVISORY  READ 4711 00:1b:2 0 EOF"; a waiting process has "->" before FLOCK.
    rows = (line.split() for line in locks.splitlines())
    return sorted({int(row[4]) for row in rows if row[1] == "FLOCK" and row[5] == file})


def check_locks(folder: Path) -> None:
    """Raise StorageError if the file system of a folder has no locks; leave nothing there.

    Args:
        folder: The folder, which need not exist yet.
    """
    while not folder.exists():
        folder = folder.parent
    try:
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed below
    except OSError:  # the caller cannot make a file there either, and names it
        return
    with file:
        flock(file.fileno(), folder, wait=False)


def _refuse_without_locks(path: Path, error: OSError) -> None:
    if error.errno in _NO_LOCKS:
        raise StorageError(
            f"The file system of {path} has no locks (flock): {error}. Processes that share a "
            f"cache need them. Set KAPPACORE_DIR, or the option path where it was given, to a "
            f"folder on a local disk."
        ) from error


# Files of locks that this process holds, which close themselves, by descriptor. A forked child
# closes its copies at once; otherwise it would hold its parent's locks after the parent was killed.
_files: dict[int, weakref.ref[io.FileIO]] = {}


class LockFile(io.FileIO):
    """A file that closes itself, and so frees its lock, with the last reference to it.

    All of this is written in C, so that Ctrl-C cannot interrupt it halfway.
    """

    __del__ = io.FileIO.close  # no warning: that is how it is meant


def open_lock(path: Path) -> LockFile:
    """Open a private file to lock, made if it is missing, that no child process keeps open.

    No interrupt can come between the opening and the file that closes itself.

    Args:
        path: The file.

    Raises:
        StorageError: If no more files can be opened; it names the limit.
        OSError: If it cannot be opened for another reason; ``ELOOP`` if it is a link.
    """
    while True:
        try:
            file = LockFile(path, "r+")
            break
        except FileNotFoundError:
            with (
                contextlib.suppress(FileExistsError),
                LockFile(path, "x+", opener=_create) as made,
            ):
                os.fchmod(made.fileno(), 0o600)  # whatever the umask is
        except OSError:
            os.close(open_private(path))  # gives back what a umask took, or says what is wrong
    keep_from_children(file)
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return file


_create = functools.partial(os.open, mode=0o600)  # in C as well


def try_lock(path: Path) -> io.FileIO | None:
    """Lock a file exclusively, against other threads too, unless it is locked.

    Use the result in a ``with`` statement, which frees the lock: closing a file is written in C, so
    that Ctrl-C cannot interrupt it halfway. A file without references closes itself.

    Args:
        path: The file, created with mode 0644 if it is missing. Links are not followed.

    Returns:
        The locked file; None if another holder has the lock.

    Raises:
        StorageError: If the file system has no locks; then no file is created.
        OSError: If the file cannot be opened; ``ELOOP`` if it is a link.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            file = io.FileIO(os.open(path, flags), "r+")
        except FileNotFoundError:
            check_locks(path.parent)
            with contextlib.suppress(FileExistsError):  # another process was faster
                fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
                os.fchmod(fd, os.fstat(fd).st_mode | 0o600)  # whatever the umask is
                os.close(fd)
            continue
        try:
            keep_from_children(file)
            flock(file.fileno(), path, wait=False)
            if is_at(file.fileno(), path):
                return file
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        file.close()  # removed meanwhile: a lock on it would exclude nobody


def is_at(fd: int, path: Path) -> bool:
    """Return whether a path still leads to the file that was opened."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def keep_from_children(file: io.FileIO) -> None:
    """Close the file of a lock in every child that is forked from now on."""
    _files[file.fileno()] = weakref.ref(file)


def locked(method: Method) -> Method:
    """Run a method while its object's ``_lock_fd`` holds the lock at ``_lock_path`` exclusively.

    The method may move on to another file: the one that is ``_lock_fd`` in the end is unlocked.

    This is not a context manager: Ctrl-C could interrupt its code before it frees the lock, and the
    traceback that an interactive session keeps would hold the lock against everybody.

    Args:
        method: The method to decorate.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        held = _Frame()
        # A debugger or tracer may raise where no signal can, before the lock is freed below. Then
        # it goes with this frame.
        self._late = weakref.ref(held, functools.partial(_unlock_late, self))
        try:
            flock(self._lock_fd, self._lock_path)
            return method(self, *args, **kwargs)
        finally:
            try:  # not flock() above, which could be interrupted before its first line
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
                self._late = None
            except OSError as error:
                _refuse_without_locks(self._lock_path, error)
                raise

    return cast("Method", call)


class _Frame:
    """Ends with the frame that holds it."""


def _unlock_late(owner: Any, _: object) -> None:
    owner._late = None
    with contextlib.suppress(OSError, ValueError):  # closed by now
        fcntl.flock(owner._lock_fd, fcntl.LOCK_UN)


def unlock_file(file: io.FileIO) -> None:
    """Free a lock and close its file, unless that was done."""
    if file.closed:  # as it is in a forked child
        return
    try:  # closing alone may not free it: a mapping or a process may have the same one open
        fcntl.flock(file, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # then there is none to free
            raise
    finally:
        file.close()


def _close_inherited() -> None:
    for reference in _files.values():
        file = reference()
        if file is not None:
            file.close()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
