"""What tests of the arena do with one: look at it from elsewhere, store, and list its files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from kappa_shared.arena import Arena
from kappa_shared.budget import Budget

if TYPE_CHECKING:
    from pathlib import Path

    from kappacore.caching.backends.base import Buffer

__all__ = ["MIB", "data_file", "names", "open_arena", "other_view", "put"]

MIB = 2**20


def open_arena(
    folder: Path, length: int, capacity: int = MIB, *, grow: bool = False, **limits: Any
) -> Arena:
    """Open an arena; ``limits`` are those of its budget beside the capacity."""
    return Arena(folder, length, Budget(capacity=capacity, **limits), grow=grow)


def other_view(arena: Arena, capacity: int = 0, *, grow: bool = False) -> Arena:
    """What another process sees."""
    return open_arena(arena.folder, arena.index.length, capacity, grow=grow)


def put(arena: Arena, key: int, *pieces: Buffer) -> bool:
    """Store one value."""
    return arena.put_many([(key, pieces)])[0]


def names(folder: Path) -> list[str]:
    """The arena's files, data without its number."""
    return sorted(re.sub("-.*", "-", path.name) for path in folder.iterdir())


def data_file(folder: Path) -> Path:
    """The one file that holds the arena's values."""
    (path,) = folder.glob("data-*")
    return path
