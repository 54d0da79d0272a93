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
        explain,
        register_type,
    )
    from kappacore.composing import (
        build,
        load_dataset,
        wrap,
    )
    from kappacore.datasets import (
        KDConcatDataset,
        KDDataset,
        KDSubset,
        KDWrapper,
        ModeWrapper,
        as_kd,
    )
    from kappacore.errors import (
        BrokenPluginError,
        CacheClosedError,
        CacheError,
        CacheWarning,
        ConfigError,
        CorruptValueError,
        DatasetTypeError,
        IncompatiblePluginError,
        IndexOutOfRangeError,
        InvalidIndexError,
        InvalidItemError,
        InvalidOptionError,
        KappaError,
        MissingDependencyError,
        ModeError,
        NamespaceMismatchError,
        NamespaceRequiredError,
        NondeterministicSourceError,
        PluginConflictError,
        PluginError,
        RandomSourceError,
        SizeLimitError,
        StorageError,
        TypeRegistrationError,
        UncacheableValueError,
        UnknownItemError,
        UnknownOptionError,
        UnknownPluginError,
        UseModeWrapperError,
    )
    from kappacore.hookspecs import hookimpl, hookspec
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
    from kappacore.specs import (
        CacheBackendSpec,
        PluginSpec,
        SourceSpec,
        WrapperSpec,
    )
    from kappacore.wrappers import (
        TransformWrapper,
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
    "Codec",
    "ConfigError",
    "CorruptValueError",
    "DatasetTypeError",
    "IncompatiblePluginError",
    "IndexOutOfRangeError",
    "InvalidIndexError",
    "InvalidItemError",
    "InvalidOptionError",
    "KDConcatDataset",
    "KDDataset",
    "KDSubset",
    "KDWrapper",
    "KappaError",
    "MissingDependencyError",
    "ModeError",
    "ModeWrapper",
    "NamespaceMismatchError",
    "NamespaceRequiredError",
    "NondeterministicSourceError",
    "PRIVATE",
    "PluginConflictError",
    "PluginError",
    "PluginRef",
    "PluginSpec",
    "RandomSourceError",
    "SampleCache",
    "SizeLimitError",
    "SourceSpec",
    "StorageError",
    "TransformWrapper",
    "TypeRegistrationError",
    "UncacheableValueError",
    "UnknownItemError",
    "UnknownOptionError",
    "UnknownPluginError",
    "UseModeWrapperError",
    "WrapperSpec",
    "as_kd",
    "backend",
    "build",
    "default_codec",
    "explain",
    "hookimpl",
    "hookspec",
    "load_dataset",
    "register_cache_backend",
    "register_source",
    "register_type",
    "register_wrapper",
    "unregister_cache_backend",
    "unregister_source",
    "unregister_wrapper",
    "wrap",
]

_HOMES = {
    "kappacore.caching": (
        "BackendInfo Buffer CacheBackend CacheStats CacheWrapper CachedDataset Codec PRIVATE "
        "SampleCache default_codec explain register_type"
    ),
    "kappacore.composing": "build load_dataset wrap",
    "kappacore.datasets": ("KDConcatDataset KDDataset KDSubset KDWrapper ModeWrapper as_kd"),
    "kappacore.errors": (
        "BrokenPluginError CacheClosedError CacheError CacheWarning ConfigError "
        "CorruptValueError DatasetTypeError IncompatiblePluginError IndexOutOfRangeError "
        "InvalidIndexError InvalidItemError InvalidOptionError KappaError "
        "MissingDependencyError ModeError NamespaceMismatchError NamespaceRequiredError "
        "NondeterministicSourceError PluginConflictError PluginError RandomSourceError "
        "SizeLimitError StorageError TypeRegistrationError UncacheableValueError "
        "UnknownItemError UnknownOptionError UnknownPluginError UseModeWrapperError"
    ),
    "kappacore.hookspecs": "hookimpl hookspec",
    "kappacore.plugins": (
        "PluginRef backend register_cache_backend register_source register_wrapper "
        "unregister_cache_backend unregister_source unregister_wrapper"
    ),
    "kappacore.specs": "CacheBackendSpec PluginSpec SourceSpec WrapperSpec",
    "kappacore.wrappers": "TransformWrapper",
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
