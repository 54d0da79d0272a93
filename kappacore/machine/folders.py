"""Folders and files of the user's own, in places where everybody may write."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from kappacore.errors import StorageError

__all__ = [
    "check_private",
    "make_place",
    "make_private",
    "open_private",
    "prune",
    "shared_place",
    "use_place",
    "user_folder",
]

_OWN = "kappacore-"  # and the user's number
_VARIABLE = "KAPPACORE_DIR"


def user_folder(
    kind: str, base: str | os.PathLike[str] | None = None, *, make: bool = True
) -> Path:
    """Return this user's own folder for one kind of shared files.

    Args:
        kind: name of the kind, such as ``"shared"``.
        base: where the folder lies; default ``$KAPPACORE_DIR``, else ``/dev/shm``, else the
            directory for temporary files.
        make: whether to make the folder if it is missing, and ``base`` if its parent exists.

    Raises:
        StorageError: if ``base`` is no folder, or if the user's belongs to somebody else, is a
            link, or is open to others.
    """
    if base is None:
        base = shared_place()
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(base).absolute() / f"{_OWN}{owner}" / kind
    if make:
        make_private(folder)
    elif not Path(base).is_dir():
        raise StorageError(_impossible(folder, f"{base} is not a folder"))
    else:
        for part in (folder.parent, folder):
            with contextlib.suppress(FileNotFoundError):
                check_private(part)
    return folder


def shared_place() -> str:
    """Return the folder in which shared files lie where none is named."""
    place = os.environ.get(_VARIABLE)  # set to nothing does not mean the current folder
    if not place:
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()  # noqa: S108
    return str(Path(place).absolute())


def use_place(place: str) -> None:
    """Let shared files lie where another process has them."""
    if place != shared_place():
        os.environ[_VARIABLE] = place


def make_place(base: str | os.PathLike[str]) -> None:
    """Make the folder for users' own ones (mode 0700) if it is missing and its parent exists.

    Raises:
        StorageError: if it cannot be made.
    """
    place = Path(base).absolute()
    try:
        with contextlib.suppress(FileExistsError):
            place.mkdir(mode=0o700)
    except FileNotFoundError as error:
        raise StorageError(_impossible(place, f"{place.parent} does not exist")) from error
    except OSError as error:
        raise StorageError(_impossible(place, error)) from error


def make_private(folder: Path) -> None:
    """Make a folder and those around it, again if its last user removes it.

    Args:
        folder: the folder, as :func:`user_folder` returns it.
    """
    base = folder.parent.parent
    while True:
        make_place(base)
        try:
            _make(folder.parent)
            _make(folder)
        except StorageError as error:
            if not (isinstance(error.__cause__, FileNotFoundError) and base.is_dir()):
                raise
        else:
            return


def _make(folder: Path) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        check_private(folder)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(_impossible(folder, error)) from error


def _impossible(folder: Path, reason: object) -> str:
    return (
        f"Cannot use the folder {folder}: {reason}. Set KAPPACORE_DIR, or the option path where "
        f"it was given, to a folder that you may write to (made if its parent exists)."
    )


def check_private(folder: Path) -> None:
    """Raise StorageError unless a folder is the user's own and closed to others."""
    info = folder.lstat()
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


def prune(folder: Path) -> None:
    """Remove a folder that :func:`user_folder` made, and the one around it, if they are empty."""
    if folder.parent.name.startswith(_OWN):
        for empty in (folder, folder.parent):
            with contextlib.suppress(OSError):  # it is not empty, or not there
                empty.rmdir()
