"""Opening an image folder by its index, and making one where there is none or it is out of date.

An index says which files there are and their classes; nothing about what is in them. How much is
looked at before it is believed:

- ``"trust"``: nothing but the index itself;
- ``"dirs"``: the names of the classes, and when each folder last changed (mtime and ctime);
- ``"full"``: everything, by a scan.
"""

# Plain strings and os functions: names that are not UTF-8 pass through them unchanged.
# ruff: noqa: PTH103, PTH111, PTH117, PTH118, PTH120

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from kappa_imagefolder.adaptive_map import spread
from kappa_imagefolder.errors import IndexFileError
from kappa_imagefolder.files.content import arrays_of, check_content, folders_of, mapped
from kappa_imagefolder.files.folders import folder_times
from kappa_imagefolder.files.index_file import (
    ForeignFileError,
    IndexFile,
    read_index_file,
    write_index_file,
)
from kappa_imagefolder.files.scan import scan
from kappa_imagefolder.identity import listing_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from kappa_imagefolder.files.folders import Times
    from kappa_imagefolder.files.listing import Listing, PackedPaths
    from kappa_imagefolder.files.scan import Rules, Scan

__all__ = ["CHECKS", "Indexed", "about", "open_by_index", "save_index"]

#: What ``index_check`` may be.
CHECKS = ("trust", "dirs", "full")

_log = logging.getLogger(__name__)
SETTLED = 2_000_000_000  # nanoseconds: some file systems note times in steps of two seconds
_STATS = 16  # folders asked for their times by one call of a thread

Classes = tuple[list[str], dict[str, int]]


@dataclass(frozen=True)
class Indexed:
    """An image folder opened by its index.

    Args:
        listing: The files.
        classes: Names of the classes, and their indices.
        empty: Names of the classes without a file.
        path: The index; None if it could be written nowhere.
    """

    listing: Listing
    classes: Classes
    empty: list[str]
    path: str | None


def open_by_index(
    root: str,
    rules: Rules,
    find_classes: Callable[[str], Classes],
    *,
    own_classes: str | None = None,
    index: bool | str = True,
    check: str = "dirs",
    progress: bool = True,
) -> Indexed:
    """Open an image folder by its index; make the index if there is none that is up to date.

    Args:
        root: The image folder.
        rules: Which files count, in which order.
        find_classes: Lists the classes.
        own_classes: Names ``find_classes`` where it is not the usual one; it is then always asked.
        index: Where the index lies; True: in the root, else in the user's cache.
        check: One of :data:`CHECKS`.
        progress: Show a bar if a scan takes long.

    Raises:
        IndexFileError: ``index`` is a path, and nothing can be written there, or it is the path of
            something else than an index.
    """
    places = _places(root, rules, index, own_classes)
    classes = None if check == "trust" and own_classes is None else _ask(find_classes, root)
    purpose = about(root, rules, own_classes)
    chosen = index is not True
    read = [_read(place, purpose, chosen) for place in places]
    candidates = sorted((file for file in read if file), key=lambda file: -file.written)
    if check != "full":
        for file in candidates:
            if _is_current(file, root, classes, check):
                return _opened(file)
    classes = _ask(find_classes, root) if classes is None else classes
    began = time.time_ns()
    found = scan(root, classes[1], rules, progress=progress, timed=True)
    for file in candidates if check == "full" else ():
        if _holds(file, classes, found):
            return _opened(file)
    _distrust(found, began - SETTLED)
    return save_index(places, purpose, classes, found, chosen=chosen)


def _places(
    root: str, rules: Rules, index: bool | str = True, own_classes: str | None = None
) -> list[str]:
    """Return where the index of a folder may lie, the best place first."""
    if not isinstance(index, bool):
        return [index]
    kind = ascii((rules.extensions, rules.class_order, own_classes))
    name = f".kappa_imagefolder-{xxhash.xxh3_64_hexdigest(kind.encode())}.index"
    whose = xxhash.xxh3_64_hexdigest(os.fsencode(os.path.realpath(root)))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # it is to be ignored then
        base = os.path.expanduser("~/.cache")
    places = [os.path.join(root, name)]
    if os.path.isabs(base):  # else the user has no home
        places.append(os.path.join(base, "kappa_imagefolder", whose + name))
    return places


def _ask(find_classes: Callable[[str], Classes], root: str) -> Classes:
    classes, class_to_idx = find_classes(root)
    return list(classes), dict(class_to_idx)


def about(root: str, rules: Rules, own_classes: str | None = None) -> dict[str, Any]:
    """Return what an index is made for; see :func:`open_by_index`."""
    return {
        "root": os.path.realpath(root),
        "extensions": list(rules.extensions or ()),
        "class_order": rules.class_order,
        "find_classes": own_classes,
    }


def _read(place: str, purpose: Mapping[str, Any], chosen: bool) -> IndexFile | None:
    """Return the index at ``place`` if it was made for this folder in this way."""
    try:
        file = read_index_file(place)
        check_content(file)
    except FileNotFoundError:
        return None
    except ForeignFileError as error:
        if chosen:
            raise IndexFileError(
                f"{error}; it stays as it is. Give index= another path, or remove it"
            ) from None
        _log.warning("%s; it will be replaced", error)
        return None
    except IndexFileError as error:
        _log.warning("%s; it will be replaced", error)
        return None
    for what, expected in purpose.items():
        if what == "root" and _is_inside(place, purpose["root"]):
            continue  # it moves and is copied with the folder
        if file.about.get(what) != expected:
            _log.warning("the index %r is for another %s; it will be replaced", place, what)
            return None
    return file


def _is_inside(place: str, root: str) -> bool:
    return os.path.realpath(os.path.dirname(place)) == root


def _is_current(file: IndexFile, root: str, classes: Classes | None, check: str) -> bool:
    if classes is not None and _classes(file) != classes:
        _log.info("the classes in %r are not those of %r", root, file.path)
        return False
    if check == "trust":
        return True
    try:
        file.check_arrays()
    except IndexFileError as error:
        _log.warning("%s; it will be replaced", error)
        return False
    return _times_are(root, folders_of(file), file.arrays["times"])


def _times_are(root: str, folders: PackedPaths, expected: npt.NDArray[np.int64]) -> bool:
    """Say whether each folder last changed when the index says."""

    def ask(chunk: range) -> list[Times]:
        return [folder_times(os.path.join(root, folders[i])) for i in chunk]

    if not expected.any(axis=1).all():
        _log.info("not all folders in %r have times that can be believed", root)
        return False
    chunks = [range(i, min(i + _STATS, len(folders))) for i in range(0, len(folders), _STATS)]
    try:
        for chunk, times in zip(chunks, spread(ask, chunks), strict=True):
            if not np.array_equal(times, expected[chunk.start : chunk.stop]):
                _log.info("a folder in %r has changed since it was indexed", root)
                return False
    except OSError as error:
        _log.info("a folder in %r has changed since it was indexed: %s", root, error)
        return False
    return True


def _holds(file: IndexFile, classes: Classes, found: Scan) -> bool:
    """Say whether an index holds what a scan found."""
    if _classes(file) != classes:
        return False
    return all(np.array_equal(file.arrays[name], array) for name, array in arrays_of(found).items())


def _opened(file: IndexFile) -> Indexed:
    return Indexed(mapped(file), _classes(file), file.about["empty"], file.path)


def _classes(file: IndexFile) -> Classes:
    return file.about["classes"], file.about["class_to_idx"]


def _distrust(found: Scan, since: int) -> None:
    """Forget times too recent to tell whether the folder has changed since it was listed."""
    for path, times in found.folders.items():
        if max(times) > since:
            found.folders[path] = (0, 0)


def save_index(
    places: list[str], purpose: dict[str, Any], classes: Classes, found: Scan, *, chosen: bool
) -> Indexed:
    """Write an index to the first place that can be written, and open it there.

    Args:
        places: Where it may lie.
        purpose: What :func:`about` returned.
        classes: The classes.
        found: What goes into it.
        chosen: Whether the place was given by the user, who is then to know that it cannot be.

    Raises:
        IndexFileError: The chosen place cannot be written.
    """
    content = {
        **purpose,
        "classes": classes[0],
        "class_to_idx": classes[1],
        "empty": found.empty,
        "listing": listing_digest(found.listing),
    }
    root, arrays = purpose["root"], arrays_of(found)
    if "" in classes[1]:  # the root is a class, and an index in it would change its times
        places = [place for place in places if chosen or not _is_inside(place, root)]
    errors = []
    for place in places:
        private = not chosen and not _is_inside(place, root)
        try:
            if private:
                os.makedirs(os.path.dirname(place), 0o700, exist_ok=True)
            return _opened(write_index_file(place, content, arrays, 0o600 if private else 0o666))
        except OSError as error:
            errors.append(f"{place!r}: {error.strerror or error}")
    text = f"cannot write an index of {root!r} to {'; nor to '.join(errors)}"
    if chosen:
        raise IndexFileError(text)
    _log.warning("%s. The next opening scans again", text)
    return Indexed(found.listing, classes, found.empty, None)
