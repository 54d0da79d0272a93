"""Discovering installed plugins: each entry point on its own, so that none can break another."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import importlib_metadata
import pluggy

import kappacore
from kappacore.errors import BrokenPluginError
from kappacore.plugins import hookspecs
from kappacore.plugins.info import PluginInfo, normalize
from kappacore.plugins.specs import API, CacheBackendSpec, PluginSpec, SourceSpec, WrapperSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GROUP = "kappacore"
DISABLE = "KAPPACORE_DISABLE_PLUGINS"
AUTOLOAD = "KAPPACORE_PLUGIN_AUTOLOAD"

#: Hook -> the kind of plugin it provides, and its spec.
HOOKS: dict[str, tuple[str, type[PluginSpec]]] = {
    "kappacore_cache_backends": ("backend", CacheBackendSpec),
    "kappacore_wrappers": ("wrapper", WrapperSpec),
    "kappacore_sources": ("source", SourceSpec),
}


def autoload() -> bool:
    """Return whether installed plugins are to be discovered."""
    return os.environ.get(AUTOLOAD, "1").strip().lower() not in {"0", "false", "no", "off"}


def discover() -> tuple[PluginInfo, ...]:
    """Return the plugins of the core and of the installed distributions."""
    core = PluginInfo(
        kind="",
        name="kappacore",
        target="kappacore.plugins.builtin",
        distribution="kappacore",
        version=kappacore.__version__,
    )
    found = list(_load(core, _load_builtin))
    if autoload():
        found.extend(_installed())
    return tuple(_mark_conflicts(found))


def _load_builtin() -> object:
    from kappacore.plugins import builtin

    return builtin


def _installed() -> Iterator[PluginInfo]:
    disabled = os.environ.get(DISABLE, "").split(",")
    blocked = {normalize(name) for name in disabled if name.strip()}
    readable, unreadable = _entry_points()
    yield from unreadable
    seen = set()
    for entry_point in readable:
        origin = _origin(entry_point)
        distribution = normalize(origin.distribution)
        if (distribution, entry_point.value) in seen:  # editable installs may be found twice
            continue
        seen.add((distribution, entry_point.value))
        if distribution in blocked:
            reason = f"{DISABLE} names {distribution}"
            yield replace(origin, status="blocked", reason=reason)
        else:
            yield from _load(origin, entry_point.load)


def _entry_points() -> tuple[list[importlib_metadata.EntryPoint], list[PluginInfo]]:
    """Return all entry points, and the distributions whose entry points cannot be read."""
    with contextlib.suppress(Exception):  # fails if a single distribution is unreadable
        return list(importlib_metadata.entry_points(group=GROUP)), []
    readable: list[importlib_metadata.EntryPoint] = []
    unreadable: list[PluginInfo] = []
    for distribution in importlib_metadata.distributions():
        try:
            readable.extend(distribution.entry_points.select(group=GROUP))
        except Exception as error:  # noqa: PERF203 - the others are still read
            name, version = _name_and_version(distribution)
            origin = PluginInfo(
                kind="", name=name, target="entry_points.txt", distribution=name, version=version
            )
            unreadable.append(_broken(origin, error))
    return readable, unreadable


def _name_and_version(distribution: Any) -> tuple[str, str]:
    with contextlib.suppress(Exception):  # there may be no metadata
        return str(distribution.name), str(distribution.version)
    return "unknown", ""


def _origin(entry_point: importlib_metadata.EntryPoint) -> PluginInfo:
    name, version = _name_and_version(entry_point.dist)
    return PluginInfo(
        kind="",
        name=entry_point.name,
        target=entry_point.value,
        distribution=name,
        version=version,
    )


def _load(origin: PluginInfo, load: Callable[[], object]) -> list[PluginInfo]:
    """Return the plugins of one entry point, or one entry with the reason why loading failed."""
    try:
        return [_info(origin, kind, spec) for kind, spec in _read_specs(load(), origin)]
    except (Exception, SystemExit) as error:
        return [_broken(origin, error)]


def _broken(origin: PluginInfo, error: BaseException) -> PluginInfo:
    reason = f"{type(error).__name__}: {error}"
    return replace(origin, status="broken", reason=reason, error=error)


def _read_specs(plugin: object, origin: PluginInfo) -> list[tuple[str, PluginSpec]]:
    # A manager of its own, so that a bad hook affects this plugin only.
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, origin.distribution)
    manager.check_pending()  # otherwise a misspelt hook is ignored silently
    found: list[tuple[str, PluginSpec]] = []
    hooks = 0
    for hook, (kind, spec_type) in HOOKS.items():
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
                found.append((kind, spec))
    if not hooks:
        raise BrokenPluginError(
            f"{origin.target} implements no hook: mark a function with "
            f"kappacore.plugin_api.hookimpl and name it {', '.join(HOOKS)}."
        )
    _refuse_repeats(found)
    return found


def _refuse_repeats(found: list[tuple[str, PluginSpec]]) -> None:
    counts = Counter((kind, name) for kind, spec in found for name in (spec.name, *spec.aliases))
    for (kind, name), count in counts.items():
        if count > 1:
            raise BrokenPluginError(f"{kind} {name!r} is registered {count} times; expected once.")


def _info(origin: PluginInfo, kind: str, spec: PluginSpec) -> PluginInfo:
    info = replace(
        origin,
        kind=kind,
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
    claims: dict[tuple[str, str], list[PluginInfo]] = {}
    for info in found:
        for name in info.names:
            claims.setdefault((info.kind, name), []).append(info)
    for info in found:
        rivals = [
            (name, rival)
            for name in info.names
            for rival in claims[info.kind, name]
            if rival is not info
        ]
        if rivals and info.status == "ok":
            reason = "; ".join(f"{rival.provider} claims {name!r} too" for name, rival in rivals)
            info = replace(info, status="conflict", reason=reason)
        yield info
