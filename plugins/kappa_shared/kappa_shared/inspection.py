"""Inspecting an arena without using it; it need not be in use at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kappa_shared.layout import GENERATION, PREFIX, data_path, map_index
from kappacore.plugin_api import (
    BackendInfo,
    count_users,
    dataset_of,
    kept_until,
    last_used,
    open_private,
)

if TYPE_CHECKING:
    from pathlib import Path


def inspect(folder: Path) -> BackendInfo:
    """Return what is known of the arena in a folder.

    It takes no lock, so an arena that is being made or removed may look half empty.
    """
    facts: dict[str, Any] = {
        "namespace": folder.name,
        "where": str(folder),
        "users": count_users(folder),
        "last_used": last_used(folder),
        "kept_until": kept_until(folder),
    }
    index = map_index(folder)
    if index is None:
        facts.update(entries=0, bytes=memory_taken(folder), capacity=None, full=False)
        return BackendInfo(**facts, dataset="? (another version's, or half made)")
    data = data_path(folder, index.words[GENERATION])

    def get(key: int) -> bytes | None:
        return _read(data, index.values[key], key) if key < index.length else None

    return BackendInfo(**facts, **index.fill(), dataset=dataset_of(folder.name, get))


def memory_taken(folder: Path) -> int:
    """Return the bytes of memory or disk that an arena's values take."""
    try:
        with os.scandir(folder) as entries:
            data = [entry.stat() for entry in entries if entry.name.startswith("data-")]
    except FileNotFoundError:
        return 0
    return sum(info.st_blocks * 512 for info in data)


def _read(path: Path, offset: int, key: int) -> bytes | None:
    if not offset:
        return None
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:  # cleared meanwhile
        return None
    try:
        prefix = os.pread(fd, PREFIX.size, offset)
        length, owner = PREFIX.unpack(prefix) if len(prefix) == PREFIX.size else (0, -1)
        whole = owner == key and offset + length <= os.fstat(fd).st_size
        return os.pread(fd, length, offset + PREFIX.size) if whole else None
    finally:
        os.close(fd)
