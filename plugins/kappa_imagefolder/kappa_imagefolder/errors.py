"""Errors about image folders; each takes one message and is also the builtin one expects."""

from __future__ import annotations

from kappacore.errors import KappaError

__all__ = [
    "EmptyClassError",
    "IndexFileError",
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


class IndexFileError(KappaError, OSError):
    """An index cannot be read or written, or is no longer the one that was opened."""


class UnreadableImageError(KappaError, OSError):
    """An image cannot be read or decoded; raised from the cause.

    Attributes:
        path: The file; like the others None where it is not known, as in the error that a
            ``DataLoader`` raises again for a worker (its message says all of this).
        index: Its index in the dataset.
        class_name: Its class.
    """

    path: str | None = None
    index: int | None = None
    class_name: str | None = None
