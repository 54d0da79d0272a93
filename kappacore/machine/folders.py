"""The user's own folders and files below folders where everybody may write."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import tempfile
import time
import uuid
from pathlib import Path

from kappacore.errors import StorageError
from kappacore.machine.system import check_file_limit

_OWN = "kappacore-"  # followed by the user's number
_VARIABLE = "KAPPACORE_DIR"
_SETTLED_AFTER = 10.0  # seconds after which the maker of a folder is taken for dead


def user_folder(
    kind: str, base: str | os.PathLike[str] | None = None, *, make: bool = True
) -> Path:
    """Return this user's own folder for one kind of shared files.

    Args:
        kind: Name of the kind, such as ``"shared"``.
        base: Where the folder lies; default :func:`default_base`.
        make: Whether to make the folder if it is missing, and ``base`` if its parent exists.

    Raises:
        StorageError: If ``base`` is not a folder, or if the user's folder is a link, or open to
            others.
    """
    base = Path(default_base() if base is None else base).absolute()
    if make:
        make_base(base)
    folder = _find_own(base, make=make) / kind
    if make:
        make_private(folder)
    elif not base.is_dir():
        raise _unusable(folder, f"{base} is not a folder")
    else:
        for part in (folder.parent, folder):
            with contextlib.suppress(FileNotFoundError):
                check_private(part)
    return folder


def _find_own(base: Path, *, make: bool) -> Path:
    """Return the user's folder in ``base``, made there only if ``make`` and its name is random.

    Where everybody may write, somebody else may have taken its name. Then it has a random one, and
    all processes of the user find it by its owner.
    """
    if not hasattr(os, "getuid"):
        return base / f"{_OWN}user"
    plain = base / f"{_OWN}{os.getuid()}"
    if _is_own(plain):
        return plain
    while True:
        others = sorted(_own_names(base, plain.name))
        if settled := [name for name in others if _is_settled(base / name)]:
            return base / settled[0]
        if not os.path.lexists(plain):
            return plain
        new = plain.with_name(f"{plain.name}-{uuid.uuid4().hex}")
        if not make:
            return new
        if not others:
            new.mkdir(mode=0o700 | stat.S_ISVTX)
            if _own_names(base, plain.name) == [new.name]:
                new.chmod(0o700)
                return new
            with contextlib.suppress(OSError):  # another process of the user made one just now
                new.rmdir()
        time.sleep(random.uniform(0, 0.01))  # noqa: S311 - so that one of them is alone


def _is_settled(path: Path) -> bool:
    """Return whether a folder stays: its maker, which marks it until then, found itself alone."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return False
    return not info.st_mode & stat.S_ISVTX or time.time() - info.st_mtime > _SETTLED_AFTER


def _own_names(base: Path, name: str) -> list[str]:
    entries = [entry for entry in list_folder(base) if entry.name.startswith(f"{name}-")]
    return [entry.name for entry in entries if _is_own(Path(entry.path))]


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.getuid()
    except (FileNotFoundError, NotADirectoryError):
        return False


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

    Args:
        base: The folder; its parent must exist.

    Raises:
        StorageError: If it cannot be made, as where its parent does not exist.
    """
    folder = Path(base).absolute()
    try:
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # whatever the umask is
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
    """Raise StorageError unless a folder is the user's own and closed to others.

    Rights of the user that a umask took when it was made are given back.
    """
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode):
        problem = "is not a folder"
    elif hasattr(os, "getuid") and info.st_uid != os.getuid():
        problem = f"belongs to user {info.st_uid}, not to you ({os.getuid()})"
    elif os.name == "posix" and info.st_mode & 0o077:
        problem = f"is open to other users (mode {stat.S_IMODE(info.st_mode):o}, expected 700)"
    else:
        if os.name == "posix" and info.st_mode & 0o700 != 0o700:
            folder.chmod(0o700)
        return
    raise StorageError(
        f"{folder} {problem}; it is not used, because its content cannot be trusted. "
        f"Remove it, or set KAPPACORE_DIR to another folder."
    )


def open_private(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    """Open a file of the user's own: mode 0600, no link followed, not inherited by programs.

    Args:
        path: The file.
        flags: As for :func:`os.open`.

    Returns:
        The file descriptor, which the caller closes.

    Raises:
        StorageError: If no more files can be opened; it names the limit.
        OSError: If it cannot be opened for another reason.
    """
    flags |= getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except PermissionError:
        if not _give_back_rights(path):
            raise
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        check_file_limit(error)
        raise
    if flags & os.O_CREAT and os.name == "posix" and os.fstat(fd).st_mode & 0o600 != 0o600:
        os.fchmod(fd, 0o600)  # a umask took them; whoever opens it next needs them
    return fd


def _give_back_rights(path: Path) -> bool:
    """Return whether a file lacked rights of its owner, this user, which it has now.

    A process was killed after it had made the file under a umask that takes them.
    """
    info = path.lstat()
    mine = hasattr(os, "getuid") and stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid()
    if not mine or info.st_mode & 0o600 == 0o600:
        return False
    path.chmod(0o600)
    return True


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing if it is not there, as its last user may remove it.

    Args:
        folder: The folder.

    Raises:
        StorageError: If no more files can be opened; it names the limit.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        check_file_limit(error)
        raise


def prune(folder: Path) -> None:
    """Remove a folder that :func:`user_folder` made, and the one around it, if they are empty."""
    if folder.parent.name.startswith(_OWN):
        for empty in (folder, folder.parent):
            with contextlib.suppress(OSError):  # it is not empty, or already gone
                empty.rmdir()
