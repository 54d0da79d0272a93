"""Every error that kappacore raises on purpose; docs/errors.md says what to do about each.

All derive from :class:`KappaError`, and most from a fitting builtin too, so ``except IndexError``
and ``except KappaError`` both work. Each takes one message, so that PyTorch can raise it again in
the main process with the worker's traceback.
"""

from __future__ import annotations


class KappaError(Exception):
    """Base of all errors of kappacore and its plugins."""


class MissingDependencyError(KappaError, ImportError):
    """An optional library is required but not installed; the message says how to install it."""


# ---- options and configuration


class InvalidOptionError(KappaError, ValueError):
    """An option has an invalid value."""


class UnknownOptionError(KappaError, TypeError):
    """An option does not exist; the message lists the existing ones."""


class ConfigError(KappaError, ValueError):
    """A configuration for :func:`kappacore.build` is malformed; the message names the key."""


# ---- datasets


class DatasetTypeError(KappaError, TypeError):
    """The dataset is of an unsuitable kind, such as an ``IterableDataset``."""


class EmptyDatasetError(KappaError, ValueError):
    """An epoch begins on a dataset whose wrappers left no sample."""


class UseModeWrapperError(KappaError, TypeError):
    """A ``KDDataset`` was indexed directly, without a ``ModeWrapper`` to choose the items."""


class UnknownItemError(KappaError, AttributeError):
    """The dataset has no such item."""


class MissingLabelsError(KappaError, ValueError):
    """Labels are required, and the dataset has none that can be read without its samples."""


class InvalidItemError(KappaError, ValueError):
    """The forms that a dataset defines for an item are incomplete or return a wrong result."""


class NotUniformError(InvalidItemError):
    """The values of a batch differ in shape or type, so they are not stacked."""


class ModeError(KappaError, ValueError):
    """A mode is empty or malformed."""


class IndexOutOfRangeError(KappaError, IndexError):
    """An index is past the end of the dataset."""


class InvalidIndexError(KappaError, TypeError):
    """An index is neither an integer, a slice nor a sequence of integers."""


# ---- samplers


class SamplerStateError(KappaError, ValueError):
    """The state given to a sampler is that of another sampler, seed or dataset."""


# ---- plugins


class PluginError(KappaError):
    """Base of all errors about plugins."""


class UnknownPluginError(PluginError, LookupError):
    """No plugin has that name; the message lists the known ones and what to install."""


class BrokenPluginError(PluginError):
    """A plugin cannot be loaded or used, or raised an error; raised from the cause."""


class PluginConflictError(PluginError):
    """Several distributions, or one and the program, claim the same name."""


class IncompatiblePluginError(PluginError):
    """A plugin was written for a newer kappacore."""


# ---- caching


class CacheError(KappaError):
    """Base of all errors about caches."""


class UncacheableValueError(CacheError, TypeError):
    """The codec cannot restore a value exactly; the message says where in the sample it is."""


class TypeRegistrationError(CacheError, TypeError):
    """A type cannot be registered for caching, or cannot be sent to a worker process."""


class CorruptValueError(CacheError, ValueError):
    """Stored bytes differ from those written for this key; the engine reads the source again."""


class NamespaceRequiredError(CacheError, ValueError):
    """Several ranks would each fill a private cache, because nothing identifies the dataset."""


class NamespaceMismatchError(CacheError, ValueError):
    """A namespace holds the samples of another dataset."""


class RandomSourceError(CacheError, ValueError):
    """A cache above a random dataset would freeze its first draw."""


class NondeterministicSourceError(CacheError, ValueError):
    """A source returns something else at each read; a cache would freeze the first result."""


class DependsOnCtxError(CacheError, ValueError):
    """An item to be cached follows another one through ctx."""


class CircularReadError(CacheError, RecursionError):
    """A source reads a sample through its own cache in order to read that same sample."""


class SizeLimitError(CacheError, ValueError):
    """A cache's size limit is too small for a single sample."""


class CacheClosedError(CacheError, ValueError):
    """A cache was used after ``close()``."""


class DatasetChangedError(CacheError, RuntimeError):
    """The dataset below a cache was changed after the cache was opened."""


class CacheWarning(UserWarning):
    """A cache is slower than it should be; its samples are correct."""


class OwnGeneratorWarning(UserWarning):
    """A transform draws from a generator of its own, which is the same in every worker."""


class LateEpochWarning(UserWarning):
    """An epoch was set while an iteration runs, which goes on as the epoch that it began with."""


class LostStateWarning(UserWarning):
    """A state was loaded, and then another epoch was set, which begins anew."""


class StorageError(KappaError, OSError):
    """A file or folder of a cache cannot be created, opened or trusted."""


# ---- loading


class LoadingError(KappaError, RuntimeError):
    """A batch cannot be made of the samples, or a transform returned something else."""


class LoaderStateError(KappaError, ValueError):
    """The state of a Loader is that of another dataset, seed or order."""


class LoaderClosedError(KappaError, ValueError):
    """A Loader was used after ``close()``."""


class DeviceUnavailableError(KappaError, RuntimeError):
    """This machine has no such device."""


# ---- staging


class StagingError(KappaError, OSError):
    """A dataset could not be staged; nothing incomplete was published."""


class StagingTimeoutError(StagingError, TimeoutError):
    """Another process was still staging to the same target when ``timeout`` ended."""


class NotEnoughSpaceError(StagingError):
    """The local disk has too little space, or became full."""


class SourceChangedError(StagingError):
    """The source changed while it was copied."""


class UnsafeArchiveError(StagingError, ValueError):
    """An archive has members outside its folder, or exceeds a limit."""


# Whatever is defined above.
__all__ = sorted(name for name, value in globals().items() if isinstance(value, type))
