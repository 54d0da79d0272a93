"""The hooks that a plugin implements, and the markers for both sides.

A plugin distribution declares one entry point of the group ``kappacore`` that names a module, and
that module implements any of the hooks below. It should import nothing but
:mod:`kappacore.plugin_api`, so that discovery stays fast::

    from kappacore.plugin_api import CacheBackendSpec, hookimpl

    @hookimpl
    def kappacore_cache_backends():
        yield CacheBackendSpec(
            name="sqlite", target="kappa_sqlite.backend:SQLiteBackend", scope="machine", api=1
        )
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kappacore.plugins.specs import (
        CacheBackendSpec,
        DeviceSpec,
        SourceSpec,
        WrapperSpec,
    )

hookspec = pluggy.HookspecMarker("kappacore")
#: Marks a function of ``_plugin.py`` as the implementation of the hook of its name.
hookimpl = pluggy.HookimplMarker("kappacore")


@hookspec
def kappacore_cache_backends() -> Iterable[CacheBackendSpec]:  # type: ignore[empty-body]
    """Return the cache backends that this distribution provides."""


@hookspec
def kappacore_wrappers() -> Iterable[WrapperSpec]:  # type: ignore[empty-body]
    """Return the dataset wrappers that this distribution provides."""


@hookspec
def kappacore_sources() -> Iterable[SourceSpec]:  # type: ignore[empty-body]
    """Return the source datasets that this distribution provides."""


@hookspec
def kappacore_devices() -> Iterable[DeviceSpec]:  # type: ignore[empty-body]
    """Return the devices to which this distribution brings batches."""
