"""Moving a copied dataset to its target, so that half of it is never taken for the whole."""

from __future__ import annotations

import ctypes
import errno
import filecmp
import os
import stat
import time
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from kappacore.errors import StagingError
from kappacore.machine.system import opened
from kappacore.staging.sources.base import parent_of
from kappacore.staging.target.manifest import (
    Dataset,
    FileRecord,
    Manifest,
    dataset_of,
    is_unchanged,
    read_manifest,
    same_time,
    write_manifest,
)
from kappacore.staging.target.own_files import kind_of
from kappacore.staging.target.paths import (
    KAPPADATA_START,
    MANIFEST,
    UNFINISHED,
    StagePaths,
    is_bookkeeping,
)
from kappacore.staging.target.state import staged_folders

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping
    from pathlib import Path

    from kappacore.staging.sources.base import Entry

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EBUSY)
_DIFFERS = "differs from the source, and staging did not put it there"
_NEITHER = FileRecord(-1, 0, None)  # no file has this size
_STAYS = (errno.ENOTEMPTY, errno.ENOENT, errno.ENOTDIR)


def publish(paths: StagePaths, dataset: Dataset, known: Manifest, stays: Collection[str]) -> float:
    """Move the tree of the work folder to the target, and return the seconds its disk took.

    A target that does not exist appears at once, complete. Into one that exists, new files are
    moved one by one, while a mark in it says that it is unfinished; the manifest comes last.

    Args:
        paths: Those of the target.
        dataset: All files and folders of the dataset.
        known: Files and folders that staging has put into the target. They may be replaced, and
            those that the dataset no longer has are removed.
        stays: The files of the dataset that are in the target, and not in the tree.

    Raises:
        StagingError: If something in the target is in the way; it is left as it is.
    """
    fresh = paths.tree / MANIFEST
    fresh.unlink(missing_ok=True)
    write_manifest(fresh, dataset)
    seconds = sync_disk(paths.tree)
    paths.target.parent.mkdir(parents=True, exist_ok=True)
    if paths.work.parent == paths.target or not _renamed(paths.tree, paths.target):
        _merge_all(paths, dataset, known, stays)
        seconds += sync_disk(paths.target)
        fresh.replace(paths.target / MANIFEST)
        (paths.target / UNFINISHED).unlink(missing_ok=True)
        _sync_folder(paths.target)
    _sync_folder(paths.target.parent)
    return seconds


def check_way(target: Path, files: Mapping[str, Entry], ours: Container[str]) -> None:
    """Refuse a file in the target that is in the way by its size, before anything is copied.

    Args:
        target: The target.
        files: The files of the dataset.
        ours: The files in the target that may be replaced.
    """
    for path in (path for path in files if path not in ours):
        with suppress(FileNotFoundError, NotADirectoryError):
            found = os.lstat(target / path)
            if stat.S_ISREG(found.st_mode) and found.st_size != files[path].size:
                _refuse(target / path, _DIFFERS)


def replace_manifest(paths: StagePaths, dataset: Dataset) -> None:
    """Replace the manifest of a target whose files stay as they are."""
    fresh = paths.work / MANIFEST
    fresh.unlink(missing_ok=True)  # left by a kill
    write_manifest(fresh, dataset)
    sync_disk(paths.work)
    fresh.replace(paths.target / MANIFEST)
    _sync_folder(paths.target)


def set_aside(paths: StagePaths) -> None:
    """Move what KappaData left unfinished out of the target, except for parts that were staged.

    Its mark is moved last: until then it shows that the rest is unfinished.
    """
    kept = staged_folders(paths.target)[0]
    aside = _new_aside(paths)
    aside.mkdir(parents=True)

    def move(folder: str) -> None:
        with os.scandir(paths.target / folder) as found:
            items = sorted(found, key=lambda item: item.name == KAPPADATA_START)
        for item in items:
            path = f"{folder}/{item.name}" if folder else item.name
            if path in kept or (is_bookkeeping(item.name) and item.name != KAPPADATA_START):
                continue
            if any(name.startswith(f"{path}/") for name in kept):
                (aside / path).mkdir()
                move(path)
            else:
                (paths.target / path).rename(aside / path)

    move("")


def sync_disk(folder: Path) -> float:
    """Write all of a file system to its disk, and return how many seconds that took."""
    started = time.monotonic()
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    return time.monotonic() - started


def _merge_all(
    paths: StagePaths, dataset: Dataset, known: Manifest, stays: Collection[str]
) -> None:
    """Move the tree into the target, all but the manifest; the target is marked before."""
    stale = _stale_files(paths.target, known, dataset)
    stale_folders = set(known.folders).difference(dataset.folders)
    _merge(paths, "", known.files, gone={*stale, *stale_folders}, dry_run=True)
    mark = paths.work / UNFINISHED
    mark.unlink(missing_ok=True)
    both = {*known.folders, *dataset.folders}
    # Of a file that looks like the one it replaces, nobody could tell which of them is there.
    alike = {
        path: _NEITHER
        for path in dataset.files
        if path not in stays and _is_alike(path, known, dataset)
    }
    files = {**known.files, **dataset.files, **alike}
    write_manifest(mark, dataset_of(files, sorted(both), dataset.summary))
    sync_disk(paths.work)
    mark.replace(paths.target / UNFINISHED)
    _sync_folder(paths.target)
    _remove_stale(paths, stale, stale_folders)
    _merge(paths, "", known.files)
    for folder in dataset.folders:  # a part is now a part of the whole
        for name in (MANIFEST, UNFINISHED):
            if kind_of(mark := paths.target / folder / name) == "file":
                mark.unlink(missing_ok=True)


def _is_alike(path: str, known: Manifest, dataset: Dataset) -> bool:
    """Return whether a file of the dataset has the size and time of the one in the target."""
    before, after = known.files.get(path), dataset.files[path]
    if before is None or before.size != after.size:
        return False
    return same_time(before.mtime_ns, after.mtime_ns)


def _stale_files(target: Path, known: Manifest, dataset: Dataset) -> list[str]:
    """Return the files that the dataset no longer has and that are as staging put them there.

    A file that somebody has changed since is theirs. After a kill, a file may still be as the
    previous manifest lists it.
    """
    gone = known.files.keys() - dataset.files.keys()
    before = read_manifest(target / MANIFEST) if gone else None
    records = [found.files for found in (known, before) if found is not None]
    return [
        path
        for path in gone
        if any(path in files and is_unchanged(f"{target}/{path}", files[path]) for files in records)
    ]


def _remove_stale(paths: StagePaths, files: Iterable[str], folders: Iterable[str]) -> None:
    """Set aside what staging once put into the target and the dataset no longer has."""
    aside = _new_aside(paths)
    for path in files:
        if kind_of(paths.target / path) == "file" and not _through_link(paths.target, path):
            (aside / parent_of(path)).mkdir(parents=True, exist_ok=True)
            (paths.target / path).rename(aside / path)
    for path in sorted(folders, key=len, reverse=True):
        if not _through_link(paths.target, path):
            try:
                (paths.target / path).rmdir()
            except OSError as error:
                if error.errno not in _STAYS:
                    raise


def _merge(
    paths: StagePaths,
    folder: str,
    ours: Collection[str],
    *,
    gone: Collection[str] = (),
    dry_run: bool = False,
) -> None:
    """Move a folder of the tree into the target.

    Args:
        paths: Those of the target.
        folder: The folder, relative to the tree.
        ours: The files in the target that may be replaced.
        gone: With ``dry_run``, the files and folders that will not be in the target by then.
        dry_run: Move nothing; only check that nothing is in the way.

    Raises:
        StagingError: If something is in the way.
    """
    with os.scandir(paths.tree / folder) as found:
        items = [(item.name, item.is_dir(follow_symlinks=False)) for item in found]
    for name, is_folder in items:
        path = f"{folder}/{name}" if folder else name
        here, there = paths.tree / path, paths.target / path
        if path == MANIFEST or path in gone:
            continue
        if kind_of(there) == "nothing" and (dry_run or _renamed(here, there)):
            continue
        kind = kind_of(there)
        if is_folder and kind == "folder":
            _merge(paths, path, ours, gone=gone, dry_run=dry_run)
        elif is_folder or kind != "file":
            kind_here = "folder" if is_folder else "file"
            _refuse(there, f"is a {kind} where the source has a {kind_here}")
        elif path not in ours and not filecmp.cmp(here, there, shallow=False):
            _refuse(there, _DIFFERS)
        elif path in ours and not dry_run:
            here.replace(there)


def _renamed(here: Path, there: Path) -> bool:
    """Rename a file or folder; return whether nothing was in the way, also by this moment."""
    try:
        here.rename(there)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False
    return True


def _through_link(root: Path, path: str) -> bool:
    """Return whether a folder between ``root`` and ``path`` is a link."""
    return any((root / above).is_symlink() for above in PurePosixPath(path).parents)


def _refuse(path: Path, why: str) -> None:
    raise StagingError(
        f"'{path}' is in the way: it {why}. Move it elsewhere, then stage again; what was copied "
        f"is kept."
    )


def _new_aside(paths: StagePaths) -> Path:
    return paths.aside / f"{time.time_ns()}"


def _sync_folder(folder: Path) -> None:
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)
