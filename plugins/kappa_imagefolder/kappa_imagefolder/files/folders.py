"""One folder at a time: what it holds, and whether it can be used."""

# Paths are strings here: a Path per file takes several times as long.
# ruff: noqa: PTH109, PTH116, PTH118

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kappa_imagefolder.errors import (
    NoClassesError,
    RootNotFolderError,
    RootNotFoundError,
    UnreadableFolderError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CLASS_ORDERS",
    "Folder",
    "Times",
    "check_folder",
    "find_classes",
    "folder_times",
    "in_class_order",
    "list_folder",
]

#: What ``class_order`` may be: as torchvision has it, or with numbers in names by their value.
CLASS_ORDERS = ("lexicographic", "natural")

#: Errors of a link that leads nowhere by itself, whatever else there is.
_NOWHERE = (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)

#: When a folder and its entries last changed: mtime and ctime, in nanoseconds.
Times = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder holds.

    Args:
        folders: Names of the folders in it, and whether each is a link.
        files: Names of the files in it that count, sorted, encoded, with zero bytes between.
        count: How many files these are.
        times: When it last changed, from before it was listed; only where asked for.
    """

    folders: dict[str, bool]
    files: bytes
    count: int
    times: Times | None = None


def check_folder(root: str) -> None:
    """Refuse a root that is no folder.

    Raises:
        RootNotFoundError: It does not exist.
        RootNotFolderError: It is a file.
        UnreadableFolderError: It cannot be reached.
    """
    try:
        mode = os.stat(root).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RootNotFoundError(
            f"the image folder {root!r} does not exist (looked from {os.getcwd()!r}); "
            "give the folder that holds one subfolder per class"
        ) from error
    except OSError as error:
        raise _unreadable(root, error) from error
    if not stat.S_ISDIR(mode):
        raise RootNotFolderError(
            f"{root!r} is a file; give the folder that holds one subfolder per class"
        )


def find_classes(directory: str, order: str = "lexicographic") -> tuple[list[str], dict[str, int]]:
    """List the folders directly below ``directory``.

    Args:
        directory: The root of an image folder.
        order: One of :data:`CLASS_ORDERS`.

    Returns:
        The names, and the index of each.

    Raises:
        NoClassesError: It holds no folder.
        UnreadableFolderError: It cannot be listed.
    """
    found = list_folder(directory, None)
    if not found.folders:
        raise NoClassesError(
            f"the image folder {directory!r} holds no class folder ({found.count} files directly "
            "in it); images are expected in one subfolder per class, such as "
            f"{os.path.join(directory, 'cat', '1.jpg')!r}"
        )
    classes = in_class_order(found.folders, order)
    return classes, {name: idx for idx, name in enumerate(classes)}


def in_class_order(names: Iterable[str], order: str) -> list[str]:
    """Sort the names of classes; ``"natural"`` puts ``"2"`` before ``"10"``."""
    return sorted(names, key=_natural) if order == "natural" else sorted(names)


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", name)  # text and digits in turn, so texts meet texts
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def list_folder(path: str, extensions: tuple[str, ...] | None, *, timed: bool = False) -> Folder:
    """List one folder; no file in it costs a ``stat``.

    Args:
        path: The folder.
        extensions: Which files count: those whose names, in lower case, end with one of these;
            None: all.
        timed: Note when the folder last changed.

    Raises:
        UnreadableFolderError: It cannot be listed.
    """
    folders: dict[str, bool] = {}
    files: list[str] = []
    try:
        times = folder_times(path) if timed else None
        with os.scandir(path) as entries:
            for entry in entries:
                if _is_folder(entry):
                    folders[entry.name] = entry.is_symlink()
                else:
                    files.append(entry.name)
    except UnreadableFolderError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    if extensions is not None:
        files = [name for name in files if name.lower().endswith(extensions)]
    files.sort()  # as strings: encoded, some names would come in another order
    return Folder(folders, os.fsencode("\0".join(files)), len(files), times)


def folder_times(path: str) -> Times:
    """Return when a folder last changed."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ctime_ns


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in _NOWHERE:
            return False
        raise UnreadableFolderError(
            f"cannot follow the link {entry.path!r}: {error.strerror}. If it leads to a folder, "
            "the images in there would be missing, so nothing was loaded"
        ) from error


def _unreadable(folder: str, error: OSError) -> UnreadableFolderError:
    return UnreadableFolderError(
        f"cannot list the folder {folder!r}: {error.strerror}. "
        "Its images would be missing, so nothing was loaded"
    )
