"""Errors about image folders; each takes one message and is also a builtin exception."""

from __future__ import annotations

from kappacore.errors import KappaError


class RootNotFoundError(KappaError, FileNotFoundError):
    """The root folder does not exist."""


class RootNotFolderError(KappaError, NotADirectoryError):
    """The root is a file."""


class NoClassesError(KappaError, FileNotFoundError):
    """The root holds no class folder."""


class ClassesDifferError(KappaError, ValueError):
    """The classes of a folder are not those that were given as ``classes=``."""


class EmptyClassError(KappaError, FileNotFoundError):
    """A class has no image; ``allow_empty=True`` accepts that."""


class UnreadableFolderError(KappaError, OSError):
    """A folder below the root cannot be listed; its images would be missing silently."""


class IndexFileError(KappaError, OSError):
    """An index cannot be read or written, or has been replaced since it was opened."""


class ImageError(KappaError):
    """What went wrong with one image.

    Attributes:
        path: The file.
        index: Its index in the dataset.
        class_name: Its class.

    All three are None where they are unknown, as in an error that a ``DataLoader`` raises again for
    a worker; its message contains them.
    """

    path: str | None = None
    index: int | None = None
    class_name: str | None = None


class UnreadableImageError(ImageError, OSError):
    """An image cannot be read or decoded; raised from the cause."""


class ImageMemoryError(ImageError, MemoryError):
    """The memory does not suffice for an image; no ``on_error`` takes it for the image's fault."""


class FixedAttributeError(KappaError, AttributeError):
    """An attribute cannot be set, or no longer: reading would not follow it."""
