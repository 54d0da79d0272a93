"""Is there room for what is to be copied?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kappacore.errors import NotEnoughSpaceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kappacore.staging.sources.entries import Entry

__all__ = ["check_room", "human"]

_LINES = 256  # bytes that journal and manifest take for each file


def check_room(folder: Path, entries: Iterable[Entry], *, kept: int, target: Path) -> None:
    """Refuse to begin what the disk of ``folder`` has no room for.

    Args:
        folder: a folder on that disk.
        entries: the files and folders that are to be made.
        kept: bytes of them that are there already.
        target: for the message.

    Raises:
        NotEnoughSpaceError: if bytes or inodes do not suffice.
    """
    disk = os.statvfs(folder)
    block = disk.f_frsize
    count, needed = 0, -kept
    for entry in entries:
        count += 1
        needed += (-(-entry.size // block) if entry.size >= 0 else 1) * block
    needed += count * _LINES
    free = disk.f_bavail * block
    if needed > free:
        raise NotEnoughSpaceError(
            f"'{target}' needs {human(needed)} more on its disk, which has {human(free)} free. "
            f"Free {human(needed - free)}, or stage a part (relative=)."
        )
    if disk.f_files and count > disk.f_favail:  # some file systems have no limit and say 0
        raise NotEnoughSpaceError(
            f"'{target}' needs {count:,} more files and folders on its disk, which has room for "
            f"{disk.f_favail:,} (inodes). Remove files there, or choose another disk."
        )


def human(size: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
