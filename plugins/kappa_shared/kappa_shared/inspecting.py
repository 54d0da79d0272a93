"""Looking at an arena that this process does not use, and need not be in use at all."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from kappa_shared.layout import (
    ALIGN,
    CAPACITY,
    CURSOR,
    FULL,
    GENERATION,
    HEADER,
    PREFIX,
    data_path,
    index_size,
    read_length,
)
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

__all__ = ["look", "memory_taken"]


def look(folder: Path) -> BackendInfo:
    """Return what is known of the arena in a folder.

    It takes no lock, so one that is just being made or removed may look half empty.
    """
    lifetime: dict[str, Any] = {
        "users": count_users(folder),
        "last_used": last_used(folder),
        "kept_until": kept_until(folder),
    }
    try:
        length = read_length(folder)
        words = None if length is None else _map_index(folder, length)
    except FileNotFoundError:
        words = None
    if length is None or words is None:
        return BackendInfo(
            namespace=folder.name,
            entries=0,
            bytes=memory_taken(folder),
            capacity=None,
            full=False,
            where=str(folder),
            dataset="? (another version's, or half made)",
            **lifetime,
        )
    values = words[HEADER // 8 : HEADER // 8 + length]
    generation = words[GENERATION]

    def get(key: int) -> bytes | None:
        return _read(data_path(folder, generation), values[key], key) if key < length else None

    return BackendInfo(
        namespace=folder.name,
        entries=int(np.count_nonzero(np.asarray(values))),
        bytes=words[CURSOR] - ALIGN,
        capacity=words[CAPACITY],
        full=bool(words[FULL]),
        where=str(folder),
        dataset=dataset_of(folder.name, get),
        **lifetime,
    )


def memory_taken(folder: Path) -> int:
    """Return the bytes of memory or disk that an arena's values take."""
    try:
        with os.scandir(folder) as entries:
            data = [entry.stat() for entry in entries if entry.name.startswith("data-")]
    except FileNotFoundError:
        return 0
    return sum(info.st_blocks * 512 for info in data)


def _map_index(folder: Path, length: int) -> memoryview:
    fd = open_private(folder / "index", os.O_RDONLY)
    try:
        index = mmap.mmap(fd, index_size(length), prot=mmap.PROT_READ)
    finally:
        os.close(fd)
    return memoryview(index).cast("Q")


def _read(path: Path, place: int, key: int) -> bytes | None:
    if not place:
        return None
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:  # cleared meanwhile
        return None
    try:
        prefix = os.pread(fd, PREFIX.size, place)
        length, owner = PREFIX.unpack(prefix) if len(prefix) == PREFIX.size else (0, -1)
        whole = owner == key and place + length <= os.fstat(fd).st_size
        return os.pread(fd, length, place + PREFIX.size) if whole else None
    finally:
        os.close(fd)
