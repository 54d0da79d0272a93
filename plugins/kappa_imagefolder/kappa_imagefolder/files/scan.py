"""Finding the files of an image folder, in torchvision's order.

All folders of one depth are listed together, so that network storage answers for many at a time.
"""

# Paths are strings here: a Path per file takes several times as long.
# ruff: noqa: PTH109, PTH116, PTH118, PTH120

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import time
from array import array
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from kappa_imagefolder.adaptive_map import adaptive_map
from kappa_imagefolder.errors import (
    ClassesDifferError,
    NoClassesError,
    RootNotFolderError,
    RootNotFoundError,
    UnreadableFolderError,
)
from kappa_imagefolder.files.listing import Listing, OpenFolder, pack, pack_bytes
from kappa_imagefolder.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kappa_imagefolder.files.listing import Classes

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

#: Values of ``class_order``: torchvision's, or with the numbers in names ordered by their value.
CLASS_ORDERS = ("lexicographic", "natural")

#: When a folder and its entries last changed: mtime and ctime, in nanoseconds.
Times = tuple[int, int]

SETTLED = 2_000_000_000  # nanoseconds: some file systems keep times in steps of two seconds

_log = logging.getLogger(__name__)
_UNKNOWN: Times = (0, 0)  # never trusted; storage that keeps no times may report it for all folders
_BROKEN_LINK = (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)  # the link itself is at fault


@dataclass(frozen=True)
class Rules:
    """Which files count, and in which order.

    Args:
        extensions: Endings of image files, in lower case.
        is_valid_file: Replaces ``extensions``: takes a file's path, which begins with the root.
        class_order: The order of the classes' files; one of :data:`CLASS_ORDERS`.
        own_classes: Identifies an overridden ``find_classes``, or the classes that were given; an
            index is for these alone.
        ignore_hidden: Whether files and folders that :func:`is_hidden` do not count.
    """

    extensions: tuple[str, ...] | None = IMG_EXTENSIONS
    is_valid_file: Callable[[str], bool] | None = None
    class_order: str = "lexicographic"
    own_classes: str | None = None
    ignore_hidden: bool = False


@dataclass(frozen=True, slots=True)
class _Folder:
    """The content of one folder.

    Args:
        folders: Names of the folders in it, and whether each is a link.
        files: Names of the files in it that count, sorted, encoded, with zero bytes between.
        count: The number of these files.
        times: When it last changed, taken before it was listed.
    """

    folders: dict[str, bool]
    files: bytes
    count: int
    times: Times = _UNKNOWN


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is one that systems and editors leave beside others."""
    return name.startswith(".") or name == "__MACOSX"


def check_folder(root: str) -> None:
    """Refuse a root that is not a folder.

    Raises:
        RootNotFoundError: It does not exist.
        RootNotFolderError: It is a file.
        UnreadableFolderError: It cannot be reached.
    """
    try:
        mode = os.stat(root).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RootNotFoundError(
            f"the image folder {root!r} does not exist (the current folder is {os.getcwd()!r}); "
            "give the folder that holds one subfolder per class"
        ) from error
    except OSError as error:
        raise _unreadable(root, error) from error
    if not stat.S_ISDIR(mode):
        raise RootNotFolderError(
            f"{root!r} is a file; give the folder that holds one subfolder per class"
        )


def find_classes(
    directory: str, order: str = "lexicographic", *, ignore_hidden: bool = False
) -> Classes:
    """List the folders directly below ``directory``.

    Args:
        directory: The root of an image folder.
        order: One of :data:`CLASS_ORDERS`.
        ignore_hidden: See :class:`Rules`.

    Returns:
        The names, and the index of each.

    Raises:
        NoClassesError: It holds no folder.
        UnreadableFolderError: It cannot be listed.
    """
    found = _list_folder(None, directory, ignore_hidden=ignore_hidden)
    if not found.folders:
        raise NoClassesError(
            f"the image folder {directory!r} holds no class folder ({found.count} files directly "
            "in it); images are expected in one subfolder per class, such as "
            f"{os.path.join(directory, 'cat', '1.jpg')!r}"
        )
    classes = _in_class_order(found.folders, order)
    return classes, {name: idx for idx, name in enumerate(classes)}


def given_classes(
    given: list[str], found: Classes, directory: str, *, allow_fewer: bool
) -> Classes:
    """Return the classes that were given, if they are those that were found.

    Args:
        given: Their names, in the order of their numbers.
        found: What :func:`find_classes` found.
        directory: The root of the image folder.
        allow_fewer: Accept that some have no folder.

    Raises:
        ClassesDifferError: The folder has other classes.
    """
    numbers = {name: idx for idx, name in enumerate(given)}
    more = [name for name in found[0] if name not in numbers]
    fewer = [] if allow_fewer else [name for name in given if name not in found[1]]
    if not more and not fewer:
        return given, numbers
    parts = []
    if more:
        hidden = "; ignore_hidden=True leaves out hidden ones" if any(map(is_hidden, more)) else ""
        parts.append(
            f"it has {shorten(more)}, which classes= does not name (leave folders out with an "
            f"overridden find_classes or a ClassFilterWrapper{hidden})"
        )
    if fewer:
        parts.append(f"it lacks {shorten(fewer)} (allow_empty=True accepts that)")
    raise ClassesDifferError(
        f"the classes of {directory!r} are not the {len(given)} given, so the numbers of classes "
        f"would differ: {'; '.join(parts)}"
    )


def shorten(names: list[str]) -> str:
    """Return the first ten names as text, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(map(repr, names[:10])) + more


def scan(
    root: str, classes: Classes, rules: Rules, *, progress: bool = True, timed: bool = False
) -> OpenFolder:
    """List the images of every class, by class name, folder and file name.

    Args:
        root: The image folder.
        classes: Its classes: folders below the root.
        rules: Which files count.
        progress: Show a bar if it takes long.
        timed: Note when each folder last changed.

    Raises:
        UnreadableFolderError: A folder cannot be listed.
    """
    names = _in_class_order(classes[1], rules.class_order)
    settled = time.time_ns() - SETTLED
    with progress_bar(f"Scanning {root}", show=progress) as done:
        look = partial(
            _list_folder, rules.extensions, timed=timed, ignore_hidden=rules.ignore_hidden
        )
        found = _walk(root, names, look, done)
    blob, lengths, labels = bytearray(), array("q"), array("i")
    empty = []
    for name in names:
        before = len(labels)
        for path, folder in sorted(found[name].items()):
            files = folder.files.split(b"\0") if folder.count else []
            if rules.is_valid_file is not None:
                start = os.path.join(root, path, "")
                files = [file for file in files if rules.is_valid_file(start + os.fsdecode(file))]
            prefix = os.fsencode(os.path.join(path, ""))
            blob += b"".join([prefix + file for file in files])
            lengths.extend(len(prefix) + len(file) for file in files)
            labels.extend([classes[1][name]] * len(files))
        if len(labels) == before:
            empty.append(name)
    times = _times(found, settled) if timed else {}
    listing = Listing(pack_bytes(bytes(blob), lengths), np.array(labels, np.int32))
    noted = np.array(list(times.values()), np.int64).reshape(-1, 2)
    return OpenFolder(listing, classes, empty, pack(times), noted)


def _in_class_order(names: Iterable[str], order: str) -> list[str]:
    return sorted(names, key=_natural) if order == "natural" else sorted(names)


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", name)  # text and digits alternate, so like is compared with like
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _walk(
    root: str, tops: list[str], look: Callable[[str], _Folder], done: Callable[[int], object]
) -> dict[str, dict[str, _Folder]]:
    """Return, for each of ``tops``, every folder from there down (relative to ``root``)."""

    def list_below(top_and_path: tuple[str, str]) -> _Folder:
        top, path = top_and_path
        try:
            return look(os.path.join(root, path))
        except UnreadableFolderError as error:
            if path == top and isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return _Folder({}, b"", 0)  # a class known only to an overridden `find_classes`
            raise

    found: dict[str, dict[str, _Folder]] = {top: {} for top in tops}
    level = [(top, top) for top in tops]
    while level:
        below = []
        for (top, path), folder in zip(level, adaptive_map(list_below, level), strict=True):
            found[top][path] = folder
            done(folder.count)
            for name, is_link in folder.folders.items():
                inner = os.path.join(path, name)
                if is_link and _leads_back(root, top, inner):
                    _log.warning("%r leads back to a folder around it: not followed", inner)
                else:
                    below.append((top, inner))
        level = below
    return found


def _list_folder(
    extensions: tuple[str, ...] | None,
    path: str,
    *,
    timed: bool = False,
    ignore_hidden: bool = False,
) -> _Folder:
    """List one folder without a ``stat`` per file.

    Args:
        extensions: Endings, in lower case, of the files that count; None: all files count.
        path: The folder.
        timed: Note when the folder last changed.
        ignore_hidden: See :class:`Rules`.

    Raises:
        UnreadableFolderError: It cannot be listed.
    """
    folders: dict[str, bool] = {}
    files: list[str] = []
    try:
        times = folder_times(path) if timed else _UNKNOWN
        with os.scandir(path) as entries:
            for entry in entries:
                if ignore_hidden and is_hidden(entry.name):
                    continue
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
    files.sort()  # as strings: encoded, some names would sort differently
    return _Folder(folders, os.fsencode("\0".join(files)), len(files), times)


def folder_times(path: str) -> Times:
    """Return when a folder last changed."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ctime_ns


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in _BROKEN_LINK:
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


def _leads_back(root: str, top: str, path: str) -> bool:
    """Return whether a linked folder is one of those that were walked through to reach it."""
    target = os.stat(os.path.join(root, path))
    while len(path) > len(top):
        path = os.path.dirname(path)
        if os.path.samestat(target, os.stat(os.path.join(root, path))):
            return True
    return os.path.samestat(target, os.stat(root))


def _times(found: dict[str, dict[str, _Folder]], settled: int) -> dict[str, Times]:
    """Return the times of all folders, or zeros where they cannot be trusted.

    Times after ``settled`` are too recent: a later change may leave them the same. Two classes may
    share a folder, and it may have changed between their listings.
    """
    times: dict[str, Times] = {}
    for path, folder in (item for tree in found.values() for item in tree.items()):
        agree = times.get(path, folder.times) == folder.times
        times[path] = folder.times if agree and max(folder.times) <= settled else _UNKNOWN
    return times
