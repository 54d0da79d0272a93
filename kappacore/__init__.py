"""kappacore: a plugin framework for PyTorch datasets that makes slow data fast.

Importing this package imports nothing heavy: each public name is loaded on first use. The names
are listed in ``__init__.pyi``; ``kappacore.errors``, ``kappacore.wrappers``,
``kappacore.samplers``, ``kappacore.loading``, ``kappacore.caching``, ``kappacore.plugins``,
``kappacore.plugin_api`` and ``kappacore.staging`` have more.
"""

from __future__ import annotations

import importlib

from kappacore._lazy import lazy_names

__version__ = "0.1.0"

_SUBMODULES = (
    "errors",
    "wrappers",
    "samplers",
    "plugin_api",
    "plugins",
    "caching",
    "loading",
    "staging",
)
_IN_PLUGINS = {"SharedDictDataset": "kappa_shared", "RedisDataset": "kappa_redis"}

_load, __dir__ = lazy_names(__name__)


def __getattr__(name: str) -> object:
    try:
        return _load(name)
    except AttributeError as error:
        if name.startswith("_"):
            raise
        advice = _where_it_is(name)
        if advice:
            raise AttributeError(f"{error}: {advice}") from None
        raise


def _where_it_is(name: str) -> str:
    """Return where a name is that a user looks for here, or nothing."""
    if package := _IN_PLUGINS.get(name):
        install = f"pip install {package.replace('_', '-')}"
        return f"it is in a plugin. Use `from {package} import {name}` (`{install}`)."
    for submodule in _SUBMODULES:
        if name in importlib.import_module(f"kappacore.{submodule}").__all__:
            return f"use `from kappacore.{submodule} import {name}`."
    return ""
