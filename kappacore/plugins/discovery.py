"""Discovering installed plugins: each entry point on its own, so that none can break another."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import importlib_metadata
import pluggy

import kappacore
from kappacore.errors import BrokenPluginError
from kappacore.plugins import builtin, hookspecs
from kappacore.plugins.info import PluginInfo, normalize
from kappacore.plugins.specs import (
    API,
    CacheBackendSpec,
    DeviceSpec,
    PluginSpec,
    SourceSpec,
    WrapperSpec,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GROUP = "kappacore"
DISABLE = "KAPPACORE_DISABLE_PLUGINS"
AUTOLOAD = "KAPPACORE_PLUGIN_AUTOLOAD"

#: Hook -> the specs that it provides.
HOOKS: dict[str, type[PluginSpec]] = {
    "kappacore_cache_backends": CacheBackendSpec,
    "kappacore_wrappers": WrapperSpec,
    "kappacore_sources": SourceSpec,
    "kappacore_devices": DeviceSpec,
}


def autoload() -> bool:
    """Return whether installed plugins are to be discovered."""
    return os.environ.get(AUTOLOAD, "1").strip().lower() not in {"0", "false", "no", "off"}


def discover() -> tuple[PluginInfo, ...]:
    """Return the plugins of the core and of the installed distributions."""
    core = PluginInfo(
        kind="",
        name="kappacore",
        target=builtin.__name__,
        distribution="kappacore",
        version=kappacore.__version__,
    )
    found = _load(core, lambda: builtin)
    if autoload():
        found.extend(_installed())
    return tuple(_mark_conflicts(found))


def _installed() -> Iterator[PluginInfo]:
    disabled = os.environ.get(DISABLE, "").split(",")
    blocked = {normalize(name) for name in disabled if name.strip()}
    seen = set()
    for distribution in importlib_metadata.distributions():
        try:
            entry_points = distribution.entry_points.select(group=GROUP)
        except Exception as error:  # the others are still read
            yield _broken(_origin(distribution, None, "entry_points.txt"), error)
            continue
        for entry_point in entry_points:
            origin = _origin(distribution, entry_point.name, entry_point.value)
            name = normalize(origin.distribution)
            if (name, entry_point.value) in seen:  # editable installs may be found twice
                continue
            seen.add((name, entry_point.value))
            if name in blocked:
                yield replace(origin, status="blocked", reason=f"{DISABLE} names {name}")
            else:
                yield from _load(origin, entry_point.load)


def _origin(distribution: Any, name: str | None, target: str) -> PluginInfo:
    try:
        provider, version = str(distribution.name), str(distribution.version)
    except Exception:  # there may be no metadata
        provider, version = "unknown", ""
    return PluginInfo(
        kind="", name=name or provider, target=target, distribution=provider, version=version
    )


def _load(origin: PluginInfo, load: Callable[[], object]) -> list[PluginInfo]:
    """Return the plugins of one entry point, or one entry with the reason why loading failed."""
    try:
        return [_info(origin, spec) for spec in _read_specs(load(), origin)]
    except (Exception, SystemExit) as error:
        return [_broken(origin, error)]


def _broken(origin: PluginInfo, error: BaseException) -> PluginInfo:
    reason = f"{type(error).__name__}: {error}"
    return replace(origin, status="broken", reason=reason, error=error)


def _read_specs(plugin: object, origin: PluginInfo) -> list[PluginSpec]:
    # A manager of its own, so that a bad hook affects this plugin only.
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, origin.distribution)
    manager.check_pending()  # otherwise a misspelt hook is ignored silently
    found: list[PluginSpec] = []
    hooks = 0
    for hook, spec_type in HOOKS.items():
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            hooks += 1
            specs: Any = implementation.function()
            if not hasattr(specs, "__iter__"):
                raise BrokenPluginError(
                    f"{hook} returned {specs!r}: expected an iterable of {spec_type.__name__}."
                )
            for spec in specs:
                if not isinstance(spec, spec_type):
                    raise BrokenPluginError(
                        f"{hook} gave {spec!r}: expected a {spec_type.__name__}."
                    )
                found.append(spec)
    if not hooks:
        raise BrokenPluginError(
            f"{origin.target} implements no hook: mark a function with "
            f"kappacore.plugin_api.hookimpl and name it {', '.join(HOOKS)}."
        )
    _refuse_repeats(found)
    return found


def _refuse_repeats(found: list[PluginSpec]) -> None:
    counts = Counter((spec.kind, name) for spec in found for name in (spec.name, *spec.aliases))
    for (kind, name), count in counts.items():
        if count > 1:
            raise BrokenPluginError(f"{kind} {name!r} is registered {count} times; expected once.")


def _info(origin: PluginInfo, spec: PluginSpec) -> PluginInfo:
    info = replace(
        origin,
        kind=spec.kind,
        name=spec.name,
        target=spec.target,
        scope=spec.scope if isinstance(spec, CacheBackendSpec) else "",
        summary=spec.summary,
        aliases=spec.aliases,
        requires=spec.requires,
    )
    if spec.api > API:
        reason = (
            f"written for version {spec.api} of the plugin contract, while kappacore "
            f"{kappacore.__version__} implements {API}: pip install --upgrade kappacore"
        )
        info = replace(info, status="incompatible", reason=reason)
    return info


def _mark_conflicts(found: list[PluginInfo]) -> Iterator[PluginInfo]:
    for info in found:
        rivals = [
            f"{rival.provider} claims {name!r} too"
            for name in info.names
            for rival in found
            if rival is not info and rival.kind == info.kind and name in rival.names
        ]
        if rivals and info.status == "ok":
            info = replace(info, status="conflict", reason="; ".join(rivals))
        yield info
