"""What is left out of a dataset, by patterns as of a shell."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from kappacore.staging.sources.base import parent_of

if TYPE_CHECKING:
    from collections.abc import Iterable


class Exclusion:
    """Tells which files and folders patterns exclude.

    A pattern without a slash is compared with names at every level, one with a slash with the whole
    path below the top of the dataset, name by name; ``**`` stands for any number of names. With a
    folder, all that is in it is excluded.

    Args:
        patterns: The patterns, such as ``"*.tmp"`` or ``"train/*/masks"``.
        part: The part of the dataset that the paths are in; ``""`` is all of it.
    """

    def __init__(self, patterns: Iterable[str], part: str = ""):
        self._patterns = tuple(patterns)
        self._part = parts_of_path(part)
        self._names: list[str] = []
        self._paths: list[list[str]] = []
        for pattern in self._patterns:
            parts = parts_of_path(pattern)
            if "/" in pattern.rstrip("/"):
                self._paths.append(parts)
            else:
                self._names += parts
        self._known: dict[str, bool] = {}  # folders

    def __bool__(self) -> bool:
        return bool(self._names or self._paths)

    def within(self, folder: str) -> Exclusion:
        """Return what is excluded in a folder, for the paths below it."""
        return Exclusion(self._patterns, "/".join([*self._part, folder]))

    def names(self, path: str) -> bool:
        """Return whether a pattern matches a path itself."""
        if not (self._names or self._paths):
            return False
        parts = path.split("/")
        return any(fnmatchcase(parts[-1], name) for name in self._names) or any(
            _match([*self._part, *parts], pattern) for pattern in self._paths
        )

    def covers(self, path: str) -> bool:
        """Return whether a pattern matches a path or a folder above it."""
        if not (self._names or self._paths):
            return False
        folder = parent_of(path)
        if folder and folder not in self._known:
            self._known[folder] = self.covers(folder)
        return (folder != "" and self._known[folder]) or self.names(path)


def parts_of_path(path: str) -> list[str]:
    """Return the names in a path or pattern."""
    return [part for part in path.split("/") if part not in ("", ".")]


def _match(parts: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_match(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _match(parts[1:], pattern[1:])
