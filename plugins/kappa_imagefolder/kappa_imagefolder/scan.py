"""Finding the classes and files of an image folder, in torchvision's order.

Only ``scandir`` is used, so no file costs a ``stat``; on network storage that is most of the time.
"""

# Paths are strings here: a Path per file takes several times as long.
# ruff: noqa: PTH109, PTH112, PTH116, PTH118, PTH120

from __future__ import annotations

import errno
import logging
import os
import stat
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kappa_imagefolder.errors import (
    EmptyClassError,
    NoClassesError,
    RootNotFolderError,
    RootNotFoundError,
    UnreadableFolderError,
)
from kappa_imagefolder.paths import PackedPaths, PathPacker
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["IMG_EXTENSIONS", "Listing", "check_folder", "find_classes", "scan"]

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

_log = logging.getLogger(__name__)
_MAX_LABEL = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Listing:
    """The files of an image folder.

    Args:
        paths: Their paths relative to the root.
        labels: Their class indices; ``int32`` of shape ``(N,)``.
    """

    paths: PackedPaths
    labels: npt.NDArray[np.int32]


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


def find_classes(directory: str) -> tuple[list[str], dict[str, int]]:
    """List the folders directly below ``directory``, in lexicographic order.

    Returns:
        The names, and the index of each.

    Raises:
        NoClassesError: It holds no folder.
        UnreadableFolderError: It cannot be listed.
    """
    try:
        folders, files = _list_folder(directory)
    except OSError as error:
        raise _unreadable(directory, error) from error
    if not folders:
        raise NoClassesError(
            f"the image folder {directory!r} holds no class folder ({len(files)} files directly "
            "in it); images are expected in one subfolder per class, such as "
            f"{os.path.join(directory, 'cat', '1.jpg')!r}"
        )
    classes = sorted(folders)
    return classes, {name: idx for idx, name in enumerate(classes)}


def scan(
    root: str,
    class_to_idx: Mapping[str, int],
    extensions: tuple[str, ...] | None,
    is_valid_file: Callable[[str], bool] | None = None,
    *,
    allow_empty: bool = False,
) -> Listing:
    """List the images of every class, by class name, folder and file name.

    Args:
        root: The image folder.
        class_to_idx: Folder below the root → class index.
        extensions: What the names of images end with, in lower case.
        is_valid_file: In place of ``extensions``: takes a file's path, which begins with ``root``.
        allow_empty: Accept classes without an image.

    Raises:
        EmptyClassError: A class has no image.
        UnreadableFolderError: A folder cannot be listed.
    """
    _check_classes(root, class_to_idx)
    packer = PathPacker()
    labels = array("i")
    empty = []
    for name in sorted(class_to_idx):
        before = len(labels)
        for folder, files in _walk(root, name):
            images = _images(root, folder, files, extensions, is_valid_file)
            packer.extend(images)
            labels.extend([class_to_idx[name]] * len(images))
        if len(labels) == before:
            empty.append(name)
    if empty and not allow_empty:
        wanted = f" (files ending with {', '.join(extensions)})" if extensions else ""
        raise EmptyClassError(
            f"{len(empty)} of the {len(class_to_idx)} classes in {root!r} have no image: "
            f"{_enumerate(empty)}{wanted}. Remove these folders, or pass allow_empty=True"
        )
    packed = np.array(labels, dtype=np.int32)
    packed.flags.writeable = False
    return Listing(packer.pack(), packed)


def _check_classes(root: str, class_to_idx: Mapping[str, int]) -> None:
    if not class_to_idx:
        raise NoClassesError(f"find_classes gave no class for {root!r}")
    for name, idx in class_to_idx.items():
        if isinstance(idx, bool) or not isinstance(idx, int) or not 0 <= idx <= _MAX_LABEL:
            raise InvalidOptionError(
                f"find_classes must give every class an integer from 0 to {_MAX_LABEL}, "
                f"got {idx!r} for class {name!r}"
            )


def _images(
    root: str,
    folder: str,
    files: list[str],
    extensions: tuple[str, ...] | None,
    is_valid_file: Callable[[str], bool] | None,
) -> list[str]:
    """Paths (relative to ``root``) of the images among the files of one folder, sorted."""
    if extensions is not None:
        files = [name for name in files if name.lower().endswith(extensions)]
    prefix = os.path.join(folder, "")
    paths = [prefix + name for name in sorted(files)]
    if is_valid_file is not None:
        paths = [path for path in paths if is_valid_file(os.path.join(root, path))]
    return paths


def _walk(root: str, top: str) -> list[tuple[str, list[str]]]:
    """Each folder from ``top`` down (relative to ``root``) and its files, sorted by folder."""
    if not os.path.isdir(os.path.join(root, top)):
        return []  # a class that only an own `find_classes` knows
    found: list[tuple[str, list[str]]] = []
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            folders, files = _list_folder(os.path.join(root, folder))
            found.append((folder, files))
            for name, is_link in folders.items():
                path = os.path.join(folder, name)
                if is_link and _leads_back(root, top, path):
                    _log.warning("%r leads back to a folder around it: not followed", path)
                else:
                    pending.append(path)
        except OSError as error:
            raise _unreadable(os.path.join(root, folder), error) from error
    found.sort(key=lambda entry: entry[0])
    return found


def _unreadable(folder: str, error: OSError) -> UnreadableFolderError:
    return UnreadableFolderError(
        f"cannot list the folder {folder!r}: {error.strerror}. "
        "Its images would be missing, so nothing was loaded"
    )


def _list_folder(path: str) -> tuple[dict[str, bool], list[str]]:
    """Return the folders in ``path`` (name → whether it is a link) and the other names."""
    folders: dict[str, bool] = {}
    files: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if _is_folder(entry):
                folders[entry.name] = entry.is_symlink()
            else:
                files.append(entry.name)
    return folders, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself leads nowhere: not a folder
            return False
        raise


def _leads_back(root: str, top: str, path: str) -> bool:
    """Say whether the linked folder is one of those that were walked through to reach it."""
    target = os.stat(os.path.join(root, path))
    while len(path) > len(top):
        path = os.path.dirname(path)
        if os.path.samestat(target, os.stat(os.path.join(root, path))):
            return True
    return os.path.samestat(target, os.stat(root))


def _enumerate(names: list[str], shown: int = 10) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + more
