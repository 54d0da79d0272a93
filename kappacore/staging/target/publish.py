"""Putting what was copied into its place, so that half of it is never taken for the whole."""

from __future__ import annotations

import ctypes
import errno
import filecmp
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kappacore.errors import StagingError
from kappacore.staging.sources.base import parent_of
from kappacore.staging.target import manifest
from kappacore.staging.target.paths import KAPPADATA_START, MANIFEST, UNFINISHED, is_bookkeeping
from kappacore.staging.target.state import staged_folders
from kappacore.staging.target.work_folder import looks_like

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from kappacore.staging.target.manifest import FileRecord
    from kappacore.staging.target.paths import StagePaths

__all__ = ["publish", "replace_manifest", "set_aside", "sync_disk"]

_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.EBUSY)


def publish(
    paths: StagePaths,
    files: dict[str, FileRecord],
    folders: list[str],
    about: dict[str, Any],
    *,
    known: dict[str, FileRecord],
    known_folders: set[str],
) -> float:
    """Move the tree of the work folder to the target, and return the seconds its disk took.

    A target that does not exist appears at once, complete. Into one that exists, what is new is
    moved piece by piece, while a mark in it says that it is unfinished; the manifest comes last.

    Args:
        paths: the target's.
        files: all files of the dataset.
        folders: all its folders.
        about: what else the manifest says.
        known: files in the target that staging has put there: they may be replaced, and those that
            the dataset no longer has are removed.
        known_folders: folders in the target that staging has put there.

    Raises:
        StagingError: if something in the target is in the way; it is left as it is.
    """
    fresh = paths.tree / MANIFEST
    fresh.unlink(missing_ok=True)
    manifest.write(fresh, files, folders, about)
    seconds = sync_disk(paths.tree)
    paths.target.parent.mkdir(parents=True, exist_ok=True)
    if not _appears(paths):
        _merge_all(paths, files, folders, about, known, known_folders)
        seconds += sync_disk(paths.target)
        (paths.tree / MANIFEST).replace(paths.target / MANIFEST)
        (paths.target / UNFINISHED).unlink(missing_ok=True)
        _sync_folder(paths.target)
    _sync_folder(paths.target.parent)
    return seconds


def replace_manifest(
    paths: StagePaths, files: dict[str, FileRecord], folders: list[str], about: dict[str, Any]
) -> None:
    """Write the manifest of a target anew whose files stay as they are."""
    fresh = paths.work / MANIFEST
    manifest.write(fresh, files, folders, about)
    sync_disk(paths.work)
    fresh.replace(paths.target / MANIFEST)
    _sync_folder(paths.target)


def set_aside(paths: StagePaths) -> None:
    """Move what KappaData left unfinished out of the target, but for what was staged by itself.

    Its mark goes last: until then the rest is known to be of an unfinished copy.
    """
    kept = staged_folders(paths.target)[0]
    aside = paths.aside / f"{time.time_ns()}"
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
    """Have all of a file system written to its disk, and return how many seconds that took."""
    started = time.monotonic()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(fd)
    return time.monotonic() - started


def _appears(paths: StagePaths) -> bool:
    """Rename the tree to the target, unless something is there."""
    if paths.work.parent == paths.target:
        return False
    return _renamed(paths.tree, paths.target)


def _merge_all(
    paths: StagePaths,
    files: dict[str, FileRecord],
    folders: list[str],
    about: dict[str, Any],
    known: dict[str, FileRecord],
    known_folders: set[str],
) -> None:
    """Move the tree into the target, all but the manifest; the target is marked before."""
    stale = _stale(paths.target, known, files)
    stale_folders = known_folders.difference(folders)
    _check_way(paths, "", known.keys(), {*stale, *stale_folders})
    mark = paths.work / UNFINISHED
    mark.unlink(missing_ok=True)
    manifest.write(mark, {**known, **files}, sorted({*known_folders, *folders}), about)
    sync_disk(paths.work)
    mark.replace(paths.target / UNFINISHED)
    _sync_folder(paths.target)
    _remove_stale(paths, stale, stale_folders)
    _merge(paths, "", known.keys())
    for folder in folders:  # what was a part is now part of the whole
        for name in (MANIFEST, UNFINISHED):
            with suppress(FileNotFoundError):
                os.unlink(f"{paths.target}/{folder}/{name}")  # noqa: PTH108


def _stale(target: Path, known: dict[str, FileRecord], files: dict[str, FileRecord]) -> list[str]:
    """Return the files that the dataset no longer has and that are as staging put them there.

    What somebody has changed since is theirs. After a kill a file may still be as the manifest
    before has it.
    """
    gone = [path for path in known if path not in files]
    stale = [path for path in gone if _is_as(target, path, known[path])]
    if len(stale) < len(gone) and (target / MANIFEST).is_file():
        before = manifest.read_manifest(target / MANIFEST).files
        others = set(gone).difference(stale)
        stale += [path for path in others if path in before and _is_as(target, path, before[path])]
    return stale


def _is_as(target: Path, path: str, record: FileRecord) -> bool:
    try:
        return looks_like(os.lstat(f"{target}/{path}"), record)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove_stale(paths: StagePaths, files: list[str], folders: set[str]) -> None:
    """Set aside what staging once put into the target and the dataset no longer has."""
    aside = paths.aside / f"{time.time_ns()}"
    for path in files:
        if _kind(paths.target / path) == "file" and not _through_link(paths.target, path):
            (aside / parent_of(path)).mkdir(parents=True, exist_ok=True)
            (paths.target / path).rename(aside / path)
    for path in sorted(folders, key=len, reverse=True):
        if not _through_link(paths.target, path):
            try:
                (paths.target / path).rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.ENOTDIR):
                    raise  # else something is in it that is not staging's, and stays


def _check_way(
    paths: StagePaths, folder: str, ours: Collection[str], gone: Collection[str]
) -> None:
    """Refuse to begin if something is in the way of the tree that will not be gone by then."""
    for path, is_folder in _items(paths, folder):
        there = paths.target / path
        if path in gone or _kind(there) == "nothing":
            continue
        if is_folder and _kind(there) == "folder":
            _check_way(paths, path, ours, gone)
        else:
            _check_file(paths, path, is_folder, ours)


def _merge(paths: StagePaths, folder: str, ours: Collection[str]) -> None:
    """Move a folder of the tree into the target; only files that are ``ours`` are replaced."""
    for path, is_folder in _items(paths, folder):
        here, there = paths.tree / path, paths.target / path
        if _kind(there) == "nothing" and _renamed(here, there):
            continue
        if is_folder and _kind(there) == "folder":
            _merge(paths, path, ours)
        else:
            _check_file(paths, path, is_folder, ours)
            if path in ours:
                here.replace(there)


def _items(paths: StagePaths, folder: str) -> list[tuple[str, bool]]:
    """Return what a folder of the tree has: the paths, and whether they are folders."""
    with os.scandir(paths.tree / folder) as found:
        items = [(f"{folder}/{item.name}" if folder else item.name, item) for item in found]
    return [(path, item.is_dir(follow_symlinks=False)) for path, item in items if path != MANIFEST]


def _check_file(paths: StagePaths, path: str, is_folder: bool, ours: Collection[str]) -> None:
    """Refuse what is in the target unless it may be replaced, or is the same file already."""
    here, there = paths.tree / path, paths.target / path
    kind = _kind(there)
    if is_folder or kind != "file":
        _refuse(there, f"is a {kind} where the source has a {'folder' if is_folder else 'file'}")
    if path not in ours and not filecmp.cmp(here, there, shallow=False):
        _refuse(there, "differs from the source, and staging did not put it there")


def _renamed(here: Path, there: Path) -> bool:
    """Rename a file or folder, unless another process has just put a folder there."""
    try:
        here.rename(there)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False
    return True


def _kind(path: Path) -> str:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "special file"


def _through_link(root: Path, path: str) -> bool:
    """Tell whether a folder on the way from ``root`` to ``path`` is a link."""
    above = parent_of(path)
    while above:
        if (root / above).is_symlink():
            return True
        above = parent_of(above)
    return False


def _refuse(path: Path, why: str) -> None:
    raise StagingError(
        f"'{path}' is in the way: it {why}. Move it elsewhere, then stage again; what was copied "
        f"is kept."
    )


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
