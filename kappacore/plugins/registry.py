"""Which plugin a name means: what is registered in code first, then what is installed."""

from __future__ import annotations

import importlib
import multiprocessing
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kappacore._shown import shown
from kappacore.errors import (
    BrokenPluginError,
    ConfigError,
    IncompatiblePluginError,
    InvalidOptionError,
    PluginConflictError,
    PluginError,
    UnknownPluginError,
)
from kappacore.plugins.hints import unknown_plugin
from kappacore._importable import target_of
from kappacore.plugins.info import KINDS, PluginInfo, normalize
from kappacore.plugins.plugin_ref import PluginRef
from kappacore.plugins.specs import check_scope, check_target

if TYPE_CHECKING:
    from collections.abc import Iterable

_in_code: dict[tuple[str, str], PluginInfo] = {}
_installed: tuple[PluginInfo, ...] | None = None
_discovering: set[int] = set()  # the threads that are at it


def installed() -> tuple[PluginInfo, ...]:
    """Return what the core and the installed distributions provide, looking for it once."""
    global _installed
    if _installed is None:
        thread = threading.get_ident()
        if thread in _discovering:
            raise PluginError(
                "A plugin asked for plugins while it was being looked at. Its entry point module "
                "should import nothing but kappacore.plugins.hookspecs and kappacore.plugins.specs."
            )
        from kappacore.plugins.discovery import discover

        _discovering.add(thread)
        try:
            _installed = discover()
        finally:
            _discovering.discard(thread)
    return _installed


def refresh() -> None:
    """Forget what is installed, so that the next use looks again.

    For a notebook after ``pip install``, and for tests. What was registered in code stays.
    """
    global _installed
    importlib.invalidate_caches()
    _installed = None


def all_plugins() -> list[PluginInfo]:
    """Return every plugin there is, with those that cannot be used and why."""
    return [*_in_code.values(), *installed()]


def available(kind: str) -> dict[str, PluginInfo]:
    """Return the plugins of a kind that can be chosen, by name and alias; imports no target.

    Args:
        kind: ``"backend"``, ``"wrapper"`` or ``"source"``.
    """
    check_kind(kind)
    claims: dict[str, list[PluginInfo]] = {}
    for info in installed():
        if info.kind == kind:
            for name in info.names:
                claims.setdefault(name, []).append(info)
    usable = {
        name: infos[0]
        for name, infos in claims.items()
        if len(infos) == 1 and infos[0].status != "incompatible"
    }
    in_code = {name: info for (of_kind, name), info in _in_code.items() if of_kind == kind}
    return dict(sorted({**usable, **in_code}.items()))


def has(kind: str, name: str) -> bool:
    """Tell whether a plugin of that kind and name can be chosen; imports no target."""
    return name in available(kind)


def check_kind(kind: str) -> None:
    """Raise InvalidOptionError if there is no such kind of plugin."""
    if kind not in KINDS:
        raise InvalidOptionError(
            f"kind {kind!r} does not exist: expected one of {', '.join(KINDS)}."
        )


def find(kind: str, choice: str) -> PluginInfo:
    """Return the one plugin that ``choice`` means.

    Args:
        kind: ``"backend"``, ``"wrapper"`` or ``"source"``.
        choice: A name, an alias, or ``"distribution:name"``.

    Raises:
        UnknownPluginError: If there is none.
        PluginConflictError: If there are several.
        IncompatiblePluginError: If it needs a newer kappacore.
        BrokenPluginError: If the distribution that was asked for could not be loaded.
        ConfigError: If ``choice`` is no text.
    """
    check_kind(kind)
    if not isinstance(choice, str):
        raise ConfigError(
            f"{shown('', choice)} names no {KINDS[kind]}: expected a name. There are: "
            f"{_listed(kind)}."
        )
    distribution, _, name = choice.rpartition(":")
    if not distribution and (kind, name) in _in_code:
        return _in_code[kind, name]
    claims = [info for info in installed() if info.kind == kind and name in info.names]
    if distribution:
        claims = [c for c in claims if normalize(c.distribution) == normalize(distribution)]
    if not claims:
        _raise_if_broken(kind, choice, distribution)
        raise UnknownPluginError(unknown_plugin(kind, choice, all_plugins(), list(available(kind))))
    if len(claims) > 1:
        raise PluginConflictError(_several(kind, name, claims))
    if claims[0].status == "incompatible":
        raise IncompatiblePluginError(
            f"{KINDS[kind]} {name!r} of {claims[0].provider} is {claims[0].reason}."
        )
    return claims[0]


def ref(kind: str, choice: str, options: Mapping[str, Any]) -> PluginRef:
    """Choose a plugin by name and give it options."""
    info = find(kind, choice)
    return PluginRef(
        kind=kind,
        name=info.name,
        target=info.target,
        options=dict(options),
        distribution=f"{info.distribution} {info.version}".strip(),
        requires=info.requires,
        registered=info.registered,
    )


def as_ref(kind: str, choice: Any, options: Mapping[str, Any] | None = None) -> PluginRef:
    """Turn any way of choosing a plugin into a PluginRef.

    Args:
        kind: ``"backend"``, ``"wrapper"`` or ``"source"``.
        choice: A name, a :class:`PluginRef`, or ``{"use": name, **options}``.
        options: Further options.

    Raises:
        ConfigError: If ``choice`` is none of these, or an option is given twice.
        PluginError: If it names no plugin that can be used; see :func:`find`.
    """
    check_kind(kind)
    options = dict(options or {})
    if isinstance(choice, str):
        return ref(kind, choice, options)
    if isinstance(choice, Mapping) and isinstance(choice.get("use"), str):
        chosen = ref(kind, choice["use"], {key: choice[key] for key in choice if key != "use"})
    elif isinstance(choice, PluginRef) and choice.kind == kind:
        chosen = choice
    else:
        raise ConfigError(
            f"{shown('', choice)} chooses no {KINDS[kind]}: expected a name, "
            f'{{"use": name, ...its options}} or a PluginRef of the kind {kind!r}. There are: '
            f"{_listed(kind)}."
        )
    twice = sorted(set(chosen.options) & set(options))
    if twice:
        raise ConfigError(f"{chosen} is given {', '.join(map(repr, twice))} twice; give it once.")
    return chosen.with_options(options)


def register(
    kind: str, name: str, target: Any, *, scope: str | None = None, override: bool = False
) -> None:
    """Register a target, or the text that names one, under a name in this process."""
    if isinstance(target, str):
        info = PluginInfo(kind=kind, name=name, target=check_target(target), scope=scope or "")
    elif callable(target):
        summary = (getattr(target, "__doc__", None) or "").strip().partition("\n")[0]
        info = PluginInfo(
            kind=kind,
            name=name,
            target=target_of(target),
            scope=scope or getattr(target, "scope", None) or "",
            summary=summary,
            registered=target,
        )
    else:
        raise InvalidOptionError(
            f"{target!r} cannot be registered as {KINDS[kind]} {name!r}: expected a class, a "
            "function or 'package.module:attribute'."
        )
    if kind == "backend":
        _check_scope(info)
    if not override:
        _refuse_clash(info)
    _in_code[kind, name] = info


def unregister(kind: str, name: str) -> None:
    """Take back what was registered in code; an installed plugin of that name shows again."""
    if _in_code.pop((kind, name), None) is None:
        raise UnknownPluginError(
            f"No {KINDS[kind]} {name!r} was registered in this program. Installed ones are "
            "switched off with KAPPACORE_DISABLE_PLUGINS=<distribution>."
        )


def _check_scope(info: PluginInfo) -> None:
    if not info.scope:
        raise InvalidOptionError(
            f"cache backend {info.name!r} ({info.target}) says nothing about who sees what it "
            "stores: give scope='process', 'machine' or 'network', or set `scope` on the class."
        )
    check_scope(info.scope)
    declared = getattr(info.registered, "scope", None) or info.scope
    if declared != info.scope:
        raise InvalidOptionError(
            f"cache backend {info.name!r} is registered with scope={info.scope!r}, but the class "
            f"says {declared!r}; leave scope out or make them agree."
        )


def _refuse_clash(info: PluginInfo) -> None:
    rivals: Iterable[PluginInfo] = ()
    if (info.kind, info.name) in _in_code:
        rivals = [_in_code[info.kind, info.name]]
    elif _installed is not None or not _in_worker():
        rivals = [i for i in installed() if i.kind == info.kind and info.name in i.names]
    for rival in rivals:
        if not _same(info, rival):
            raise PluginConflictError(
                f"{KINDS[info.kind]} {info.name!r} exists: {rival.target} of {rival.provider}. "
                f"To put {info.target} in its place pass override=True; otherwise choose another "
                "name."
            )


def _in_worker() -> bool:
    """Tell whether this is a worker, which need not look again for what its parent has seen.

    A worker that starts afresh runs the user's script before it knows its parent; all that says
    so then is the mark by which multiprocessing itself tells.
    """
    if multiprocessing.parent_process() is not None:
        return True
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


def _same(one: PluginInfo, other: PluginInfo) -> bool:
    """Tell whether both are one thing: one object, or one name in one module (run again)."""
    if one.registered is not None and one.registered is other.registered:
        return True
    return one.target == other.target and not one.target.startswith("<")


def _several(kind: str, name: str, claims: list[PluginInfo]) -> str:
    providers = " and ".join(info.provider for info in claims)
    choices = " or ".join(f"'{normalize(info.distribution)}:{name}'" for info in claims)
    return f"{KINDS[kind]} {name!r} is claimed by {providers}. Choose one: {choices}."


def _raise_if_broken(kind: str, choice: str, distribution: str) -> None:
    for info in installed():
        if info.status == "broken" and normalize(info.distribution) == normalize(distribution):
            raise BrokenPluginError(
                f"{KINDS[kind]} {choice!r} cannot be used: loading {info.target} of "
                f"{info.provider} failed with {info.reason}"
            ) from info.error


def _listed(kind: str) -> str:
    return ", ".join(available(kind)) or "none"
