"""``copy_folder_from_global_to_local``, as scripts written for KappaData call it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kappacore._printable import printable_errors
from kappacore.staging.api import os_errors_explained, stage
from kappacore.staging.options import as_path, checked_relative
from kappacore.staging.sources.find import find_source, without_suffix
from kappacore.staging.target.manifest import read_summary
from kappacore.staging.target.paths import MANIFEST, UNFINISHED, is_marked

if TYPE_CHECKING:
    import os
    from collections.abc import Callable


class CopyResult(NamedTuple):
    """What :func:`copy_folder_from_global_to_local` did.

    Attributes:
        was_copied: Whether this call copied anything.
        was_deleted: Whether an incomplete copy was replaced or completed.
        was_zip: Whether it was extracted from an archive.
        path: The folder that contains the data.
    """

    was_copied: bool
    was_deleted: bool
    was_zip: bool
    path: Path


@printable_errors()
def copy_folder_from_global_to_local(
    global_path: str | os.PathLike[str],
    local_path: str | os.PathLike[str],
    relative_path: str | os.PathLike[str] | None = None,
    log: Callable[[str], Any] | None = None,
    **options: Any,
) -> CopyResult:
    """Copy a dataset from global storage to the local disk, unless it is there.

    Args:
        global_path: The dataset: a folder, or a zip (or tar) file of that name.
        local_path: The folder for the whole dataset.
        relative_path: A part of it, such as ``"train"``, which is copied to
            ``local_path / global_path.name / relative_path``. The whole, staged after a part, goes
            to ``local_path / global_path.name`` and completes it.
        log: Called with a line about each step, e.g. ``print``.
        options: Those of :func:`kappacore.stage`.

    Returns:
        What was done, and the path of the data.

    Raises:
        StagingError: See :func:`kappacore.stage`.

    Example::

        result = copy_folder_from_global_to_local("/system/data/ImageNet", "/local/data", "train")
        dataset = torchvision.datasets.ImageFolder(result.path)
    """
    source = as_path(global_path, "global_path")
    local = as_path(local_path, "local_path")
    named = local / without_suffix(source.name)
    is_part = checked_relative(relative_path) != Path()
    with os_errors_explained(local):
        target = named if is_part or _has_parts(named, local, source) else local
    result = stage(source, target, relative=relative_path, log=log, **options)
    return CopyResult(
        was_copied=result.copied,
        was_deleted=result.repaired,
        was_zip=result.copied and result.kind != "folder",
        path=result.path,
    )


def _has_parts(named: Path, local: Path, source: Path) -> bool:
    """Return whether ``named`` contains parts of a source, or the whole made from them."""
    if is_marked(local):
        return False
    found = find_source(source)
    if found is None or not named.is_dir():
        return is_marked(named)
    return any(_is_from(top, found) for top in (named, *named.iterdir()) if top.is_dir())


def _is_from(folder: Path, source: Path) -> bool:
    for name in (UNFINISHED, MANIFEST):
        if (summary := read_summary(folder / name)) is not None:
            staged = Path(summary["source"])
            return staged == source or source in staged.parents
    return False
