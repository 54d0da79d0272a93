"""Staging's own files, whose names anybody may have given to something else.

A pipe would be waited for, and a link followed: neither is opened.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from kappacore.errors import StagingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def own_opened(path: Path, flags: int, mode: int = 0o600) -> Iterator[int]:
    """Open one of staging's own files as a descriptor, for a ``with`` statement."""
    fd = open_own(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open one of staging's own files, and return its descriptor, which is not inherited.

    Args:
        path: The file.
        flags: Those of :func:`os.open`.
        mode: The permissions of a new file.

    Raises:
        StagingError: If it is no file.
        OSError: If it cannot be opened for another reason.
    """
    try:
        fd = os.open(path, flags | _FLAGS, mode)
    except FileNotFoundError:
        raise
    except OSError:
        check_own(path)
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        _refuse(path, kind_of(path))
    return fd


def read_own(path: Path) -> bytes | None:
    """Return the content of one of staging's own files; None if there is none (any more).

    Raises:
        StagingError: If it is no file.
    """
    try:
        with open(open_own(path, os.O_RDONLY), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def check_own(path: Path) -> None:
    """Raise StagingError if something else than a file has the name of one of staging's own."""
    kind = kind_of(path)
    if kind not in ("file", "nothing"):
        _refuse(path, kind)


def kind_of(path: Path) -> str:
    """Return what is at a path: a "file", "folder", "link", "special file", or "nothing"."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "special file"


def _refuse(path: Path, kind: str) -> NoReturn:
    raise StagingError(
        f"'{path}' is in the way: it is a {kind}, and staging keeps a file of its own under that "
        f"name. Move it elsewhere, or remove it if it is not needed."
    ) from None
