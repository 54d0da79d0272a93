"""What ``kappacore plugins`` shows."""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kappacore import plugins
from kappacore.errors import KappaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kappacore.plugins import PluginInfo

_FIELDS = (
    "kind",
    "name",
    "distribution",
    "version",
    "target",
    "scope",
    "status",
    "summary",
    "reason",
    "aliases",
    "requires",
)


def listed() -> list[PluginInfo]:
    """Return every plugin in the order in which it is shown; imports no target."""
    return sorted(plugins.all_plugins(), key=lambda info: (info.kind == "", info.kind, info.name))


def checked() -> list[PluginInfo]:
    """Return every plugin, importing the targets of those that are ok so far."""
    return [_checked(info) if info.status == "ok" else info for info in listed()]


def _checked(info: PluginInfo) -> PluginInfo:
    chosen = f"{info.distribution}:{info.name}" if info.distribution else info.name
    try:
        target = plugins.ref(info.kind, chosen, {}).load()
    except KappaError as error:
        return replace(info, status="broken", reason=str(error), error=error)
    scope = getattr(target, "scope", info.scope)
    if info.scope and scope != info.scope:
        reason = f"is listed with scope {info.scope!r}, but {info.target} says {scope!r}"
        return replace(info, status="broken", reason=reason)
    return info


def is_wrong(info: PluginInfo) -> bool:
    """Tell whether ``--check`` should complain; a plugin that was blocked on purpose is fine."""
    return info.status not in ("ok", "blocked")


def as_dict(info: PluginInfo) -> dict[str, Any]:
    """Return a plugin as plain data."""
    return {field: getattr(info, field) for field in _FIELDS}


def as_table(infos: Iterable[PluginInfo]) -> str:
    """Return the plugins as text: a row of short columns each, and what is long below it."""
    header = ("KIND", "NAME", "DISTRIBUTION", "SCOPE", "STATUS")
    rows = [
        (
            info.kind or "-",
            info.name,
            f"{info.distribution} {info.version}".strip() or "-",
            info.scope or "-",
            info.status,
        )
        for info in infos
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [_row(header, widths)]
    for info, row in zip(infos, rows, strict=True):
        lines.append(_row(row, widths))
        lines += _details(info)
    return "\n".join(lines)


def _row(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _details(info: PluginInfo) -> list[str]:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    texts = [f"{info.target}  {info.summary}".rstrip()]
    if info.aliases:
        texts.append(f"also called {', '.join(info.aliases)}")
    if info.reason:
        texts.append(f"{info.status}: {' '.join(info.reason.split())}")
    if not width:  # a file or a pipe: one line each, for grep
        return [f"    {text}" for text in texts]
    return [
        line
        for text in texts
        for line in textwrap.wrap(
            text,
            max(width, 40),
            initial_indent="    ",
            subsequent_indent="      ",
            break_on_hyphens=False,
        )
    ]
