"""What ``kappacore cache`` shows and does, through whatever backends are installed."""

from __future__ import annotations

import fnmatch
import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kappacore import plugins
from kappacore.caching.backends.base import CacheBackend, backend_class
from kappacore.errors import BrokenPluginError, InvalidOptionError, KappaError
from kappacore.machine.folders import user_folder
from kappacore.machine.lease import collect
from kappacore.machine.locks import is_supported
from kappacore.sizes import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kappacore.caching.backends.base import BackendInfo

__all__ = [
    "Place",
    "as_dict",
    "as_lines",
    "as_table",
    "clear",
    "find",
    "gc",
    "gc_counters",
    "matches",
    "place",
    "places",
]

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))
_HEADER = ("NAMESPACE", "DATASET", "ENTRIES", "SIZE", "USERS", "LAST USE", "KEPT", "BACKEND")


@dataclass(frozen=True)
class Place:
    """A backend with the options that say where its entries are."""

    name: str
    backend: type[CacheBackend]
    options: Mapping[str, Any]

    def call(self, method: str, *arguments: str) -> Any:
        """Call one of the backend's class methods; whatever it raises becomes a KappaError."""
        try:
            found = getattr(self.backend, method)(*arguments, **self.options)
            return list(found) if method == "namespaces" else found
        except KappaError:
            raise
        except Exception as error:
            raise BrokenPluginError(
                f"The cache backend {self.name!r} failed: {type(error).__name__}: {error}"
            ) from error


Found = tuple[Place, "BackendInfo"]


def place(backend: str, options: Mapping[str, Any]) -> Place:
    """Choose a backend by name.

    Raises:
        InvalidOptionError: if it has nothing to list.
        KappaError: if it cannot be used.
    """
    ref = plugins.as_ref("backend", backend, options)
    cls = backend_class(ref)
    if not _defines(cls, "namespaces"):
        raise InvalidOptionError(
            f"The cache backend {backend!r} ({cls.__qualname__}, scope {cls.scope!r}) does not "
            f"list its namespaces: it defines no namespaces(). Leave --backend out to see the "
            f"caches of this machine, or name another one."
        )
    return Place(ref.name, cls, options)


def places(complain: Callable[[str], None]) -> list[Place]:
    """Choose all backends that share entries within the machine and list them.

    Args:
        complain: told of each backend that cannot be asked.
    """
    found = []
    for info in plugins.all_plugins():
        if info.kind == "backend" and info.status == "ok" and info.scope == "machine":
            try:
                ref = plugins.ref("backend", info.name, {})
                if _defines(ref.load(), "namespaces"):
                    found.append(Place(ref.name, backend_class(ref), {}))
            except InvalidOptionError as error:  # it must be told where its entries are
                complain(f"{error} Give it: --backend {info.name} --opt …=…")
            except KappaError as error:
                complain(str(error))
    return found


def _defines(cls: Any, method: str) -> bool:
    own = getattr(getattr(cls, method, None), "__func__", None)
    return own is not None and own is not getattr(CacheBackend, method).__func__


def find(at: Place, patterns: Sequence[str] = ("*",)) -> list[BackendInfo]:
    """Return the namespaces of a backend that match one of the patterns."""
    infos: list[BackendInfo] = at.call("namespaces")
    return [info for info in infos if any(matches(info, pattern) for pattern in patterns)]


def matches(info: BackendInfo, pattern: str) -> bool:
    """Return whether a namespace has a name, with or without ``*`` and ``?``.

    That is the whole one, or the one that the user gave as ``namespace=``.
    """
    names = (info.namespace, info.namespace.rsplit(".", 4)[0])
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def clear(at: Place, info: BackendInfo) -> tuple[bool, str]:
    """Remove a namespace; return whether it is so, and what became of it."""
    if not _defines(at.backend, "remove"):
        raise InvalidOptionError(
            f"The cache backend {at.name!r} ({at.backend.__qualname__}) cannot remove "
            f"namespaces: it defines no remove()."
        )
    if not at.call("remove", info.namespace):
        if info.users:
            return False, f"{info.namespace}: in use, and of a form that cannot be emptied"
        return True, f"{info.namespace}: it is gone already"
    if info.users:
        return True, f"{info.namespace}: emptied, because it is in use"
    return True, f"{info.namespace}: removed"


def gc(at: Place) -> list[str]:
    """Remove what nobody uses and nobody wants kept; return the names."""
    removed: list[str] = at.call("collect")
    return removed


def gc_counters() -> None:
    """Remove counters that killed processes have left; they belong to no backend."""
    if is_supported():
        collect(user_folder("stats", make=False))


# ---- for people and for programs


def as_dict(at: Place, info: BackendInfo) -> dict[str, Any]:
    """Return a namespace as plain data; ``kept_until`` may be ``"forever"``."""
    forever = {"kept_until": "forever"} if info.kept_until == math.inf else {}
    return {"backend": at.name, **asdict(info), "entries": _entries(info), **forever}


def as_table(found: Iterable[Found]) -> str:
    """Return namespaces as text, a row each."""
    now = time.time()
    rows = [_HEADER, *(_row(at, info, now) for at, info in found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def as_lines(at: Place, info: BackendInfo) -> str:
    """Return all that is known of a namespace as text, a line each."""
    now = time.time()
    _, dataset, entries, size, users, used, kept, _ = _row(at, info, now)
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
        "backend": at.name,
        **({"advice": info.advice} if info.advice else {}),
    }
    return "\n".join(f"{name:<10} {value}" for name, value in lines.items())


def _row(at: Place, info: BackendInfo, now: float) -> tuple[str, ...]:
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
        at.name,
    )


def _entries(info: BackendInfo) -> int:
    """Return the number of entries without the record that says whose they are."""
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
