"""Opening an image folder: by a scan, by an index, or by an overridden ``make_dataset``.

An index holds which files there are and their classes, nothing about their content. One that is
missing or out of date is made anew. What is checked before it is used:

- ``"trust"``: only the index itself;
- ``"dirs"``: the names of the classes, and when each folder last changed (mtime and ctime);
- ``"full"``: everything, by a scan.
"""

# Plain strings and os functions: names that are not UTF-8 pass through them unchanged.
# ruff: noqa: PTH100, PTH103, PTH111, PTH117, PTH118, PTH120

from __future__ import annotations

import logging
import operator
import os
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from kappa_imagefolder.adaptive_map import adaptive_map
from kappa_imagefolder.errors import EmptyClassError, IndexFileError, NoClassesError
from kappa_imagefolder.files.index_file import (
    ForeignFileError,
    arrays_of,
    read_index_file,
    write_index_file,
)
from kappa_imagefolder.files.listing import Listing, OpenFolder, pack
from kappa_imagefolder.files.scan import folder_times, is_hidden, scan, shorten
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kappa_imagefolder.files.index_file import IndexFile
    from kappa_imagefolder.files.listing import Classes
    from kappa_imagefolder.files.scan import Rules

#: Values of ``index_check``.
CHECKS = ("trust", "dirs", "full")

_log = logging.getLogger(__name__)
_OLDER = {"ignore_hidden": False}  # what an index was made for, where it does not say so
_MAX_LABEL = np.iinfo(np.int32).max


def open_folder(
    root: str,
    rules: Rules,
    find_classes: Callable[[str], Classes],
    *,
    make_dataset: Callable[..., Sequence[tuple[str, int]]] | None = None,
    allow_empty: bool = False,
    index: bool | str = False,
    index_check: str = "dirs",
    progress: bool = True,
) -> OpenFolder:
    """Find the classes and files of an image folder.

    Args:
        root: The image folder.
        rules: Which files count, in which order.
        find_classes: Lists the classes; one that is overridden is called even on trust.
        make_dataset: An overridden ``make_dataset``, which lists the files in place of a scan.
        allow_empty: Accept classes without an image.
        index: Whether to use an index, or its path; False with ``make_dataset``.
        index_check: One of :data:`CHECKS`.
        progress: Show a bar if a scan takes long.

    Raises:
        EmptyClassError: A class has no image.
        IndexFileError: ``index`` is a path that cannot be written, or that of another kind of file.
    """

    @cache
    def classes() -> Classes:
        names, class_to_idx = find_classes(root)
        _check_classes(root, class_to_idx)
        return list(names), dict(class_to_idx)

    if make_dataset is not None:
        options = {
            "extensions": rules.extensions,
            "is_valid_file": rules.is_valid_file,
            "allow_empty": allow_empty,
        }
        samples = make_dataset(root, class_to_idx=classes()[1], **options)
        listing = listing_of(root, samples, "make_dataset must return")
        folder = OpenFolder(listing, classes(), [], pack([]), np.empty((0, 2), np.int64))
    elif index is False:
        folder = scan(root, classes(), rules, progress=progress)
    else:
        folder = _by_index(root, rules, classes, index, index_check, progress)
    if folder.empty and not allow_empty:
        wanted = f" (files ending with {', '.join(rules.extensions)})" if rules.extensions else ""
        hint = ""
        if not rules.ignore_hidden and any(map(is_hidden, folder.empty)):
            hint = "ignore_hidden=True (to leave out hidden files and folders) or "
        raise EmptyClassError(
            f"{len(folder.empty)} of the {len(folder.classes[1])} classes in {root!r} have no "
            f"image: {shorten(folder.empty)}{wanted}. Remove these folders, or pass "
            f"{hint}allow_empty=True"
        )
    return folder


def _check_classes(root: str, class_to_idx: Mapping[str, int]) -> None:
    """Refuse an invalid result of an overridden ``find_classes``."""
    if not class_to_idx:
        raise NoClassesError(f"find_classes returned no class for {root!r}")
    for name, idx in class_to_idx.items():
        if isinstance(idx, bool) or not isinstance(idx, int) or not 0 <= idx <= _MAX_LABEL:
            raise InvalidOptionError(
                f"find_classes must give every class an integer from 0 to {_MAX_LABEL}, "
                f"got {idx!r} for class {name!r}"
            )


def listing_of(root: str, samples: Iterable[Any], rule: str) -> Listing:
    """Return the listing of samples that the user chose.

    Args:
        root: The image folder.
        samples: ``(path, label)`` of each.
        rule: The beginning of the message about samples that are something else.

    Raises:
        InvalidOptionError: They are something else.
    """
    paths, labels = [], []
    for sample in samples if isinstance(samples, Iterable) else (samples,):
        try:
            path, label = sample
            paths.append(os.fsdecode(path))
            labels.append(operator.index(label))
        except (TypeError, ValueError):
            label = -1
        if not 0 <= label <= _MAX_LABEL:
            raise InvalidOptionError(
                f"{rule} a list of (path, label), with labels from 0 to {_MAX_LABEL}; "
                f"got {sample!r} ({type(sample).__name__}) in it"
            )
    return Listing(pack(_relative(root, paths)), np.array(labels, np.int32))


def _relative(root: str, paths: Iterable[str]) -> Iterable[str]:
    """Yield each path relative to ``root``; those outside it are made absolute."""
    prefix = os.path.join(root, "")
    for path in paths:
        inside = path.startswith(prefix) and not path.startswith(os.sep, len(prefix))
        yield path[len(prefix) :] if inside else os.path.abspath(path)


def _by_index(
    root: str,
    rules: Rules,
    classes: Callable[[], Classes],
    index: bool | str,
    check: str,
    progress: bool,
) -> OpenFolder:
    """Open an image folder by its index; make the index unless there is one that is up to date."""
    chosen = index is not True
    paths = [str(index)] if chosen else index_paths(root, rules)
    purpose = purpose_of(root, rules)
    files = [file for path in paths if (file := _read(path, purpose, chosen)) is not None]
    trusts_classes = check == "trust" and rules.own_classes is None
    scanned = cache(lambda: scan(root, classes(), rules, progress=progress, timed=True))
    for file in sorted(files, key=lambda file: -file.written):
        if check == "full":
            if _is_same(file, scanned()):
                return file
        elif not trusts_classes and file.classes != classes():
            _log.info("the classes in %r are not those of %r", root, file.index_path)
        elif check == "trust" or _is_unchanged(file, root):
            return file
    return save_index(paths, purpose, scanned(), chosen=chosen)


def index_paths(root: str, rules: Rules) -> list[str]:
    """Return where the index of a folder may be: in the root, else in the user's cache."""
    kind = ascii((rules.extensions, rules.class_order, rules.own_classes))
    kind += " without hidden" if rules.ignore_hidden else ""  # others have the name they had
    name = f".kappa_imagefolder-{xxhash.xxh3_64_hexdigest(kind.encode())}.index"
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification says to ignore it then
        base = os.path.expanduser("~/.cache")
    paths = [os.path.join(root, name)]
    if os.path.isabs(base):  # else the user has no home
        which = xxhash.xxh3_64_hexdigest(os.fsencode(os.path.realpath(root)))
        paths.append(os.path.join(base, "kappa_imagefolder", which + name))
    return paths


def purpose_of(root: str, rules: Rules) -> dict[str, Any]:
    """Return what an index is made for; see :func:`open_folder`."""
    return {
        "root": os.path.realpath(root),
        "extensions": list(rules.extensions or ()),
        "class_order": rules.class_order,
        "find_classes": rules.own_classes,
        "ignore_hidden": rules.ignore_hidden,
    }


def _read(path: str, purpose: dict[str, Any], chosen: bool) -> IndexFile | None:
    """Return the index at ``path`` if it was made for this purpose."""
    try:
        file = read_index_file(path)
    except FileNotFoundError:
        return None
    except IndexFileError as error:
        if chosen and isinstance(error, ForeignFileError):
            raise IndexFileError(
                f"{error}; it is left as it is. Give index= another path, or remove it"
            ) from None
        _log.warning("%s; it will be replaced", error)
        return None
    for what, expected in purpose.items():
        if what == "root" and _is_inside(path, expected):
            continue  # it moves and is copied with the folder
        if file.purpose.get(what, _OLDER.get(what)) != expected:
            _log.warning("the index %r is for another %s; it will be replaced", path, what)
            return None
    return file


def _is_inside(path: str, root: str) -> bool:
    return os.path.realpath(os.path.dirname(path)) == root


def _is_unchanged(file: IndexFile, root: str) -> bool:
    """Return whether an index is whole, and each folder last changed when it says."""
    try:
        file.check_arrays()
    except IndexFileError as error:
        _log.warning("%s; it will be replaced", error)
        return False
    if not file.times.any(axis=1).all():
        _log.info("not all folders in %r have times that can be trusted", root)
        return False
    folders = (os.path.join(root, folder) for folder in file.folders)
    try:
        if np.array_equal(list(adaptive_map(folder_times, folders, batch=16)), file.times):
            return True
        reason = "its times"
    except OSError as error:
        reason = str(error)
    _log.info("a folder in %r has changed since it was indexed: %s", root, reason)
    return False


def _is_same(file: IndexFile, found: OpenFolder) -> bool:
    """Return whether an index says what a scan found."""
    arrays = arrays_of(file)
    return file.classes == found.classes and all(
        np.array_equal(arrays[name], array) for name, array in arrays_of(found).items()
    )


def save_index(
    paths: list[str], purpose: dict[str, Any], found: OpenFolder, *, chosen: bool
) -> OpenFolder:
    """Write an index to the first path that can be written, and open it there.

    Args:
        paths: Where it may be.
        purpose: The result of :func:`purpose_of`.
        found: What it is to say.
        chosen: Whether the user gave the path; then failing to write it is an error.

    Raises:
        IndexFileError: The chosen path cannot be written.
    """
    root = purpose["root"]
    errors = []
    for path in paths:
        inside = _is_inside(path, root)
        if inside and not chosen and "" in found.classes[1]:
            continue  # the root is a class, and an index in it would change its times
        mode = 0o666 if chosen or inside else 0o600
        try:
            if mode == 0o600:
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            return write_index_file(path, purpose, found, mode)
        except OSError as error:
            errors.append(f"{path!r}: {error.strerror or error}")
    text = f"cannot write an index of {root!r} to {'; nor to '.join(errors)}"
    if chosen:
        raise IndexFileError(text)
    _log.warning("%s. The next opening scans again", text)
    return found
