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

    from kappacore.staging.target.manifest import Record

__all__ = ["Look", "State", "known_files", "look_at", "staged_folders"]


class State(Enum):
    """What a target is."""

    MISSING = "missing"  # or an empty folder, or one that holds only empty folders
    COMPLETE = "complete"  # has its manifest
    KAPPADATA = "kappadata"  # KappaData finished it
    FOUND = "found"  # somebody else put it there: it is theirs
    PARTS = "parts"  # parts of it were staged, by themselves
    UNFINISHED = "unfinished"  # staging began to complete it
    KAPPADATA_UNFINISHED = "kappadata-unfinished"


class Look(NamedTuple):
    """What was seen of a target."""

    state: State
    summary: dict[str, Any] | None = None  # of its manifest, where that is whole
    parts: tuple[str, ...] = ()  # folders in it that were staged by themselves
    only_parts: bool = False  # and nothing else is there
    above: Path | None = None  # the staged folder that it is a part of


def look_at(target: Path) -> Look:
    """Return what a target is; this reads no list of files, however long it is.

    Raises:
        StagingError: if it is no folder, or part of what KappaData never finished.
    """
    try:
        info = target.stat()
    except FileNotFoundError:
        return Look(State.MISSING)
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
            return Look(State.UNFINISHED)
    else:
        whole = summary is not None and not unfinished
        return Look(State.COMPLETE if whole else State.UNFINISHED, summary)
    if os.path.lexists(target / KAPPADATA_START):
        finished = os.path.lexists(target / KAPPADATA_END)
        return Look(State.KAPPADATA if finished else State.KAPPADATA_UNFINISHED)
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
    target: Path, look: Look, wanted: Collection[str]
) -> tuple[dict[str, Record], set[str]]:
    """Return the files and folders of a dataset that staging knows to have put into a target.

    Args:
        target: the target.
        look: what was seen of it.
        wanted: the folders of the dataset; what was staged to another folder is not part of it.
    """
    files: dict[str, Record] = {}
    folders: set[str] = set()
    for part in (part for part in look.parts if part in wanted):
        for mark in (MANIFEST, UNFINISHED):
            if (path := target / part / mark).is_file():
                found = read_manifest(path)
                files.update({f"{part}/{name}": record for name, record in found.files.items()})
    if look.above is not None:
        prefix = f"{target.relative_to(look.above).as_posix()}/"
        found = read_manifest(look.above / UNFINISHED)
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


def _look_unmarked(target: Path) -> Look:
    names = [name for name in os.listdir(target) if not is_bookkeeping(name)]  # noqa: PTH208
    if not names:
        return Look(State.MISSING)
    for above in target.parents:
        if os.path.lexists(above / UNFINISHED):
            return _look_in_unfinished(target, above)
        if os.path.lexists(above / MANIFEST):
            return Look(State.FOUND, above=above)
        if os.path.lexists(above / KAPPADATA_START):
            if os.path.lexists(above / KAPPADATA_END):
                break
            raise StagingError(
                f"'{target}' lies in '{above}', which KappaData began to copy and never finished, "
                f"so it may lack files. Stage '{above}' again, or remove it."
            )
    parts, alone = staged_folders(target)
    if alone and not parts:
        return Look(State.MISSING)
    return Look(State.PARTS if parts else State.FOUND, parts=parts, only_parts=alone)


def _look_in_unfinished(target: Path, above: Path) -> Look:
    prefix = f"{target.relative_to(above).as_posix()}/"
    if any(path.startswith(prefix) for path in read_manifest(above / UNFINISHED).files):
        return Look(State.UNFINISHED, above=above)
    return Look(State.FOUND)


def _folders_and_files(path: Path | str) -> list[os.DirEntry[str]]:
    with os.scandir(path) as found:
        return [item for item in found if not is_bookkeeping(item.name)]


def _is_staged(folder: str) -> bool:
    if os.path.lexists(f"{folder}/{MANIFEST}") or os.path.lexists(f"{folder}/{UNFINISHED}"):
        return True
    marks = (KAPPADATA_START, KAPPADATA_END)
    return all(os.path.lexists(f"{folder}/{mark}") for mark in marks)
