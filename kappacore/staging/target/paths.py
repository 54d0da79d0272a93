"""The paths that staging works with, and the names of its own files.

Beside a target ``/local/imagenet``, on the same local disk:

- ``.imagenet.kappacore-lock``: its holder may work on the target; it is empty and stays
- ``.imagenet.kappacore-holder``: who the holder is; removed with the lock's release
- ``.imagenet.kappacore-work/``: what is copied so far; removed once the target is complete

They are *in* the target if that is a mount point or its parent is not writable.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import xxhash

from kappacore.machine.system import opened

MANIFEST = ".kappacore-manifest"  # in a complete target: lists its files
UNFINISHED = ".kappacore-manifest.unfinished"  # in a target being completed: lists its files
KAPPADATA_START = "autocopy_start.txt"
KAPPADATA_END = "autocopy_end.txt"

_MARKS = (MANIFEST, UNFINISHED, KAPPADATA_START, KAPPADATA_END)
_OF_DISKS = ("lost+found", ".snapshot", "@eaDir")  # ext4, NetApp, Synology
NOT_DATA = frozenset({*_MARKS, *_OF_DISKS})
_SUFFIXES = (".kappacore-lock", ".kappacore-holder", ".kappacore-work")


def is_bookkeeping(name: str) -> bool:
    """Return whether a file or folder of that name belongs to staging, KappaData or the disk."""
    return name in NOT_DATA or (name[0] == "." and name.endswith(_SUFFIXES))


def is_marked(folder: str | os.PathLike[str]) -> bool:
    """Return whether staging has completed a folder, or is completing it."""
    return any(os.path.lexists(f"{os.fspath(folder)}/{name}") for name in (MANIFEST, UNFINISHED))


class StagePaths:
    """The files and folders of one target.

    Args:
        target: An absolute path without symlinks.
    """

    def __init__(self, target: Path):
        base = target if _needs_inside(target) else target.parent
        self.target = target
        self.lock, self.holder, self.work = (base / name for name in _names_for(target.name))
        self.work_lock = self.work / "lock"  # held by whoever works there, as is the one beside
        self.tree = self.work / "tree"  # the dataset as far as it is copied
        self.large = self.work / "large"  # files that are being copied in chunks
        self.aside = self.work / "aside"  # what was in the target and is to be removed
        self.journal = self.work / "journal"  # a line for each copied file
        self.state = self.work / "state.json"  # what the work folder was made for


def has_work(target: Path | str) -> bool:
    """Return quickly whether a target has a work folder, beside or inside it."""
    base, _, name = os.fspath(target).rpartition("/")
    work = _names_for(name)[2]
    return os.path.lexists(f"{base}/{work}") or os.path.lexists(f"{target}/{work}")


def _names_for(name: str) -> list[str]:
    name = name or "root"
    if len(os.fsencode(name)) > 200:  # a name has at most 255 bytes
        name = xxhash.xxh3_64_hexdigest(os.fsencode(name))
    return [f".{name}{suffix}" for suffix in _SUFFIXES]


def _needs_inside(target: Path) -> bool:
    if not target.is_dir():
        return False
    mounted = target.is_mount() or _mount_of(target) != _mount_of(target.parent)
    return mounted or not os.access(target.parent, os.W_OK | os.X_OK)


def _mount_of(folder: Path) -> str:
    """Return Linux's id of the mount that a folder is on; "" if it is unknown.

    Nothing else shows a folder that is mounted from elsewhere on the same disk, and nothing can be
    renamed into it from outside.
    """
    with suppress(PermissionError), opened(folder, os.O_PATH) as fd, suppress(OSError):
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
        return next((line for line in lines if line.startswith("mnt_id:")), "")
    return ""
