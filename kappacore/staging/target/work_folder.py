"""The work folder: what an unfinished copy has brought so far."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from kappacore.errors import StagingError, StorageError
from kappacore.machine.locks import try_lock
from kappacore.machine.system import boot_id
from kappacore.staging.copying.journal import read_journal
from kappacore.staging.target.paths import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kappacore.staging.sources.entries import Entry
    from kappacore.staging.target.manifest import Record
    from kappacore.staging.target.paths import Places

__all__ = [
    "is_same",
    "is_version",
    "kept_in",
    "looks_like",
    "open_work",
    "present_in",
    "remove_work",
    "same_time",
    "tidy",
]

_CLOCK = 2_000_000_000  # nanoseconds to which every file system keeps times


def open_work(
    places: Places, source: str, kind: str, mode: int, log: Callable[[str], None]
) -> None:
    """Make the work folder, or take up the one that an earlier try left.

    That one is removed if it was of another source, or if the machine has been started anew since:
    what it holds may then never have reached the disk.
    """
    state = {"version": 1, "source": source, "kind": kind, "boot": boot_id()}
    if os.path.lexists(places.work):
        _check_ours(places.work)
        if _read_state(places.state) == state:
            places.tree.mkdir(mode | 0o700, exist_ok=True)
            places.large.mkdir(exist_ok=True)
            return
        log(f"removing what an earlier try left in '{places.work}'")
        remove_work(places)
    places.work.mkdir(mode=0o700)
    places.tree.mkdir(mode | 0o700)
    places.large.mkdir()
    places.state.write_text(json.dumps(state), encoding="ascii")


def remove_work(places: Places) -> None:
    """Remove the work folder."""
    if os.path.lexists(places.work):
        _check_ours(places.work)
        shutil.rmtree(places.work)


def tidy(places: Places) -> None:
    """Remove a work folder that a kill has left and nobody needs, unless somebody works there."""
    if not os.path.lexists(places.work):
        return
    lock = None
    with suppress(PermissionError, StorageError):  # another user's, or no locks there: it may be
        lock = try_lock(places.lock)
    if lock is None:
        return
    with lock:
        try:
            if not os.path.lexists(places.target / UNFINISHED):
                remove_work(places)
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)


def kept_in(
    places: Places, files: dict[str, Entry], folders: set[str], *, with_digest: bool
) -> dict[str, Record]:
    """Return the files that are whole in the tree; everything else in it is removed."""
    journal = read_journal(places.journal)
    kept: dict[str, Record] = {}
    below = [""]
    while below:
        folder = below.pop()
        with os.scandir(places.tree / folder) as found:
            items = list(found)
        for item in items:
            path = f"{folder}/{item.name}" if folder else item.name
            if item.is_dir(follow_symlinks=False):
                if path in folders:
                    below.append(path)
                else:
                    shutil.rmtree(item.path)
                continue
            entry, record = files.get(path), journal.get(path)
            if (
                entry is not None
                and record is not None
                and is_same(entry, record, with_digest=with_digest)
                and looks_like(item.stat(follow_symlinks=False), entry)
            ):
                kept[path] = record
            else:
                os.unlink(item.path)  # noqa: PTH108
    return kept


def present_in(
    target: Path, files: dict[str, Entry], known: dict[str, Record], *, with_digest: bool
) -> dict[str, Record]:
    """Return the files that are in the target already, by what manifests know of it."""
    present = {}
    for path, record in known.items():
        entry = files.get(path)
        if entry is None or not is_same(entry, record, with_digest=with_digest):
            continue
        try:
            found = os.lstat(f"{target}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        if looks_like(found, entry):
            present[path] = record
    return present


def is_same(entry: Entry, record: Record, *, with_digest: bool) -> bool:
    """Tell whether a record is of this version of a file, and knows what is needed of it."""
    return (record.size, record.mtime_ns) == (entry.size, entry.mtime_ns) and (
        not with_digest or (record.digest or "").startswith("xxh3:")
    )


def is_version(entry: Entry, record: Record, *, exactly: bool) -> bool:
    """Tell whether a record is of this version of a file.

    Not ``exactly``: its time may have been cut to seconds on the way, as archives do.
    """
    one, other = entry.mtime_ns, record.mtime_ns
    cut = not exactly and 0 in (one % 10**9, other % 10**9) and same_time(one, other)
    return entry.size == record.size and (one == other or cut)


def same_time(one: int, other: int) -> bool:
    """Tell whether two times of modification are the same as file systems keep them."""
    return abs(one - other) < _CLOCK


def looks_like(found: os.stat_result, entry: Entry | Record) -> bool:
    """Tell whether this is a file as it was copied, by its size and time."""
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_size == entry.size
        and same_time(found.st_mtime_ns, entry.mtime_ns)
    )


def _check_ours(work: Path) -> None:
    found = work.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise StagingError(
            f"'{work}' is in the way: staging keeps there what it works with, but it is a link, a "
            f"file, or another user's. Remove it if it is not needed."
        )


def _read_state(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):  # a kill while it was made
        return None
