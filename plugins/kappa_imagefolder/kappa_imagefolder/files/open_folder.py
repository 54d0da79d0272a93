"""Opening an image folder: its classes and files, found anew or by an index."""

# Paths are strings here, as torchvision has them.
# ruff: noqa: PTH100, PTH118

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kappa_imagefolder.errors import EmptyClassError
from kappa_imagefolder.files.index import Indexed, open_by_index
from kappa_imagefolder.files.listing import FullPaths, Listing, Samples, pack
from kappa_imagefolder.files.scan import check_classes, scan
from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kappa_imagefolder.files.scan import Rules

__all__ = ["open_folder", "own_samples"]


def open_folder(
    dataset: Any,
    base: type,
    rules: Rules,
    *,
    allow_empty: bool,
    index: bool | str,
    index_check: str,
    progress: bool,
) -> Indexed:
    """Find the classes and files of a dataset.

    Args:
        dataset: Has ``root``, ``find_classes`` and ``make_dataset``.
        base: The class whose ``find_classes`` and ``make_dataset`` are the usual ones.
        rules: Which files count.
        allow_empty: Accept classes without an image.
        index: Whether to use an index, or where it lies.
        index_check: How far the index is believed.
        progress: Show a bar if it takes long.
    """
    root, kind = dataset.root, type(dataset)
    if kind.make_dataset is not base.make_dataset:  # type: ignore[attr-defined]
        return _by_make_dataset(dataset, rules, allow_empty, index)
    if index is False:
        classes, class_to_idx = dataset.find_classes(root)
        found = scan(root, class_to_idx, rules, progress=progress)
        opened = Indexed(found.listing, (classes, class_to_idx), found.empty, None)
    else:
        usual = kind.find_classes is base.find_classes  # type: ignore[attr-defined]
        opened = open_by_index(
            root,
            rules,
            dataset.find_classes,
            own_classes=None if usual else f"{kind.__module__}.{kind.__qualname__}",
            index=index,
            check=index_check,
            progress=progress,
        )
    if not allow_empty:
        _refuse_empty(root, opened.empty, len(opened.classes[1]), rules)
    return opened


def own_samples(
    root: str, class_to_idx: Mapping[str, int], rules: Rules, *, allow_empty: bool
) -> Samples:
    """Scan, and return what ``make_dataset`` returns."""
    found = scan(root, class_to_idx, rules)
    if not allow_empty:
        _refuse_empty(root, found.empty, len(class_to_idx), rules)
    return Samples(FullPaths(root, found.listing.paths), found.listing.labels)


def _by_make_dataset(dataset: Any, rules: Rules, allow_empty: bool, index: bool | str) -> Indexed:
    if index is not False:
        raise InvalidOptionError(
            f"{type(dataset).__name__} has a make_dataset of its own, and an index cannot tell "
            "whether that still returns what it returned when the index was made; pass no index"
        )
    root = dataset.root
    classes, class_to_idx = dataset.find_classes(root)
    check_classes(root, class_to_idx)
    samples: Sequence[tuple[str, int]] = dataset.make_dataset(
        root, class_to_idx, rules.extensions, rules.is_valid_file, allow_empty
    )
    paths = pack(_relative(root, (path for path, _ in samples)))
    labels = [label for _, label in samples]
    return Indexed(Listing.of(paths, labels), (classes, class_to_idx), [], None)


def _relative(root: str, paths: Iterable[str]) -> Iterable[str]:
    """Yield each path as seen from ``root``; those elsewhere are made absolute."""
    prefix = os.path.join(root, "")
    for path in map(os.fsdecode, paths):
        inside = path.startswith(prefix) and not path.startswith(os.sep, len(prefix))
        yield path[len(prefix) :] if inside else os.path.abspath(path)


def _refuse_empty(root: str, empty: list[str], total: int, rules: Rules) -> None:
    if empty:
        wanted = f" (files ending with {', '.join(rules.extensions)})" if rules.extensions else ""
        raise EmptyClassError(
            f"{len(empty)} of the {total} classes in {root!r} have no image: "
            f"{_enumerate(empty)}{wanted}. Remove these folders, or pass allow_empty=True"
        )


def _enumerate(names: list[str], shown: int = 10) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(repr(name) for name in names[:shown]) + more
