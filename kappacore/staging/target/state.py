"""What a target is now, before anything is done to it."""

from __future__ import annotations

import os
import stat
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from kappacore.errors import StagingError
from kappacore.staging.target.manifest import read_manifest, read_summary
from kappacore.staging.target.paths import (
    KAPPADATA_END,
    KAPPADATA_START,
    MANIFEST,
    UNFINISHED,
    is_bookkeeping,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from kappacore.staging.target.manifest import FileRecord

__all__ = ["TargetState", "Status", "known_files", "inspect_target", "staged_folders"]


class Status(Enum):
    """What a target is."""

    MISSING = "missing"  # or an empty folder, or one that holds only empty folders
    COMPLETE = "complete"  # has its manifest
    KAPPADATA = "kappadata"  # KappaData finished it
    FOUND = "found"  # somebody else put it there: it is theirs
    PARTS = "parts"  # parts of it were staged, by themselves
    UNFINISHED = "unfinished"  # staging began to complete it
    KAPPADATA_UNFINISHED = "kappadata-unfinished"


class TargetState(NamedTuple):
    """What was seen of a target."""

    status: Status
    summary: dict[str, Any] | None = None  # of its manifest, where that is whole
    parts: tuple[str, ...] = ()  # folders in it that were staged by themselves
    only_parts: bool = False  # and nothing else is there
    above: Path | None = None  # the staged folder that it is a part of


def inspect_target(target: Path) -> TargetState:
    """Return what a target is; this reads no list of files, however long it is.

    Raises:
        StagingError: if it is no folder, or part of what KappaData never finished.
    """
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
    try:
        summary = read_summary(target / MANIFEST)
    except FileNotFoundError:
        if unfinished:
            return TargetState(Status.UNFINISHED)
    else:
        whole = summary is not None and not unfinished
        return TargetState(Status.COMPLETE if whole else Status.UNFINISHED, summary)
    if os.path.lexists(target / KAPPADATA_START):
        finished = os.path.lexists(target / KAPPADATA_END)
        return TargetState(Status.KAPPADATA if finished else Status.KAPPADATA_UNFINISHED)
    return _look_unmarked(target)


def staged_folders(target: Path) -> tuple[tuple[str, ...], bool]:
    """Return the folders in a target, up to two levels down, that were staged by themselves.

    Also tells whether nothing else is there.
    """
    parts: list[str] = []
    alone = True
    for first in _folders_and_files(target):
        if not first.is_dir(follow_symlinks=False):
            alone = False
        elif _is_staged(first.path):
            parts.append(first.name)
        else:
            within = _folders_and_files(first.path)
            below = [
                item.name
                for item in within
                if item.is_dir(follow_symlinks=False) and _is_staged(item.path)
            ]
            parts += [f"{first.name}/{name}" for name in below]
            alone = alone and len(below) == len(within)
    return tuple(parts), alone


def known_files(
    target: Path, state: TargetState, wanted: Collection[str]
) -> tuple[dict[str, FileRecord], set[str]]:
    """Return the files and folders of a dataset that staging knows to have put into a target.

    Args:
        target: the target.
        state: what was seen of it.
        wanted: the folders of the dataset; what was staged to another folder is not part of it.
    """
    files: dict[str, FileRecord] = {}
    folders: set[str] = set()
    for part in (part for part in state.parts if part in wanted):
        for mark in (MANIFEST, UNFINISHED):
            if (path := target / part / mark).is_file():
                found = read_manifest(path)
                files.update({f"{part}/{name}": record for name, record in found.files.items()})
    if state.above is not None:
        prefix = f"{target.relative_to(state.above).as_posix()}/"
        found = read_manifest(state.above / UNFINISHED)
        files.update(
            {
                path[len(prefix) :]: record
                for path, record in found.files.items()
                if path.startswith(prefix)
            }
        )
    for mark in (MANIFEST, UNFINISHED):
        if (path := target / mark).is_file():
            found = read_manifest(path)
            files.update(found.files)
            folders |= found.folders
    return files, folders


def _look_unmarked(target: Path) -> TargetState:
    names = [name for name in os.listdir(target) if not is_bookkeeping(name)]  # noqa: PTH208
    if not names:
        return TargetState(Status.MISSING)
    for above in target.parents:
        if os.path.lexists(above / UNFINISHED):
            return _look_in_unfinished(target, above)
        if os.path.lexists(above / MANIFEST):
            return TargetState(Status.FOUND, above=above)
        if os.path.lexists(above / KAPPADATA_START):
            if os.path.lexists(above / KAPPADATA_END):
                break
            raise StagingError(
                f"'{target}' lies in '{above}', which KappaData began to copy and never finished, "
                f"so it may lack files. Stage '{above}' again, or remove it."
            )
    parts, alone = staged_folders(target)
    if alone and not parts:
        return TargetState(Status.MISSING)
    return TargetState(Status.PARTS if parts else Status.FOUND, parts=parts, only_parts=alone)


def _look_in_unfinished(target: Path, above: Path) -> TargetState:
    prefix = f"{target.relative_to(above).as_posix()}/"
    if any(path.startswith(prefix) for path in read_manifest(above / UNFINISHED).files):
        return TargetState(Status.UNFINISHED, above=above)
    return TargetState(Status.FOUND)


def _folders_and_files(path: Path | str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as found:
        return [item for item in found if not is_bookkeeping(item.name)]


def _is_staged(folder: str) -> bool:
    if os.path.lexists(f"{folder}/{MANIFEST}") or os.path.lexists(f"{folder}/{UNFINISHED}"):
        return True
    marks = (KAPPADATA_START, KAPPADATA_END)
    return all(os.path.lexists(f"{folder}/{mark}") for mark in marks)
