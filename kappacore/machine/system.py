"""The operating system: descriptors of files, the current boot, and the errors of no space."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kappacore.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Error numbers of a write that found no space: disk or memory full, quota, limit on file sizes.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# What a file system or a sandbox without fallocate(2) answers; glibc imitates it for some only.
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)


def boot_id() -> str:
    """Return the identifier of the machine's current boot; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def check_file_limit(error: OSError) -> None:
    """Raise StorageError, which says what to do, if an error says that too many files are open.

    Args:
        error: What opening a file raised.

    Raises:
        StorageError: It says so.
    """
    if error.errno == errno.EMFILE:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = "" if hard == resource.RLIM_INFINITY else f" (to at most {hard})"
        raise StorageError(
            f"Too many open files: the limit of this process is {soft} (RLIMIT_NOFILE). A cache "
            f"keeps about 5 files open. Close caches that are not needed, or raise the limit with "
            f"ulimit -n or resource.setrlimit{most}."
        ) from error
    if error.errno == errno.ENFILE:
        raise StorageError(
            "Too many open files on this machine (/proc/sys/fs/file-max). Close programs, or ask "
            "its administrator to raise that limit."
        ) from error


def allocate(fd: int, size: int) -> None:
    """Give a new file its size and its space, so that missing space is an error now.

    Without that, it would be a bus error where a mapping of the file is first touched.

    Args:
        fd: A descriptor of the file.
        size: Its size, in bytes.

    Raises:
        OSError: One of ``NO_SPACE`` if there is no space.
    """
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in _NO_FALLOCATE:
            raise
        zeros = bytes(min(size, 2**20))
        done = 0
        while done < size:
            done += os.pwrite(fd, zeros[: size - done], done)


@contextmanager
def opened(path: str | os.PathLike[str], flags: int, mode: int = 0o600) -> Iterator[int]:
    """Open a file or folder as a descriptor.

    Args:
        path: The file or folder.
        flags: Those of :func:`os.open`; descriptors are never inherited.
        mode: The permissions of a new file.
    """
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)
