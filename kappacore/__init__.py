"""kappacore: a plugin framework for PyTorch datasets that makes slow data fast.

Importing this package imports nothing heavy: each public name is loaded when it is first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kappacore.caching import (
        PRIVATE,
        BackendInfo,
        CacheBackend,
        CachedDataset,
        CacheStats,
        CacheWrapper,
        SampleCache,
        default_codec,
    )
    from kappacore.composing import build, load_dataset, wrap
    from kappacore.datasets import (
        KDConcatDataset,
        KDDataset,
        KDSubset,
        KDWrapper,
        ModeWrapper,
        as_kd,
    )
    from kappacore.errors import *  # noqa: F403
    from kappacore.hookspecs import hookimpl
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
    from kappacore.specs import CacheBackendSpec, SourceSpec, WrapperSpec
    from kappacore.wrappers import TransformWrapper

__version__ = "0.1.0"

_HOMES = {
    "kappacore.caching": (
        "PRIVATE BackendInfo CacheBackend CachedDataset CacheStats CacheWrapper SampleCache "
        "default_codec"
    ),
    "kappacore.composing": "build load_dataset wrap",
    "kappacore.datasets": "KDConcatDataset KDDataset KDSubset KDWrapper ModeWrapper as_kd",
    "kappacore.errors": (
        "BrokenPluginError CacheClosedError CacheError ConfigError CorruptValueError "
        "DatasetTypeError IncompatiblePluginError IndexOutOfRangeError InvalidIndexError "
        "InvalidOptionError KappaError ModeError NamespaceMismatchError NamespaceRequiredError "
        "PluginConflictError PluginError RandomSourceError SizeLimitError StorageError "
        "UncacheableValueError UnknownItemError UnknownOptionError UnknownPluginError "
        "UseModeWrapperError"
    ),
    "kappacore.hookspecs": "hookimpl",
    "kappacore.plugins": (
        "PluginRef backend register_cache_backend register_source register_wrapper "
        "unregister_cache_backend unregister_source unregister_wrapper"
    ),
    "kappacore.specs": "CacheBackendSpec SourceSpec WrapperSpec",
    "kappacore.wrappers": "TransformWrapper",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

_MOVED = {
    "SharedDictDataset": ("kappa_shared", "pip install kappa-shared"),
    "RedisDataset": ("kappa_redis", "pip install kappa-redis"),
}

__all__ = ["__version__", *sorted(_HOME_OF)]  # noqa: PLE0604 - strings, computed once


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value
    if name in _MOVED:
        package, install = _MOVED[name]
        raise AttributeError(
            f"kappacore has no {name}: it lives in a plugin. "
            f"Use `from {package} import {name}` (install it with `{install}`)."
        )
    raise AttributeError(f"module 'kappacore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
