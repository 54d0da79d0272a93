"""Every error that kappacore raises on purpose.

All derive from :class:`KappaError` and from the builtin that the situation calls for, so
``except IndexError`` and ``except KappaError`` both work. Each takes one message, which lets
PyTorch raise it again in the main process with the worker's traceback.
"""

from __future__ import annotations

__all__ = [
    "BrokenPluginError",
    "CacheClosedError",
    "CacheError",
    "CacheWarning",
    "ConfigError",
    "CorruptValueError",
    "DatasetTypeError",
    "EmptyDatasetError",
    "IncompatiblePluginError",
    "IndexOutOfRangeError",
    "InvalidIndexError",
    "InvalidItemError",
    "InvalidOptionError",
    "KappaError",
    "MissingDependencyError",
    "MissingLabelsError",
    "ModeError",
    "NamespaceMismatchError",
    "NamespaceRequiredError",
    "NondeterministicSourceError",
    "NotEnoughSpaceError",
    "PluginConflictError",
    "PluginError",
    "RandomSourceError",
    "SizeLimitError",
    "SourceChangedError",
    "StagingError",
    "StagingTimeoutError",
    "StorageError",
    "TypeRegistrationError",
    "UncacheableValueError",
    "UnknownItemError",
    "UnknownOptionError",
    "UnknownPluginError",
    "UnsafeArchiveError",
    "UseModeWrapperError",
]


class KappaError(Exception):
    """Base of all errors of kappacore and its plugins."""


class MissingDependencyError(KappaError, ImportError):
    """An optional library is needed and not installed; the message says how to get it."""


# ---- options and configuration


class InvalidOptionError(KappaError, ValueError):
    """An option has a value that cannot be used."""


class UnknownOptionError(KappaError, TypeError):
    """An option does not exist; the message lists those that do."""


class ConfigError(KappaError, ValueError):
    """A configuration for :func:`kappacore.build` is malformed; the message names the place."""


# ---- datasets


class DatasetTypeError(KappaError, TypeError):
    """A dataset of a kind that cannot be used here, such as an ``IterableDataset``."""


class EmptyDatasetError(KappaError, ValueError):
    """An epoch is begun on a dataset of which wrappers have left no sample."""


class UseModeWrapperError(KappaError, TypeError):
    """A ``KDDataset`` was indexed directly; ``ModeWrapper`` says which items to read."""


class UnknownItemError(KappaError, AttributeError):
    """The dataset has no such item."""


class MissingLabelsError(KappaError, ValueError):
    """Something goes by labels, and the dataset has none that are known without its samples."""


class InvalidItemError(KappaError, ValueError):
    """What a dataset defines for an item is incomplete, or gave a result that does not fit."""


class ModeError(KappaError, ValueError):
    """A mode that is empty or malformed."""


class IndexOutOfRangeError(KappaError, IndexError):
    """An index is past the end of the dataset."""


class InvalidIndexError(KappaError, TypeError):
    """An index is neither an integer, a slice nor a sequence of integers."""


# ---- plugins


class PluginError(KappaError):
    """Base of all errors about plugins."""


class UnknownPluginError(PluginError, LookupError):
    """No plugin of that name; the message lists the known ones and what to install."""


class BrokenPluginError(PluginError):
    """A plugin exists but cannot be loaded or used; raised from the cause."""


class PluginConflictError(PluginError):
    """Two providers claim one name."""


class IncompatiblePluginError(PluginError):
    """A plugin was written for a newer kappacore."""


# ---- caching


class CacheError(KappaError):
    """Base of all errors about caches."""


class UncacheableValueError(CacheError, TypeError):
    """A value that the codec cannot give back exactly; the message says where in the sample."""


class TypeRegistrationError(CacheError, TypeError):
    """A type cannot be registered for caching, or not be sent to a worker process."""


class CorruptValueError(CacheError, ValueError):
    """Stored bytes are not what was written for this key; the engine reads the source anew."""


class NamespaceRequiredError(CacheError, ValueError):
    """Several ranks would each fill a private cache, because nothing identifies the dataset."""


class NamespaceMismatchError(CacheError, ValueError):
    """A namespace holds samples of another dataset."""


class RandomSourceError(CacheError, ValueError):
    """A cache above a random dataset would freeze its first draw."""


class NondeterministicSourceError(CacheError, ValueError):
    """A source gives something new at each read, and a cache would freeze the first."""


class SizeLimitError(CacheError, ValueError):
    """A cache's size limit is too small for a single sample."""


class CacheClosedError(CacheError, ValueError):
    """A cache was used after ``close()``."""


class CacheWarning(UserWarning):
    """Something makes a cache slower than it should be; what comes out of it is right."""


class StorageError(KappaError, OSError):
    """A file or folder of the cache cannot be created, opened or trusted."""


# ---- staging


class StagingError(KappaError, OSError):
    """A dataset could not be brought to the local disk; nothing incomplete was published."""


class StagingTimeoutError(StagingError, TimeoutError):
    """Another process staged to the same target for longer than the caller would wait."""


class NotEnoughSpaceError(StagingError):
    """The local disk has too little room, or became full."""


class SourceChangedError(StagingError):
    """The source was written to while it was copied."""


class UnsafeArchiveError(StagingError, ValueError):
    """An archive has members that lead elsewhere, or gives more than it may."""
