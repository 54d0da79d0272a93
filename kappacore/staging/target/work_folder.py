"""The work folder: what an unfinished copy has brought so far."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from kappacore.errors import NotEnoughSpaceError, StagingError, StorageError
from kappacore.machine.locks import try_lock
from kappacore.machine.system import boot_id
from kappacore.sizes import format_size
from kappacore.staging.copying.digests import sums_in
from kappacore.staging.target.lock import is_in_use
from kappacore.staging.target.manifest import is_unchanged, read_journal
from kappacore.staging.target.own_files import check_own, own_opened, read_own
from kappacore.staging.target.paths import UNFINISHED, StagePaths
from kappacore.staging.target.removal import remove_tree

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from kappacore.staging.sources.base import Block, Entry, Listing, Source
    from kappacore.staging.target.manifest import FileRecord

_FORMAT = "kappacore-work"
_FRESH = "state.json.new"
_LINES = 256  # bytes of journal and manifest for each file


class WorkFolder:
    """The work folder of a target, whose lock is held.

    Args:
        paths: Those of the target.
    """

    def __init__(self, paths: StagePaths):
        self.paths = paths
        self._held: io.FileIO | None = None  # the lock in the folder

    def open(self, source: Source, stamp: list[int | str], log: Callable[[str], None]) -> None:
        """Make the folder, or continue with that of an earlier try.

        The latter is removed if its source was another one, such as an archive that was packed anew
        since, or if the machine has been restarted: its contents may never have reached the disk.

        Args:
            source: What is to be copied.
            stamp: That of the source.
            log: Called with a line about a removal.
        """
        paths = self.paths
        state = {
            "format": _FORMAT,
            "version": 1,
            "source": str(source.path),
            "kind": source.kind,
            "stamp": None if source.kind == "folder" else stamp,
            "boot": boot_id(),
        }
        if os.path.lexists(paths.work):
            self._check_owner()
            if self._state() != state:
                if os.path.lexists(paths.state):
                    log(f"removing what an earlier try left in '{paths.work}'")
                self.remove()
        paths.work.mkdir(mode=0o700, exist_ok=True)
        self._lock()
        if not paths.state.exists():
            # First of all and at once: it shows whose folder this is.
            fresh = paths.state.with_name(_FRESH)
            with own_opened(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
                os.write(fd, json.dumps(state).encode("ascii"))
            fresh.replace(paths.state)
        paths.tree.mkdir(source.mode | 0o700, exist_ok=True)
        paths.large.mkdir(exist_ok=True)

    @property
    def lock(self) -> int:
        """A descriptor of the lock in the open folder."""
        return cast("io.FileIO", self._held).fileno()

    def close(self) -> None:
        """Release the folder."""
        if self._held is not None and not self._held.closed:  # as it is in a forked child
            # Explicitly, not by closing: a process that Python did not fork may have it open.
            fcntl.flock(self._held, fcntl.LOCK_UN)
            self._held.close()

    def remove(self) -> None:
        """Remove the folder; what shows whose it is comes last."""
        work, state = self.paths.work, self.paths.state
        if not os.path.lexists(work):
            return
        self._check_owner()
        with os.scandir(work) as found:
            last = (state.name, self.paths.work_lock.name)
            items = [item for item in found if item.name not in last]
        for item in items:
            if item.is_dir(follow_symlinks=False):
                remove_tree(item.path)
            else:
                os.unlink(item.path)  # noqa: PTH108
        self.paths.work_lock.unlink(missing_ok=True)
        state.unlink(missing_ok=True)
        work.rmdir()

    def complete_files(self, listing: Listing, *, with_digest: bool) -> dict[str, FileRecord]:
        """Return the files that are complete in the tree; everything else in it is removed."""
        journal = read_journal(self.paths.journal)
        kept: dict[str, FileRecord] = {}
        below = [""]
        while below:
            folder = below.pop()
            with os.scandir(self.paths.tree / folder) as found:
                items = list(found)
            for item in items:
                path = f"{folder}/{item.name}" if folder else item.name
                entry, record = listing.files.get(path), journal.get(path)
                if item.is_dir(follow_symlinks=False):
                    if path in listing.folders:
                        below.append(path)
                    else:
                        remove_tree(item.path)
                elif (
                    entry is not None
                    and record is not None
                    and is_same(entry, record, with_digest=with_digest)
                    and is_unchanged(item.path, entry)
                ):
                    kept[path] = record
                else:
                    os.unlink(item.path)  # noqa: PTH108
        return kept

    def check_room(self, files: Iterable[Block], folders: int, *, kept: int) -> None:
        """Refuse to begin a copy that the disk has no room for.

        Args:
            files: The files to be made.
            folders: Number of folders to be made.
            kept: Bytes of the files that are there already.

        Raises:
            NotEnoughSpaceError: If there are too few bytes or inodes.
        """
        disk = os.statvfs(self.paths.work)
        block = disk.f_frsize
        blocks = count = folders
        for part in files:
            rooms = part.sizes
            if part.data is not None:  # what is in holes takes no room
                pairs = zip(part.data, part.sizes, strict=True)
                rooms = [size if data is None else data for data, size in pairs]
            blocks += sum([-(-room // block) for room in rooms])
            count += len(part)
        needed = blocks * block + count * _LINES - kept
        free = disk.f_bavail * block
        if needed > free:
            raise NotEnoughSpaceError(
                f"'{self.paths.target}' needs {format_size(needed)} more on its disk, which has "
                f"{format_size(free)} free. Free {format_size(needed - free)}, or stage a part "
                f"(relative=)."
            )
        if disk.f_files and count > disk.f_favail:  # some file systems have no limit and report 0
            raise NotEnoughSpaceError(
                f"'{self.paths.target}' needs {count:,} more files and folders on its disk, which "
                f"has room for {disk.f_favail:,} (inodes). Remove files there, or choose another "
                f"disk."
            )

    def _lock(self) -> None:
        """Lock the folder, which holds off others even if the lock beside it is removed."""
        self.close()
        check_own(self.paths.work_lock)
        self._held = try_lock(self.paths.work_lock)
        if self._held is None:
            raise StagingError(
                f"another process has just begun to stage to '{self.paths.target}', too: its lock "
                f"was removed. Stage again; that waits for it."
            )

    def _check_owner(self) -> None:
        found = self.paths.work.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise StagingError(
                f"'{self.paths.work}' is in the way: it should be the folder that staging works "
                f"in, but is a link, a file, or another user's. Remove it if it is not needed."
            )
        state = self._state()
        is_ours = isinstance(state, dict) and state.get("format") == _FORMAT
        first = {_FRESH, self.paths.work_lock.name}  # what may be there without it
        if not is_ours and set(os.listdir(self.paths.work)) - first:  # noqa: PTH208
            raise StagingError(
                f"'{self.paths.work}' is in the way: it is a folder that staging did not make. "
                f"Move it elsewhere, or remove it if it is not needed."
            )

    def _state(self) -> object:
        try:
            return json.loads(read_own(self.paths.state) or b"")
        except (OSError, ValueError, RecursionError):  # killed while it was made, or not staging's
            return None


def remove_leftovers(target: Path) -> None:
    """Remove a work folder left by a kill that nobody needs, unless somebody works there."""
    paths = StagePaths(target)
    lock = None
    if os.path.lexists(paths.work):
        # Another user's, none, or something else: it may be in use.
        with suppress(PermissionError, StorageError, StagingError):
            check_own(paths.lock)
            lock = try_lock(paths.lock)
    if lock is None:
        return
    with lock:
        try:
            if not (os.path.lexists(target / UNFINISHED) or is_in_use(paths)):
                with suppress(StagingError):  # another user's, or not staging's
                    WorkFolder(paths).remove()
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)


def is_same(entry: Entry, record: FileRecord, *, with_digest: bool) -> bool:
    """Return whether a record is of this version of a file, with a digest if one is needed."""
    return (
        (record.size, record.mtime_ns) == (entry.size, entry.mtime_ns)
        and (not with_digest or "xxh3:" in (record.digest or ""))
        and has_same_crc(entry, record) is not False
    )


def has_same_crc(entry: Entry, record: FileRecord) -> bool | None:
    """Return whether a file and its record have the same CRC; None if either has none."""
    if entry.crc is None or (crc := sums_in(record.digest).crc) is None:
        return None
    return crc == entry.crc
