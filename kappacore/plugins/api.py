"""Choosing a backend by name, and registering plugins in code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from kappacore.plugins.registry import ref, register, unregister

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.plugins.plugin_ref import PluginRef
    from kappacore.plugins.specs import Scope

T = TypeVar("T")


def backend(name: str, /, **options: Any) -> PluginRef:
    """Choose a cache backend and its options; nothing is opened yet.

    Args:
        name: Its name, or ``"distribution:name"`` if several distributions claim the name.
        **options: The backend's options.

    Returns:
        The choice, which pickles; a cache opens it.

    Raises:
        UnknownPluginError: If there is none of that name; the message says what to install.
        PluginConflictError: If several distributions claim the name.
        IncompatiblePluginError: If it was written for a newer kappacore.

    Example::

        kappacore.CacheWrapper(dataset, kappacore.backend("shared", max_bytes="64GiB"))
    """
    return ref("backend", name, options)


@overload
def register_cache_backend(
    name: str, target: None = None, *, scope: Scope | None = None, override: bool = False
) -> Callable[[T], T]: ...
@overload
def register_cache_backend(
    name: str, target: T, *, scope: Scope | None = None, override: bool = False
) -> T: ...
def register_cache_backend(
    name: str, target: Any = None, *, scope: Scope | None = None, override: bool = False
) -> Any:
    """Register a cache backend in this program, without a distribution.

    Registering the same object again, or one with the same module and qualified name (a notebook
    cell run again), replaces it.

    Args:
        name: How it is chosen.
        target: A :class:`kappacore.CacheBackend` class, or ``"package.module:attribute"``.
            Without it, a decorator is returned.
        scope: ``"process"``, ``"machine"`` or ``"network"``; by default that of the class.
            Required where ``target`` is a string.
        override: Replace a plugin that has the name already.

    Returns:
        ``target``, or a decorator.

    Raises:
        PluginConflictError: If another plugin has the name.
        InvalidOptionError: If the name, target or scope cannot be used.

    Example::

        @kappacore.register_cache_backend("mine")
        class MyBackend(kappacore.CacheBackend):
            scope = "process"
            ...
    """
    return register("backend", name, target, scope=scope, override=override)


@overload
def register_wrapper(
    name: str, target: None = None, *, override: bool = False
) -> Callable[[T], T]: ...
@overload
def register_wrapper(name: str, target: T, *, override: bool = False) -> T: ...
def register_wrapper(name: str, target: Any = None, *, override: bool = False) -> Any:
    """Register a dataset wrapper in this program, as :func:`register_cache_backend` does a backend.

    Args:
        name: How it is chosen.
        target: A callable ``(dataset, **options)``, or ``"package.module:attribute"``.
        override: Replace a plugin that has the name already.
    """
    return register("wrapper", name, target, override=override)


@overload
def register_source(
    name: str, target: None = None, *, override: bool = False
) -> Callable[[T], T]: ...
@overload
def register_source(name: str, target: T, *, override: bool = False) -> T: ...
def register_source(name: str, target: Any = None, *, override: bool = False) -> Any:
    """Register a source dataset in this program, as :func:`register_cache_backend` does a backend.

    Args:
        name: How it is chosen.
        target: A callable ``(**options)``, or ``"package.module:attribute"``.
        override: Replace a plugin that has the name already.
    """
    return register("source", name, target, override=override)


@overload
def register_device(
    name: str, target: None = None, *, override: bool = False
) -> Callable[[T], T]: ...
@overload
def register_device(name: str, target: T, *, override: bool = False) -> T: ...
def register_device(name: str, target: Any = None, *, override: bool = False) -> Any:
    """Register a device in this program, as :func:`register_cache_backend` does a backend.

    Args:
        name: How it is chosen: ``Loader(device="name:1")``.
        target: A :class:`kappacore.plugin_api.Device` class, or ``"package.module:attribute"``.
        override: Replace a plugin that has the name already.
    """
    return register("device", name, target, override=override)


def unregister_cache_backend(name: str) -> None:
    """Remove a backend registered in code.

    Args:
        name: How it is chosen.

    Raises:
        UnknownPluginError: None of that name was registered in code.
    """
    unregister("backend", name)


def unregister_wrapper(name: str) -> None:
    """Remove a wrapper registered in code; see :func:`unregister_cache_backend`."""
    unregister("wrapper", name)


def unregister_source(name: str) -> None:
    """Remove a source registered in code; see :func:`unregister_cache_backend`."""
    unregister("source", name)


def unregister_device(name: str) -> None:
    """Remove a device registered in code; see :func:`unregister_cache_backend`."""
    unregister("device", name)
