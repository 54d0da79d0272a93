"""Plugins: from a name to a class.

Installed distributions are found through their entry points of the group ``kappacore`` on first
use (:mod:`kappacore.plugin_api` is what they import). Names are listed without importing any
target; a target is imported when it is chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kappacore._lazy import lazy_names

if TYPE_CHECKING:
    from kappacore.plugins.api import (
        backend,
        register_cache_backend,
        register_source,
        register_wrapper,
        unregister_cache_backend,
        unregister_source,
        unregister_wrapper,
    )
    from kappacore.plugins.composing import build, load_dataset, wrap
    from kappacore.plugins.info import KINDS, PluginInfo
    from kappacore.plugins.plugin_ref import PluginRef
    from kappacore.plugins.registry import all_plugins, as_ref, available, find, has, ref, refresh

__all__ = [
    "KINDS",
    "PluginInfo",
    "PluginRef",
    "all_plugins",
    "as_ref",
    "available",
    "backend",
    "build",
    "find",
    "has",
    "load_dataset",
    "ref",
    "refresh",
    "register_cache_backend",
    "register_source",
    "register_wrapper",
    "unregister_cache_backend",
    "unregister_source",
    "unregister_wrapper",
    "wrap",
]

_HOMES = {
    "kappacore.plugins.api": (
        "backend register_cache_backend register_source register_wrapper "
        "unregister_cache_backend unregister_source unregister_wrapper"
    ),
    "kappacore.plugins.composing": "build load_dataset wrap",
    "kappacore.plugins.info": "KINDS PluginInfo",
    "kappacore.plugins.plugin_ref": "PluginRef",
    "kappacore.plugins.registry": "all_plugins as_ref available find has ref refresh",
}
__getattr__ = lazy_names(__name__, _HOMES)
