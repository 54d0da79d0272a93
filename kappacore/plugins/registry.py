"""Which plugin a name means: one registered in code first, then an installed one."""

from __future__ import annotations

import difflib
import importlib
import multiprocessing
import threading
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kappacore._importable import name_of
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
from kappacore.plugins.info import KINDS, PluginInfo, normalize
from kappacore.plugins.options import plain
from kappacore.plugins.plugin_ref import PluginRef
from kappacore.plugins.specs import check_name, check_scope, check_target

if TYPE_CHECKING:
    from collections.abc import Iterable

_in_code: dict[tuple[str, str], PluginInfo] = {}
_installed: tuple[PluginInfo, ...] | None = None
_discovering: set[int] = set()  # thread idents

#: Kind -> name -> the distribution that provides it, for those that the project publishes.
PUBLISHED: dict[str, dict[str, str]] = {
    "backend": {
        "redis": "kappa-redis",
        "shared": "kappa-shared",
        "shared-dict": "kappa-shared",
    },
    "wrapper": {},
    "source": {"imagefolder": "kappa-imagefolder"},
    "device": {"cuda": "kappa-cuda"},
}


def installed() -> tuple[PluginInfo, ...]:
    """Return the plugins of the core and the installed distributions; found on the first call."""
    global _installed
    if _installed is None:
        thread = threading.get_ident()
        if thread in _discovering:
            raise PluginError(
                "A plugin asked for plugins while plugins were being discovered. Its entry point "
                "module should import nothing but kappacore.plugin_api."
            )
        from kappacore.plugins.discovery import discover

        _discovering.add(thread)
        try:
            _installed = discover()
        finally:
            _discovering.discard(thread)
    return _installed


def refresh() -> None:
    """Discover installed plugins again on the next use, as in a notebook after ``pip install``.

    Plugins registered in code stay.
    """
    global _installed
    importlib.invalidate_caches()
    _installed = None


def all_plugins() -> list[PluginInfo]:
    """Return every plugin, including those that cannot be used, with the reason."""
    return [*_in_code.values(), *installed()]


def available(kind: str) -> dict[str, PluginInfo]:
    """Return the plugins of a kind that can be chosen, by name and alias; import no target.

    Args:
        kind: One of `KINDS`.
    """
    check_kind(kind)
    of_kind = [info for info in installed() if info.kind == kind]
    claims = Counter(name for info in of_kind for name in info.names)
    usable = {
        name: info
        for info in of_kind
        for name in info.names
        if claims[name] == 1 and info.status != "incompatible"
    }
    in_code = {info.name: info for info in _in_code.values() if info.kind == kind}
    return dict(sorted({**usable, **in_code}.items()))


def has(kind: str, name: str) -> bool:
    """Return whether a plugin of that kind and name can be chosen; import no target.

    Args:
        kind: ``"backend"``, ``"wrapper"``, ``"source"`` or ``"device"``.
        name: Its name, or another name of it.
    """
    return name in available(kind)


def check_kind(kind: str) -> None:
    """Raise InvalidOptionError unless there is such a kind of plugin."""
    if kind not in KINDS:
        raise InvalidOptionError(
            f"kind {kind!r} does not exist: expected one of {', '.join(KINDS)}."
        )


def find(kind: str, choice: str) -> PluginInfo:
    """Return the plugin that ``choice`` names.

    Args:
        kind: One of `KINDS`.
        choice: A name, an alias, or ``"distribution:name"``.

    Raises:
        UnknownPluginError: If there is none.
        PluginConflictError: If there are several.
        IncompatiblePluginError: If it needs a newer kappacore.
        BrokenPluginError: If the distribution in ``choice`` could not be loaded.
        ConfigError: If ``choice`` is not a string.
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
        raise UnknownPluginError(_unknown(kind, choice))
    if len(claims) > 1:
        raise PluginConflictError(_several(kind, name, claims))
    if claims[0].status == "incompatible":
        raise IncompatiblePluginError(
            f"{KINDS[kind]} {name!r} of {claims[0].provider} is {claims[0].reason}."
        )
    return claims[0]


def find_all(choice: str) -> list[PluginInfo]:
    """Return every plugin of a name, of whatever kind; those too that cannot be used.

    Args:
        choice: ``"name"`` or ``"distribution:name"``.

    Raises:
        UnknownPluginError: If there is none.
    """
    distribution, _, name = choice.rpartition(":")
    found = [
        info
        for info in all_plugins()
        if name in (info.names or (info.name,))
        and (not distribution or normalize(info.distribution) == normalize(distribution))
    ]
    if found:
        return found
    known = {each for info in all_plugins() for each in info.names}
    published = {name: dist for names in PUBLISHED.values() for name, dist in names.items()}
    hints = [f"There is no plugin {choice!r}."]
    if name in published:
        hints.append(f"{name!r} comes with a plugin: `pip install {published[name]}`.")
    else:
        hints += [f"Did you mean {each!r}?" for each in difflib.get_close_matches(name, known, 1)]
    hints.append("`kappacore plugins` lists all.")
    raise UnknownPluginError(" ".join(hints))


def ref(kind: str, choice: str, options: Mapping[str, Any]) -> PluginRef:
    """Return the plugin that ``choice`` names, with options.

    Args:
        kind: ``"backend"``, ``"wrapper"``, ``"source"`` or ``"device"``.
        choice: Its name, or ``"distribution:name"``.
        options: What its target is called with when it is opened.

    Raises:
        UnknownPluginError: If there is none of that name.
        PluginConflictError: If several have it.
        IncompatiblePluginError: If it needs a newer kappacore.
        BrokenPluginError: If the distribution in ``choice`` could not be loaded.
    """
    return ref_of(find(kind, choice), options)


def ref_of(info: PluginInfo, options: Mapping[str, Any]) -> PluginRef:
    """Return a plugin, as it is listed, with options."""
    return PluginRef(
        kind=info.kind,
        name=info.name,
        target=info.target,
        options=dict(options),
        distribution=f"{info.distribution} {info.version}".strip(),
        requires=info.requires,
        registered=info.registered,
    )


def as_ref(kind: str, choice: Any, options: Mapping[str, Any] | None = None) -> PluginRef:
    """Return a PluginRef for any way of choosing a plugin.

    Args:
        kind: One of `KINDS`.
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
) -> Any:
    """Register a target, or the name of one, in this process; without one, return a decorator."""
    check_name(name)
    if target is None:
        return partial(register, kind, name, scope=scope, override=override)
    is_name = isinstance(target, str)
    if not (is_name or callable(target)):
        raise InvalidOptionError(
            f"{target!r} cannot be registered as {KINDS[kind]} {name!r}: expected a class, a "
            "function or 'package.module:attribute'."
        )
    info = PluginInfo(
        kind=kind,
        name=name,
        target=check_target(target) if is_name else name_of(target),
        scope=scope or getattr(target, "scope", None) or "",
        summary="" if is_name else plain((target.__doc__ or "").strip().partition("\n")[0]),
        registered=None if is_name else target,
    )
    if kind == "backend":
        _check_scope(info)
    if not override:
        _refuse_clash(info)
    _in_code[kind, name] = info
    return target


def unregister(kind: str, name: str) -> None:
    """Remove a plugin registered in code; an installed one of that name can be chosen again."""
    if _in_code.pop((kind, name), None) is None:
        raise UnknownPluginError(
            f"No {KINDS[kind]} {name!r} was registered in this program. To switch off installed "
            "plugins, set KAPPACORE_DISABLE_PLUGINS=<distribution>."
        )


def _check_scope(info: PluginInfo) -> None:
    if not info.scope:
        raise InvalidOptionError(
            f"cache backend {info.name!r} ({info.target}) has no scope: give scope='process', "
            "'machine' or 'network' (who sees its entries), or set `scope` on the class."
        )
    check_scope(info.scope)
    declared = getattr(info.registered, "scope", None) or info.scope
    if declared != info.scope:
        raise InvalidOptionError(
            f"cache backend {info.name!r} is registered with scope={info.scope!r}, but its class "
            f"has {declared!r}; leave scope out or make them agree."
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
                f"To replace it with {info.target}, pass override=True; otherwise choose another "
                "name."
            )


def _in_worker() -> bool:
    """Return whether this is a worker, whose parent has checked the names already.

    A spawned worker runs the user's script before `parent_process` is set; until then only the
    attribute that multiprocessing itself checks marks it.
    """
    if multiprocessing.parent_process() is not None:
        return True
    return bool(getattr(multiprocessing.current_process(), "_inheriting", False))


def _same(one: PluginInfo, other: PluginInfo) -> bool:
    """Return whether both are one object, or have one name in one module (a cell run again)."""
    if one.registered is not None and one.registered is other.registered:
        return True
    return one.target == other.target and not one.target.startswith("<")


def _several(kind: str, name: str, claims: list[PluginInfo]) -> str:
    providers = " and ".join(info.provider for info in claims)
    choices = " or ".join(f"'{normalize(info.distribution)}:{name}'" for info in claims)
    return f"{KINDS[kind]} {name!r} is claimed by {providers}. Choose one: {choices}."


def _unknown(kind: str, choice: str) -> str:
    """Return the message for a name that no plugin has."""
    from kappacore.plugins.discovery import AUTOLOAD, autoload

    name = choice.rpartition(":")[2]
    plugins = all_plugins()
    lines = [f"There is no {KINDS[kind]} {choice!r}."]
    published = PUBLISHED[kind]
    known = {each for info in plugins if info.kind == kind for each in info.names}
    for close in difflib.get_close_matches(name, {*known, *published}, 1):
        if close != choice:
            lines.append(f"Did you mean {close!r}?")
        distribution = published.get(close)
        if distribution and distribution not in {normalize(i.distribution) for i in plugins}:
            lines.append(f"{close!r} comes with a plugin: `pip install {distribution}`.")
    lines.append(f"There are: {_listed(kind)}.")
    for info in plugins:
        if info.kind != kind and name in info.names:
            lines.append(f"{name!r} is a {KINDS[info.kind]}.")
        elif info.status == "broken":
            lines.append(f"{info.provider} could not be loaded: {info.reason}")
        elif info.status == "blocked":
            lines.append(f"{info.provider} is blocked: {info.reason}.")
    if not autoload():
        lines.append(f"{AUTOLOAD}=0 is set, so installed plugins are ignored.")
    return " ".join(lines)


def _raise_if_broken(kind: str, choice: str, distribution: str) -> None:
    for info in installed():
        if info.status == "broken" and normalize(info.distribution) == normalize(distribution):
            raise BrokenPluginError(
                f"{KINDS[kind]} {choice!r} cannot be used: loading {info.target} of "
                f"{info.provider} failed with {info.reason}"
            ) from info.error


def _listed(kind: str) -> str:
    return ", ".join(available(kind)) or "none"
