"""``copy_folder_from_global_to_local``, as scripts for KappaData call it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kappacore.staging.api import stage
from kappacore.staging.options import as_path, relative_parts
from kappacore.staging.sources.find import find_source, without_suffix
from kappacore.staging.target.manifest import read_summary
from kappacore.staging.target.paths import MANIFEST, UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CopyResult", "copy_folder_from_global_to_local"]


class CopyResult(NamedTuple):
    """What :func:`copy_folder_from_global_to_local` did.

    Attributes:
        was_copied: whether this call copied anything.
        was_deleted: whether an incomplete copy was there, which was replaced or completed.
        was_zip: whether it was extracted from an archive.
        path: the folder that the data is in.
    """

    was_copied: bool
    was_deleted: bool
    was_zip: bool
    path: Path


def copy_folder_from_global_to_local(
    global_path: str | os.PathLike[str],
    local_path: str | os.PathLike[str],
    relative_path: str | os.PathLike[str] | None = None,
    log: Callable[[str], Any] | None = None,
    **options: Any,
) -> CopyResult:
    """Copy a dataset from global storage to the local disk, unless it is there.

    Args:
        global_path: the dataset: a folder, or what a zip (or tar) file of that name holds.
        local_path: where the whole dataset goes.
        relative_path: a part of it, such as ``"train"``, which goes to
            ``local_path / global_path.name / relative_path``. Where parts are and the whole is
            asked for, it goes there too, to ``local_path / global_path.name``: it completes them.
        log: called with a line about each thing that is done, e.g. ``print``.
        options: those of :func:`kappacore.stage`.

    Returns:
        What was done, and the path that the data is at.

    Raises:
        StagingError: see :func:`kappacore.stage`.

    Example::

        result = copy_folder_from_global_to_local("/system/data/ImageNet", "/local/data", "train")
        dataset = torchvision.datasets.ImageFolder(result.path)
    """
    source = as_path(global_path, "global_path")
    local = as_path(local_path, "local_path")
    named = local / without_suffix(source.name)
    if relative_parts(relative_path) != Path():
        target = named
    else:
        target = named if _has_parts(named, local, source) else local
    result = stage(source, target, relative=relative_path, log=log, **options)
    return CopyResult(
        was_copied=result.copied,
        was_deleted=result.repaired,
        was_zip=result.copied and result.kind != "folder",
        path=result.path,
    )


def _has_parts(named: Path, local: Path, source: Path) -> bool:
    """Tell whether ``named`` holds parts of a source, or the whole that was made of them."""
    found = find_source(source)
    if found is None or not named.is_dir():
        return _is_marked(named) and not _is_marked(local)
    if _is_marked(local):
        return False
    tops = [named, *(item for item in named.iterdir() if item.is_dir())]
    return any(_is_from(top, found) for top in tops)


def _is_marked(folder: Path) -> bool:
    return os.path.lexists(folder / MANIFEST) or os.path.lexists(folder / UNFINISHED)


def _is_from(folder: Path, source: Path) -> bool:
    for name in (MANIFEST, UNFINISHED):
        try:
            summary = read_summary(folder / name)
        except FileNotFoundError:
            continue
        if summary is not None:
            staged = Path(summary["source"])
            return staged == source or source in staged.parents
    return False
