"""The caches that installed backends keep: finding, removing and describing them."""

from __future__ import annotations

import fnmatch
import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kappacore import plugins
from kappacore.caching.backends.base import BackendInfo, CacheBackend, backend_class
from kappacore.errors import (
    BrokenPluginError,
    InvalidOptionError,
    KappaError,
    UnknownOptionError,
)
from kappacore.machine.folders import prune, user_folder
from kappacore.machine.lease import collect, empty_trash
from kappacore.machine.locks import is_supported
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kappacore.plugins import PluginRef

    Found = tuple[PluginRef, BackendInfo]

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_HEADER = ("NAMESPACE", "DATASET", "ENTRIES", "SIZE", "USERS", "LAST USE", "KEPT", "BACKEND")


def backend(name: str, options: Mapping[str, Any]) -> PluginRef:
    """Choose a backend by name.

    Raises:
        InvalidOptionError: If it does not list its namespaces, or needs an option that is missing.
        UnknownOptionError: If it has no such option.
        KappaError: If it cannot be used.
    """
    ref = plugins.as_ref("backend", name, options)
    try:
        cls = backend_class(ref)
    except (InvalidOptionError, UnknownOptionError) as error:
        raise type(error)(f"{error} Give them as --opt KEY=VALUE.") from error
    if not _defines(cls, "namespaces"):
        raise InvalidOptionError(
            f"The cache backend {name!r} ({cls.__qualname__}, scope {cls.scope!r}) does not "
            f"list its namespaces: it defines no namespaces(). Leave --backend out to see the "
            f"caches of this machine, or name another one."
        )
    return ref


def backends_of_machine(complain: Callable[[str], None]) -> list[PluginRef]:
    """Choose all backends that share entries within the machine and list them.

    Args:
        complain: Called with the reason for each backend that cannot be used.
    """
    found = []
    for info in plugins.all_plugins():
        if info.kind == "backend" and info.status == "ok" and info.scope == "machine":
            try:
                ref = plugins.ref("backend", info.name, {})
                if _defines(ref.load(), "namespaces"):
                    backend_class(ref)  # checks it
                    found.append(ref)
            except InvalidOptionError as error:  # an option without a default
                complain(f"{error} Give it: --backend {info.name} --opt …=…")
            except KappaError as error:
                complain(str(error))
    return found


def _defines(cls: Any, method: str) -> bool:
    own = getattr(getattr(cls, method, None), "__func__", None)
    return own is not None and own is not getattr(CacheBackend, method).__func__


def _call(ref: PluginRef, method: str, *arguments: str) -> Any:
    """Call a class method of a backend; whatever it raises becomes a KappaError."""
    try:
        found = getattr(backend_class(ref), method)(*arguments, **ref.options)
        if method != "remove":
            found = list(found)
            kind = BackendInfo if method == "namespaces" else str
            if wrong := [each for each in found if not isinstance(each, kind)]:
                raise BrokenPluginError(
                    f"The cache backend {ref.name!r} answered {wrong[0]!r:.200} to {method}; "
                    f"expected each entry to be a {kind.__name__}."
                )
        return found
    except KappaError:
        raise
    except Exception as error:
        raise BrokenPluginError(
            f"The cache backend {ref.name!r} failed: {type(error).__name__}: {error}"
        ) from error


def find(ref: PluginRef, patterns: Sequence[str] = ("*",)) -> list[BackendInfo]:
    """Return the namespaces of a backend that match one of the patterns."""
    infos: list[BackendInfo] = _call(ref, "namespaces")
    return [info for info in infos if any(matches(info, pattern) for pattern in patterns)]


def matches(info: BackendInfo, pattern: str) -> bool:
    """Return whether a pattern with ``*`` and ``?`` matches a namespace.

    It may match the whole name, or the part that the user gave as ``namespace=``.
    """
    names = (info.namespace, info.namespace.rsplit(".", 4)[0])
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def clear(ref: PluginRef, info: BackendInfo) -> tuple[bool, str]:
    """Remove a namespace; return whether its entries are gone, and what was done."""
    cls = backend_class(ref)
    if not _defines(cls, "remove"):
        raise BrokenPluginError(
            f"The cache backend {ref.name!r} ({cls.__qualname__}) cannot remove namespaces: it "
            f"defines no remove()."
        )
    removed = _call(ref, "remove", info.namespace)
    if not info.users:
        return True, f"{info.namespace}: {'removed' if removed else 'already gone'}"
    if removed:
        return True, f"{info.namespace}: emptied, because it is in use"
    return False, f"{info.namespace}: in use, and of a form that cannot be emptied"


def collects(ref: PluginRef) -> bool:
    """Return whether a backend removes anything in `gc`: the storage of others does it itself."""
    return _defines(backend_class(ref), "collect")


def gc(ref: PluginRef) -> list[str]:
    """Remove the namespaces that are neither in use nor kept; return their names."""
    removed: list[str] = _call(ref, "collect")
    return removed


def gc_counters() -> None:
    """Remove what killed processes left that belongs to no backend."""
    if is_supported():
        collect(user_folder("stats", make=False))
        lifetimes = user_folder("lifetimes", make=False)  # its folders: with what they are about
        empty_trash(lifetimes)
        prune(lifetimes)


# ---- for people and for programs


def as_dict(ref: PluginRef, info: BackendInfo) -> dict[str, Any]:
    """Return a namespace as plain data; ``kept_until`` may be ``"forever"``."""
    forever = {"kept_until": "forever"} if info.kept_until == math.inf else {}
    return {"backend": ref.name, **asdict(info), "entries": _entries(info), **forever}


def as_table(found: Iterable[Found]) -> str:
    """Return namespaces as text, a row each."""
    rows = [_HEADER, *(_row(ref, info) for ref, info in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def as_lines(ref: PluginRef, info: BackendInfo) -> str:
    """Return all that is known of a namespace as text, a line for each fact."""
    _, dataset, entries, size, users, used, kept, _ = _row(ref, info)
    limit = "no limit" if info.capacity is None else f"limit {format_size(info.capacity)}"
    lines = {
        "namespace": info.namespace,
        "dataset": dataset,
        "entries": entries,
        "size": f"{size}, {limit}" + (", full" if info.full else ""),
        "users": users,
        "last use": used + _date(info.last_used),
        "kept": kept + _date(info.kept_until),
        "where": info.where,
        "backend": ref.name,
        **({"advice": info.advice} if info.advice else {}),
    }
    return "\n".join(f"{name:<10} {value}" for name, value in lines.items())


def _row(ref: PluginRef, info: BackendInfo) -> tuple[str, ...]:
    now = time.time()
    if info.users:
        used = "now"
    else:
        used = "?" if info.last_used is None else f"{_duration(now - info.last_used)} ago"
    if info.kept_until is None:
        kept = "?"
    elif info.kept_until == math.inf:
        kept = "until cleared"
    else:
        kept = f"{_duration(info.kept_until - now)} more" if info.kept_until > now else "no"
    return (
        info.namespace,
        info.dataset or "?",
        str(_entries(info)),
        format_size(info.bytes),
        "?" if info.users is None else str(info.users),
        used,
        kept,
        ref.name,
    )


def _entries(info: BackendInfo) -> int:
    """Return the number of entries without the header that names their dataset."""
    return max(0, info.entries - bool(info.dataset))


def _duration(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _date(moment: float | None) -> str:
    if not moment or moment == math.inf:
        return ""
    return time.strftime(" (%Y-%m-%d %H:%M)", time.localtime(moment))
