"""kappacore: a plugin framework for PyTorch datasets that makes slow data fast.

Importing this package imports nothing heavy: each public name is loaded when it is first touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kappacore._lazy import lazy_names

if TYPE_CHECKING:
    from kappacore.caching import (
        PRIVATE,
        BackendInfo,
        Buffer,
        CacheBackend,
        CachedDataset,
        CacheStats,
        CacheWrapper,
        Codec,
        SampleCache,
        default_codec,
        register_type,
    )
    from kappacore.caching.explain import explain
    from kappacore.datasets import (
        KDConcatDataset,
        KDDataset,
        KDSubset,
        KDWrapper,
        ModeWrapper,
        as_kd,
        find_wrapper,
        iter_wrappers,
    )
    from kappacore.errors import (
        BrokenPluginError,
        CacheClosedError,
        CacheError,
        CacheWarning,
        ConfigError,
        CorruptValueError,
        DatasetTypeError,
        EmptyDatasetError,
        IncompatiblePluginError,
        IndexOutOfRangeError,
        InvalidIndexError,
        InvalidItemError,
        InvalidOptionError,
        KappaError,
        MissingDependencyError,
        MissingLabelsError,
        ModeError,
        NamespaceMismatchError,
        NamespaceRequiredError,
        NondeterministicSourceError,
        NotEnoughSpaceError,
        PluginConflictError,
        PluginError,
        RandomSourceError,
        SizeLimitError,
        SourceChangedError,
        StagingError,
        StagingTimeoutError,
        StorageError,
        TypeRegistrationError,
        UncacheableValueError,
        UnknownItemError,
        UnknownOptionError,
        UnknownPluginError,
        UnsafeArchiveError,
        UseModeWrapperError,
    )
    from kappacore.plugins import (
        PluginRef,
        backend,
        register_cache_backend,
        register_source,
        register_wrapper,
        unregister_cache_backend,
        unregister_source,
        unregister_wrapper,
    )
    from kappacore.plugins.composing import (
        build,
        load_dataset,
        wrap,
    )
    from kappacore.plugins.hookspecs import hookimpl, hookspec
    from kappacore.plugins.specs import (
        CacheBackendSpec,
        PluginSpec,
        SourceSpec,
        WrapperSpec,
    )
    from kappacore.staging import (
        CopyResult,
        StageResult,
        copy_folder_from_global_to_local,
        stage,
    )
    from kappacore.wrappers import (
        ClassFilterWrapper,
        ClasswisePercentWrapper,
        FewshotWrapper,
        IntraClassShuffleWrapper,
        LabelSmoothingWrapper,
        MultiViewWrapper,
        OneHotWrapper,
        OversamplingWrapper,
        PercentFilterWrapper,
        RemapClassesWrapper,
        RepeatWrapper,
        ShuffleWrapper,
        SortByClassWrapper,
        SubsetWrapper,
        TransformWrapper,
        train_test_split,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "BackendInfo",
    "BrokenPluginError",
    "Buffer",
    "CacheBackend",
    "CacheBackendSpec",
    "CacheClosedError",
    "CacheError",
    "CacheStats",
    "CacheWarning",
    "CacheWrapper",
    "CachedDataset",
    "ClassFilterWrapper",
    "ClasswisePercentWrapper",
    "Codec",
    "ConfigError",
    "CopyResult",
    "CorruptValueError",
    "DatasetTypeError",
    "EmptyDatasetError",
    "FewshotWrapper",
    "IncompatiblePluginError",
    "IndexOutOfRangeError",
    "IntraClassShuffleWrapper",
    "InvalidIndexError",
    "InvalidItemError",
    "InvalidOptionError",
    "KDConcatDataset",
    "KDDataset",
    "KDSubset",
    "KDWrapper",
    "KappaError",
    "LabelSmoothingWrapper",
    "MissingDependencyError",
    "MissingLabelsError",
    "ModeError",
    "ModeWrapper",
    "MultiViewWrapper",
    "NamespaceMismatchError",
    "NamespaceRequiredError",
    "NondeterministicSourceError",
    "NotEnoughSpaceError",
    "OneHotWrapper",
    "OversamplingWrapper",
    "PRIVATE",
    "PercentFilterWrapper",
    "PluginConflictError",
    "PluginError",
    "PluginRef",
    "PluginSpec",
    "RandomSourceError",
    "RemapClassesWrapper",
    "RepeatWrapper",
    "SampleCache",
    "ShuffleWrapper",
    "SizeLimitError",
    "SortByClassWrapper",
    "SourceChangedError",
    "SourceSpec",
    "StageResult",
    "StagingError",
    "StagingTimeoutError",
    "StorageError",
    "SubsetWrapper",
    "TransformWrapper",
    "TypeRegistrationError",
    "UncacheableValueError",
    "UnknownItemError",
    "UnknownOptionError",
    "UnknownPluginError",
    "UnsafeArchiveError",
    "UseModeWrapperError",
    "WrapperSpec",
    "as_kd",
    "backend",
    "build",
    "copy_folder_from_global_to_local",
    "default_codec",
    "explain",
    "find_wrapper",
    "hookimpl",
    "hookspec",
    "iter_wrappers",
    "load_dataset",
    "register_cache_backend",
    "register_source",
    "register_type",
    "register_wrapper",
    "stage",
    "train_test_split",
    "unregister_cache_backend",
    "unregister_source",
    "unregister_wrapper",
    "wrap",
]

_HOMES = {
    "kappacore.caching": (
        "BackendInfo Buffer CacheBackend CacheStats CacheWrapper CachedDataset Codec PRIVATE "
        "SampleCache default_codec register_type"
    ),
    "kappacore.caching.explain": "explain",
    "kappacore.plugins.composing": "build load_dataset wrap",
    "kappacore.datasets": (
        "KDConcatDataset KDDataset KDSubset KDWrapper ModeWrapper as_kd find_wrapper iter_wrappers"
    ),
    "kappacore.errors": (
        "BrokenPluginError CacheClosedError CacheError CacheWarning ConfigError "
        "CorruptValueError DatasetTypeError EmptyDatasetError IncompatiblePluginError "
        "IndexOutOfRangeError "
        "InvalidIndexError InvalidItemError InvalidOptionError KappaError "
        "MissingDependencyError MissingLabelsError ModeError NamespaceMismatchError "
        "NamespaceRequiredError "
        "NondeterministicSourceError NotEnoughSpaceError PluginConflictError PluginError "
        "RandomSourceError "
        "SizeLimitError SourceChangedError StagingError StagingTimeoutError StorageError "
        "TypeRegistrationError UncacheableValueError UnsafeArchiveError "
        "UnknownItemError UnknownOptionError UnknownPluginError UseModeWrapperError"
    ),
    "kappacore.plugins.hookspecs": "hookimpl hookspec",
    "kappacore.plugins": (
        "PluginRef backend register_cache_backend register_source register_wrapper "
        "unregister_cache_backend unregister_source unregister_wrapper"
    ),
    "kappacore.plugins.specs": "CacheBackendSpec PluginSpec SourceSpec WrapperSpec",
    "kappacore.staging": "CopyResult StageResult copy_folder_from_global_to_local stage",
    "kappacore.wrappers": (
        "ClassFilterWrapper ClasswisePercentWrapper FewshotWrapper IntraClassShuffleWrapper "
        "LabelSmoothingWrapper MultiViewWrapper OneHotWrapper OversamplingWrapper "
        "PercentFilterWrapper RemapClassesWrapper RepeatWrapper ShuffleWrapper "
        "SortByClassWrapper SubsetWrapper TransformWrapper train_test_split"
    ),
}
_load = lazy_names(__name__, _HOMES)

_MOVED = {
    "SharedDictDataset": ("kappa_shared", "pip install kappa-shared"),
    "RedisDataset": ("kappa_redis", "pip install kappa-redis"),
}


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        package, install = _MOVED[name]
        raise AttributeError(
            f"kappacore has no {name}: it lives in a plugin. "
            f"Use `from {package} import {name}` (install it with `{install}`)."
        )
    return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
