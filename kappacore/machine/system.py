"""The operating system: descriptors of files, the current boot, and the errors of no space."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Error numbers of a write that found no space: disk or memory full, quota, limit on file sizes.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def boot_id() -> str:
    """Return the identifier of the machine's current boot; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@contextmanager
def opened(
    path: str | os.PathLike[str], flags: int, mode: int = 0o600, folder: int | None = None
) -> Iterator[int]:
    """Open a file or folder as a descriptor.

    Args:
        path: The file or folder.
        flags: Those of :func:`os.open`; descriptors are never inherited.
        mode: The permissions of a new file.
        folder: A descriptor of the folder that a relative path begins at.
    """
    fd = os.open(path, flags, mode, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)
