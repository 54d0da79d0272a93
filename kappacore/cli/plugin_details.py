"""One plugin in detail, for ``kappacore plugins NAME``: what it is, and its options."""

from __future__ import annotations

import shutil
import sys
import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kappacore.plugins.info import KINDS
from kappacore.plugins.options import Option, options_of

if TYPE_CHECKING:
    from kappacore.plugins.info import PluginInfo


@dataclass(frozen=True)
class Details:
    """A plugin and its options.

    Attributes:
        info: The plugin.
        options: Its options; None where they are unknown.
    """

    info: PluginInfo
    options: list[Option] | None

    def as_data(self) -> list[dict[str, Any]] | None:
        """Return the options as plain data."""
        return None if self.options is None else [asdict(option) for option in self.options]


def details_of(info: PluginInfo) -> Details:
    """Return a plugin with its options, from the signature of its target."""
    from kappacore.plugins.registry import ref_of

    if info.status != "ok":
        return Details(info, None)
    return Details(info, options_of(info.kind, ref_of(info, {}).load()))


def as_text(details: Details) -> str:
    """Return what is known of a plugin as text."""
    info = details.info
    scope = f", scope {info.scope}" if info.scope else ""
    lines = [
        f"{KINDS.get(info.kind, 'plugin')} {info.name!r} of {info.provider}{scope}",
        *_indented(4, info.summary, info.target),
    ]
    if info.aliases:
        lines += _indented(4, f"also called {', '.join(info.aliases)}")
    if info.requires:
        lines += _indented(4, f"needs {', '.join(info.requires)}")
    if info.reason:
        lines += _indented(4, f"{info.status}: {' '.join(info.reason.split())}")
    if info.status != "ok":
        return "\n".join(lines)
    if not details.options:
        what = "unknown" if details.options is None else "none"
        return "\n".join([*lines, "", f"options: {what}"])
    lines += ["", "options:"]
    for option in details.options:
        lines += [*_indented(4, _declared(option)), *_indented(8, option.text)]
    return "\n".join(lines)


def _declared(option: Option) -> str:
    """Return an option as a signature has it."""
    typed = f"{option.name}: {option.type}" if option.type else option.name
    if option.required:
        return f"{typed}  (required)"
    return typed if option.default is None else f"{typed} = {option.default}"


def _indented(indent: int, *texts: str) -> list[str]:
    """Return texts as lines that fit the terminal; one line each in a file or a pipe."""
    space = " " * indent
    if not sys.stdout.isatty():
        return [space + text for text in texts if text]
    width = max(shutil.get_terminal_size().columns, 40)
    return [
        line
        for text in texts
        for line in textwrap.wrap(
            text, width, initial_indent=space, subsequent_indent=space, break_on_hyphens=False
        )
    ]
