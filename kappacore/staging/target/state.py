"""The state of a target before anything is done to it.

Other processes may complete the target, parts of it, or a folder around it at the same time: a file
that is there may be gone a moment later. Everything is opened without a check that it exists.
"""

from __future__ import annotations

import os
import stat
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

from kappacore.errors import StagingError
from kappacore.staging.target.manifest import FileRecord, Manifest, read_manifest, read_summary
from kappacore.staging.target.paths import (
    KAPPADATA_END,
    KAPPADATA_START,
    MANIFEST,
    UNFINISHED,
    is_bookkeeping,
    is_marked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path


class Status(Enum):
    """How far a target is, and whose it is."""

    MISSING = auto()  # or a folder that contains only empty folders and hidden things
    COMPLETE = auto()  # has its manifest
    KAPPADATA = auto()  # completed by KappaData
    FOUND = auto()  # somebody else's, or a copy by hand
    PARTS = auto()  # parts of it were staged separately
    UNFINISHED = auto()  # being completed by staging
    KAPPADATA_UNFINISHED = auto()


class TargetState(NamedTuple):
    """What was found at a target.

    Attributes:
        status: How far it is.
        summary: That of its manifest, or of the manifest of ``above``, if it is complete.
        parts: Folders in it that were staged separately.
        only_parts: Whether it contains nothing else.
        above: The staged folder that it is a part of.
        known: Its files, if staging is completing the folder ``above``.
    """

    status: Status
    summary: dict[str, Any] | None = None
    parts: tuple[str, ...] = ()
    only_parts: bool = False
    above: Path | None = None
    known: dict[str, FileRecord] = {}  # noqa: RUF012 - never changed


def inspect_target(target: Path) -> TargetState:
    """Return the state of a target, without reading its list of files.

    Raises:
        StagingError: If it is not a folder, or is part of an unfinished copy by KappaData.
    """
    state = _marked(target)
    if state is None:
        unmarked = _unmarked(target)
        # A process that completes the target marks it, then removes the marks of its parts. They
        # were all there if the target has no mark even now.
        state = _marked(target) or unmarked
    return state


def staged_folders(target: Path) -> tuple[tuple[str, ...], bool]:
    """Return the folders in a target, up to two levels down, that were staged separately.

    Also returns whether it contains nothing else.
    """
    parts: list[str] = []
    alone = True
    for first in _items(target):
        if not first.is_dir(follow_symlinks=False):
            alone = False
        elif _is_staged(first.path):
            parts.append(first.name)
        else:
            within = _items(first.path)
            below = [
                f"{first.name}/{item.name}"
                for item in within
                if item.is_dir(follow_symlinks=False) and _is_staged(item.path)
            ]
            parts += below
            alone = alone and len(below) == len(within)
    return tuple(parts), alone


def known_files(
    target: Path,
    state: TargetState,
    wanted: Collection[str],
    is_from: Callable[[dict[str, Any] | None, str], bool],
) -> tuple[Manifest, set[str]]:
    """Return the files and folders of a dataset that staging has put into a target.

    Args:
        target: The target.
        state: Its state.
        wanted: The folders of the dataset; a part staged to another folder is not part of it.
        is_from: Tells by the summary of a manifest, and the part it is of, whether its files came
            from the source as it is now.

    Returns:
        The files and folders, and which of the files came from elsewhere, or nobody knows.
    """
    files: dict[str, FileRecord] = dict(state.known)
    foreign = set(files)
    folders: set[str] = set()
    for part in [*(part for part in state.parts if part in wanted), ""]:
        prefix = f"{part}/" if part else ""
        for found in _manifests_in(target / part):
            names = {f"{prefix}{name}": record for name, record in found.files.items()}
            files.update(names)
            (foreign.difference_update if is_from(found.summary, part) else foreign.update)(names)
            if not part:
                folders.update(found.folders)
    return Manifest(files, folders), foreign


def _manifests_in(folder: Path) -> list[Manifest]:
    # The mark is read first: it is removed once the manifest is there.
    unfinished, complete = read_manifest(folder / UNFINISHED), read_manifest(folder / MANIFEST)
    return [found for found in (complete, unfinished) if found is not None]


def _marked(target: Path) -> TargetState | None:
    """Return the state of a target by its own marks; None if it has none."""
    try:
        info = target.stat()
    except FileNotFoundError:
        return TargetState(Status.MISSING)
    if not stat.S_ISDIR(info.st_mode):
        raise StagingError(
            f"the target '{target}' is a file; staging needs a folder or a path that does not "
            f"exist yet. Choose another target."
        )
    unfinished = os.path.lexists(target / UNFINISHED)
    summary = read_summary(target / MANIFEST)
    if summary is not None and not unfinished:
        return TargetState(Status.COMPLETE, summary)
    if unfinished or os.path.lexists(target / MANIFEST):
        return TargetState(Status.UNFINISHED, summary)
    if os.path.lexists(target / KAPPADATA_START):
        finished = os.path.lexists(target / KAPPADATA_END)
        return TargetState(Status.KAPPADATA if finished else Status.KAPPADATA_UNFINISHED)
    return None


def _unmarked(target: Path) -> TargetState:
    """Return the state of a target without marks: by what is around it and in it."""
    if all(item.name.startswith(".") for item in _items(target)):
        return TargetState(Status.MISSING)
    for above in target.parents:
        if (found := read_manifest(above / UNFINISHED)) is not None:
            prefix = f"{target.relative_to(above).as_posix()}/"
            known = {
                path[len(prefix) :]: record
                for path, record in found.files.items()
                if path.startswith(prefix)
            }
            if known:
                return TargetState(Status.UNFINISHED, above=above, known=known)
            return TargetState(Status.FOUND)
        if os.path.lexists(above / MANIFEST):
            return TargetState(Status.FOUND, read_summary(above / MANIFEST), above=above)
        if os.path.lexists(above / KAPPADATA_START):
            if os.path.lexists(above / KAPPADATA_END):
                break
            raise StagingError(
                f"'{target}' is in '{above}', which KappaData began to copy and never finished, "
                f"so it may lack files. Stage '{above}' again, or remove it."
            )
    parts, alone = staged_folders(target)
    if alone and not parts:
        return TargetState(Status.MISSING)
    return TargetState(Status.PARTS if parts else Status.FOUND, parts=parts, only_parts=alone)


def _items(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return [item for item in found if not is_bookkeeping(item.name)]
    except FileNotFoundError:
        return []


def _is_staged(folder: str) -> bool:
    marks = (KAPPADATA_START, KAPPADATA_END)
    return is_marked(folder) or all(os.path.lexists(f"{folder}/{mark}") for mark in marks)
