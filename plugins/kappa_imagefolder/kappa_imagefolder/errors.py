"""Errors about image folders; each takes one message and is also the builtin one expects."""

from __future__ import annotations

from kappacore.errors import KappaError

__all__ = [
    "EmptyClassError",
    "NoClassesError",
    "RootNotFolderError",
    "RootNotFoundError",
    "UnreadableFolderError",
    "UnreadableImageError",
]


class RootNotFoundError(KappaError, FileNotFoundError):
    """The root folder does not exist."""


class RootNotFolderError(KappaError, NotADirectoryError):
    """The root is a file."""


class NoClassesError(KappaError, FileNotFoundError):
    """The root holds no class folder."""


class EmptyClassError(KappaError, FileNotFoundError):
    """A class has no image; ``allow_empty=True`` accepts that."""


class UnreadableFolderError(KappaError, OSError):
    """A folder below the root cannot be listed, so its images would be missing silently."""


class UnreadableImageError(KappaError, OSError):
    """An image cannot be read or decoded; raised from the cause."""
