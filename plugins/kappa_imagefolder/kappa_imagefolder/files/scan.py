"""Finding the files of an image folder, in torchvision's order.

All folders of one depth are listed together, so that network storage answers for many at a time.
"""

# Paths are strings here: a Path per file takes several times as long.
# ruff: noqa: PTH116, PTH118, PTH120

from __future__ import annotations

import logging
import os
from array import array
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from kappa_imagefolder.adaptive_map import spread
from kappa_imagefolder.errors import NoClassesError, UnreadableFolderError
from kappa_imagefolder.files.folders import Folder, in_class_order, list_folder
from kappa_imagefolder.files.listing import Listing, PathPacker
from kappa_imagefolder.progress import Counter
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kappa_imagefolder.files.folders import Times

__all__ = ["IMG_EXTENSIONS", "Rules", "Scan", "check_classes", "scan"]

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

_log = logging.getLogger(__name__)
_MAX_LABEL = np.iinfo(np.int32).max
_GONE: Times = (0, 0)  # never believed; storage that keeps no times may say so of all folders


@dataclass(frozen=True)
class Rules:
    """Which files count, and in which order.

    Args:
        extensions: What the names of images end with, in lower case.
        is_valid_file: In place of ``extensions``: takes a file's path, which begins with the root.
        class_order: The order of the classes' files; one of ``folders.CLASS_ORDERS``.
    """

    extensions: tuple[str, ...] | None = IMG_EXTENSIONS
    is_valid_file: Callable[[str], bool] | None = None
    class_order: str = "lexicographic"


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    Args:
        listing: The files.
        empty: Names of the classes without one.
        folders: The folders that were listed, relative to the root, and their times; only if timed.
    """

    listing: Listing
    empty: list[str]
    folders: dict[str, Times]


def scan(
    root: str,
    class_to_idx: Mapping[str, int],
    rules: Rules,
    *,
    progress: bool = True,
    timed: bool = False,
) -> Scan:
    """List the images of every class, by class name, folder and file name.

    Args:
        root: The image folder.
        class_to_idx: Folder below the root → class index.
        rules: Which files count.
        progress: Show a bar if it takes long.
        timed: Note when each folder last changed.

    Raises:
        UnreadableFolderError: A folder cannot be listed.
    """
    check_classes(root, class_to_idx)
    names = in_class_order(class_to_idx, rules.class_order)
    with Counter(f"Scanning {root}", "image", show=progress) as counter:
        found = _walk(root, names, rules.extensions, counter, timed)
    packer = PathPacker()
    labels = array("i")
    empty = []
    for name in names:
        before = len(labels)
        for path, folder in sorted(found[name].items()):
            labels.extend([class_to_idx[name]] * _add(packer, root, path, folder, rules))
        if len(labels) == before:
            empty.append(name)
    return Scan(Listing.of(packer.pack(), labels), empty, _times(found) if timed else {})


def check_classes(root: str, class_to_idx: Mapping[str, int]) -> None:
    """Refuse what an own ``find_classes`` should not have returned."""
    if not class_to_idx:
        raise NoClassesError(f"find_classes gave no class for {root!r}")
    for name, idx in class_to_idx.items():
        if isinstance(idx, bool) or not isinstance(idx, int) or not 0 <= idx <= _MAX_LABEL:
            raise InvalidOptionError(
                f"find_classes must give every class an integer from 0 to {_MAX_LABEL}, "
                f"got {idx!r} for class {name!r}"
            )


def _walk(
    root: str, tops: list[str], extensions: tuple[str, ...] | None, counter: Counter, timed: bool
) -> dict[str, dict[str, Folder]]:
    """Return, for each of ``tops``, every folder from there down (relative to ``root``)."""
    found: dict[str, dict[str, Folder]] = {top: {} for top in tops}
    level = [(top, top) for top in tops]
    while level:
        below = []
        listed = spread(partial(_list, root, extensions, timed), level)
        for (top, path), folder in zip(level, listed, strict=True):
            found[top][path] = folder
            counter.add(folder.count)
            for name, is_link in folder.folders.items():
                inner = os.path.join(path, name)
                if is_link and _leads_back(root, top, inner):
                    _log.warning("%r leads back to a folder around it: not followed", inner)
                else:
                    below.append((top, inner))
        level = below
    return found


def _list(
    root: str, extensions: tuple[str, ...] | None, timed: bool, place: tuple[str, str]
) -> Folder:
    top, path = place
    try:
        return list_folder(os.path.join(root, path), extensions, timed=timed)
    except UnreadableFolderError as error:
        if path == top and isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return Folder({}, b"", 0)  # a class that only an own `find_classes` knows
        raise


def _times(found: dict[str, dict[str, Folder]]) -> dict[str, Times]:
    """Return the times of all folders; of one that two classes share, only if they agree."""
    times: dict[str, Times] = {}
    for path, folder in (place for tree in found.values() for place in tree.items()):
        noted = folder.times or _GONE
        times[path] = noted if times.get(path, noted) == noted else _GONE
    return times


def _add(packer: PathPacker, root: str, path: str, folder: Folder, rules: Rules) -> int:
    """Add the images of one folder; return how many there are."""
    if not folder.count:
        return 0
    names = folder.files.split(b"\0")
    if rules.is_valid_file is not None:
        prefix = os.path.join(root, path, "")
        names = [name for name in names if rules.is_valid_file(prefix + os.fsdecode(name))]
    packer.extend(os.fsencode(os.path.join(path, "")), names)
    return len(names)


def _leads_back(root: str, top: str, path: str) -> bool:
    """Say whether the linked folder is one of those that were walked through to reach it."""
    target = os.stat(os.path.join(root, path))
    while len(path) > len(top):
        path = os.path.dirname(path)
        if os.path.samestat(target, os.stat(os.path.join(root, path))):
            return True
    return os.path.samestat(target, os.stat(root))
