"""Kernel locks on files: freed when their holder dies, and never held by its forked children."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import tempfile
import weakref
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, TypeVar, cast

from kappacore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "check_locks",
    "flock",
    "is_at",
    "is_supported",
    "keep_from_children",
    "locked",
    "own_lock",
    "try_lock",
    "unlock",
]

Method = TypeVar("Method", bound="Callable[..., Any]")

# What a file system without locks answers, such as NFS without its lock daemon.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


def is_supported() -> bool:
    """Return whether this system has the kernel locks that sharing files needs."""
    return fcntl is not None


def flock(fd: int, operation: int, path: Path) -> None:
    """Lock or unlock a file; where its file system has no locks, say so and name the path.

    Args:
        fd: a descriptor of the file.
        operation: as for ``fcntl.flock``.
        path: where the file is.

    Raises:
        BlockingIOError: with ``LOCK_NB``, if another holder has the lock.
        StorageError: if the file system has no locks.
    """
    try:
        fcntl.flock(fd, operation)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise _without_locks(path, error) from error


def check_locks(folder: Path) -> None:
    """Raise StorageError if the file system of a folder has no locks; nothing is left there.

    Args:
        folder: the folder; one that is yet to be made will be on the disk of those above it.
    """
    while not folder.exists():
        folder = folder.parent
    try:
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed below
    except OSError:  # the caller cannot make a file there either, and that error names it
        return
    with file:
        flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, folder)


def _without_locks(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"The file system of {path} has no locks (flock): {error}. Processes that share a cache "
        f"need them. Set KAPPACORE_DIR, or the option path where it was given, to a folder on a "
        f"local disk."
    )


# Locks that this process holds: descriptors, and files that close themselves, by descriptor. A
# forked child closes its copies at once: it would go on holding its parent's locks after the parent
# was killed.
_locks: set[int] = set()
_files: dict[int, weakref.ref[io.FileIO]] = {}


def try_lock(path: Path) -> io.FileIO | None:
    """Lock a file exclusively, against other threads too, unless it is locked.

    Use the result in a ``with`` statement, which frees the lock. Being written in C, it cannot be
    interrupted before it has, as by Ctrl-C; and a file that nobody refers to closes itself.

    Args:
        path: the file, made with mode 0644 if it is missing; a link is not followed.

    Returns:
        The locked file; None if another holder has the lock.

    Raises:
        StorageError: if the file system has no locks; no file is made then.
        OSError: if the file cannot be opened; ``ELOOP`` if it is a link.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            file = io.FileIO(os.open(path, flags), "r+")
        except FileNotFoundError:
            check_locks(path.parent)
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.close(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644))
            continue
        try:
            _files[file.fileno()] = weakref.ref(file)
            flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB, path)
            if is_at(file.fileno(), path):
                return file
        except BlockingIOError:
            file.close()
            return None
        except BaseException:
            file.close()
            raise
        file.close()  # the lock of a file that somebody has removed excludes nobody


def is_at(fd: int, path: Path) -> bool:
    """Return whether a file that was opened is still what lies at a path."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def keep_from_children(fd: int) -> None:
    """Have a lock's descriptor closed in every child that is forked from now on."""
    _locks.add(fd)


def own_lock(owner: object, fd: int) -> Finalize:
    """Have a lock's descriptor closed with its owner, and in every child that is forked meanwhile.

    Returns:
        What closes it before; later calls do nothing.
    """
    keep_from_children(fd)
    return Finalize(owner, unlock, args=(fd,))


def locked(method: Method) -> Method:
    """Have a method run while its object's ``_lock_fd`` holds the lock at ``_lock_path`` alone.

    No context manager: its own code could be interrupted, as by Ctrl-C, before it gives the lock
    back, and the traceback that an interactive session keeps would hold it against everybody.
    """

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            flock(self._lock_fd, fcntl.LOCK_EX, self._lock_path)
            return method(self, *args, **kwargs)
        finally:
            try:  # not by flock() above: it could be interrupted before it has begun
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                raise _without_locks(self._lock_path, error) from error

    return cast("Method", call)


def unlock(fd: int) -> None:
    """Free a lock and close its descriptor."""
    _locks.discard(fd)
    try:
        # Said, not left to the close: a mapping or another process may have the same lock open.
        fcntl.flock(fd, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # then there is none to free
            raise
    finally:
        os.close(fd)


def _close_inherited() -> None:
    for fd in _locks:
        os.close(fd)
    _locks.clear()
    for reference in _files.values():
        file = reference()
        if file is not None:
            file.close()
    _files.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
