"""Where staging keeps what it works with, and how its own files are called.

Beside a target ``/local/imagenet`` lie, all on the local disk:

- ``.imagenet.kappacore-lock``: who holds it may work on the target; it stays, being empty
- ``.imagenet.kappacore-holder``: who that is, while it is held
- ``.imagenet.kappacore-work/``: what is copied so far, gone once the target is complete

They lie *in* the target where that is a mount point or its parent cannot be written to.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xxhash

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "KAPPADATA_END",
    "KAPPADATA_START",
    "MANIFEST",
    "UNFINISHED",
    "StagePaths",
    "has_work",
    "is_bookkeeping",
    "stage_paths",
]

MANIFEST = ".kappacore-manifest"  # in the target: complete, and what is in it
UNFINISHED = ".kappacore-manifest.unfinished"  # in the target: being completed, and with what
KAPPADATA_START = "autocopy_start.txt"
KAPPADATA_END = "autocopy_end.txt"

_MARKS = frozenset({MANIFEST, UNFINISHED, KAPPADATA_START, KAPPADATA_END})
_SUFFIXES = (".kappacore-lock", ".kappacore-holder", ".kappacore-work")


def is_bookkeeping(name: str) -> bool:
    """Tell whether a file or folder of that name belongs to staging and not to the dataset."""
    return name in _MARKS or (name.startswith(".") and name.endswith(_SUFFIXES))


@dataclass(frozen=True)
class StagePaths:
    """The files and folders of one target."""

    target: Path
    lock: Path
    holder: Path
    work: Path

    @property
    def tree(self) -> Path:
        """The dataset as far as it is copied."""
        return self.work / "tree"

    @property
    def large(self) -> Path:
        """Files that are copied piece by piece."""
        return self.work / "large"

    @property
    def aside(self) -> Path:
        """What was in the target and is to be removed."""
        return self.work / "aside"

    @property
    def journal(self) -> Path:
        """A line for each file that is copied."""
        return self.work / "journal"

    @property
    def state(self) -> Path:
        """What the work folder was made for."""
        return self.work / "state.json"


def stage_paths(target: Path) -> StagePaths:
    """Return the places of ``target``, an absolute path without symlinks."""
    base = target if _needs_inside(target) else target.parent
    return StagePaths(target, *(base / name for name in _names_for(target.name)))


def has_work(target: Path | str) -> bool:
    """Tell quickly whether a target has a work folder, wherever that is."""
    base, _, name = os.fspath(target).rpartition("/")
    work = _names_for(name)[2]
    return os.path.lexists(f"{base}/{work}") or os.path.lexists(f"{target}/{work}")


def _names_for(name: str) -> tuple[str, str, str]:
    name = name or "root"
    if len(os.fsencode(name)) > 200:  # a name has at most 255 bytes
        name = xxhash.xxh3_64_hexdigest(os.fsencode(name))
    lock, holder, work = (f".{name}{suffix}" for suffix in _SUFFIXES)
    return lock, holder, work


def _needs_inside(target: Path) -> bool:
    if not target.is_dir():
        return False
    mounted = target.is_mount() or _mount_of(target) != _mount_of(target.parent)
    return mounted or not os.access(target.parent, os.W_OK | os.X_OK)


def _mount_of(folder: Path) -> str:
    """Return what Linux calls the mount that a folder is on; "" where it does not tell.

    A folder mounted from elsewhere on the same disk is seen by nothing else, and nothing can be
    renamed into it from outside.
    """
    try:
        fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except PermissionError:
        return ""
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as info:  # noqa: PTH123
            return next((line for line in info if line.startswith("mnt_id:")), "")
    except OSError:
        return ""
    finally:
        os.close(fd)
