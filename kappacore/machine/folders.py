"""The user's own folders and files below folders where everybody may write."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from kappacore.errors import StorageError

_OWN = "kappacore-"  # followed by the user's number
_VARIABLE = "KAPPACORE_DIR"


def user_folder(
    kind: str, base: str | os.PathLike[str] | None = None, *, make: bool = True
) -> Path:
    """Return this user's own folder for one kind of shared files.

    Args:
        kind: Name of the kind, such as ``"shared"``.
        base: Where the folder lies; default :func:`default_base`.
        make: Whether to make the folder if it is missing, and ``base`` if its parent exists.

    Raises:
        StorageError: If ``base`` is not a folder, or if the user's folder belongs to somebody else,
            is a link, or is open to others.
    """
    base = Path(default_base() if base is None else base).absolute()
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    folder = base / f"{_OWN}{owner}" / kind
    if make:
        make_private(folder)
    elif not base.is_dir():
        raise _unusable(folder, f"{base} is not a folder")
    else:
        for part in (folder.parent, folder):
            with contextlib.suppress(FileNotFoundError):
                check_private(part)
    return folder


def default_base() -> str:
    """Return ``$KAPPACORE_DIR``, else ``/dev/shm``, else the folder for temporary files."""
    base = os.environ.get(_VARIABLE)  # an empty value does not mean the current folder
    if not base:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()  # noqa: S108
    return str(Path(base).absolute())


def set_default_base(base: str) -> None:
    """Make another process's :func:`default_base` that of this process and its children."""
    if base != default_base():
        os.environ[_VARIABLE] = base


def make_base(base: str | os.PathLike[str]) -> None:
    """Make the folder that holds users' folders (mode 0700) if it is missing.

    Raises:
        StorageError: If it cannot be made, as where its parent does not exist.
    """
    folder = Path(base).absolute()
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise _unusable(folder, f"{folder.parent} does not exist" if missing else error) from error


def make_private(folder: Path) -> None:
    """Make a folder that :func:`user_folder` returned, and those around it.

    They are made again if their last user removes them meanwhile.
    """
    base = folder.parent.parent
    while True:
        make_base(base)
        try:
            for part in (folder.parent, folder):
                with contextlib.suppress(FileExistsError):
                    part.mkdir(mode=0o700)
                check_private(part)
            return
        except StorageError:
            raise
        except OSError as error:
            if not (isinstance(error, FileNotFoundError) and base.is_dir()):
                raise _unusable(folder, error) from error


def _unusable(folder: Path, reason: object) -> StorageError:
    return StorageError(
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
        f"{folder} {problem}; it is not used, because its content cannot be trusted. "
        f"Remove it, or set KAPPACORE_DIR to another folder."
    )


def open_private(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a file of the user's own: mode 0600, no link followed, not inherited by programs."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC, 0o600)


def prune(folder: Path) -> None:
    """Remove a folder that :func:`user_folder` made, and the one around it, if they are empty."""
    if folder.parent.name.startswith(_OWN):
        for empty in (folder, folder.parent):
            with contextlib.suppress(OSError):  # it is not empty, or already gone
                empty.rmdir()
