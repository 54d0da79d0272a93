"""The command ``kappacore plugins``."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

from kappacore.errors import KappaError

if TYPE_CHECKING:
    import argparse

    from kappacore.plugins.info import PluginInfo

_UNLISTED = ("error", "registered")  # fields that are not plain data


def add_plugins(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``kappacore plugins``."""
    parser = subparsers.add_parser(
        "plugins",
        help="list the cache backends, wrappers, sources and devices that can be chosen by name",
        description=(
            "List the cache backends, wrappers, sources and devices that can be chosen by name, "
            "and the plugins that cannot be used, with the reason."
        ),
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument(
        "--check",
        action="store_true",
        help="import every target; exit with 1 if anything cannot be used",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from kappacore.plugins.registry import all_plugins

    with contextlib.redirect_stdout(sys.stderr):  # plugins may print while they are imported
        infos = sorted(all_plugins(), key=lambda info: (info.kind == "", info.kind, info.name))
        if args.check:
            infos = [_checked(info) if info.status == "ok" else info for info in infos]
    if args.json:
        rows = [{k: v for k, v in vars(info).items() if k not in _UNLISTED} for info in infos]
        print(json.dumps(rows, indent=2))
    else:
        print(_as_table(infos))
    # Plugins that were blocked on purpose are fine.
    wrong = any(info.status not in ("ok", "blocked") for info in infos)
    return 1 if args.check and wrong else 0


def _checked(info: PluginInfo) -> PluginInfo:
    """Return a plugin with its status after importing its target."""
    from kappacore.plugins.registry import ref

    chosen = f"{info.distribution}:{info.name}" if info.distribution else info.name
    try:
        target = ref(info.kind, chosen, {}).load()
    except KappaError as error:
        return replace(info, status="broken", reason=str(error), error=error)
    scope = getattr(target, "scope", info.scope)
    if info.scope and scope != info.scope:
        reason = f"is listed with scope {info.scope!r}, but {info.target} has {scope!r}"
        return replace(info, status="broken", reason=reason)
    return info


def _as_table(infos: list[PluginInfo]) -> str:
    """Return the plugins as text: a row of short columns each, and longer texts below it."""
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
    lines = []
    for row, details in zip([header, *rows], [[], *map(_details, infos)], strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines += ["  ".join(cells).rstrip(), *details]
    return "\n".join(lines)


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
