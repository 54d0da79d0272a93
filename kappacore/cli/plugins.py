"""The command ``kappacore plugins``."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kappacore._progress import progress_bar
from kappacore.cli.parsers import add_command
from kappacore.cli.streams import show
from kappacore.errors import KappaError

if TYPE_CHECKING:
    import argparse

    from kappacore.cli.parsers import Subparsers
    from kappacore.plugins.info import PluginInfo

_UNLISTED = ("error", "registered")  # fields that are not plain data


def add_plugins(subparsers: Subparsers) -> None:
    """Add the parser of ``kappacore plugins``."""
    parser = add_command(
        subparsers,
        "plugins",
        "list the plugins that can be chosen by name, or show the options of one",
        details=(
            "Plugins are cache backends, wrappers, sources and devices. Those that cannot be used "
            "are listed too, with the reason. Without NAME or --check nothing is imported."
        ),
        examples="""
            kappacore plugins
            kappacore plugins shared          its options, with their defaults
            kappacore plugins --check
        """,
        exit_codes="0 done; 1 NAME or, with --check, any plugin cannot be used; 2 wrong usage.",
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?",
        help="show this plugin's options; DISTRIBUTION:NAME where several have the name",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument(
        "--check",
        action="store_true",
        help="import every target; exit with 1 if anything cannot be used",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from kappacore.cli.plugin_details import Details, as_text, details_of
    from kappacore.plugins.registry import all_plugins, find_all

    shown: list[Details] = []
    with contextlib.redirect_stdout(sys.stderr):  # plugins may print while they are imported
        with progress_bar("Looking for plugins", None):
            infos = all_plugins() if args.name is None else find_all(args.name)
        infos = sorted(infos, key=lambda info: (info.kind == "", info.kind, info.name))
        if args.check or args.name:
            infos = _all_checked(infos)
        if args.name:
            shown = [details_of(info) for info in infos]
    if args.json:
        rows = [_row(info) for info in infos]
        for row, details in zip(rows, shown, strict=False):
            row["options"] = details.as_data()
        print(json.dumps(rows, indent=2))
    elif args.name:
        show("\n\n".join(as_text(details) for details in shown))
    else:
        show(_as_table(infos))
    # Plugins that were blocked on purpose are fine, unless one is asked for.
    fine = ("ok",) if args.name else ("ok", "blocked")
    wrong = any(info.status not in fine for info in infos)
    return 1 if (args.check or args.name) and wrong else 0


def _row(info: PluginInfo) -> dict[str, Any]:
    return {name: value for name, value in vars(info).items() if name not in _UNLISTED}


def _all_checked(infos: list[PluginInfo]) -> list[PluginInfo]:
    """Return plugins with their status after importing their targets."""
    checked = []
    with progress_bar("Importing plugins", len(infos), "plugin", leave=False) as bar:
        for info in infos:
            checked.append(_checked(info) if info.status == "ok" else info)
            bar.update(1)
    return checked


def _checked(info: PluginInfo) -> PluginInfo:
    """Return a plugin with its status after importing its target."""
    from kappacore.plugins.registry import ref_of

    try:
        target = ref_of(info, {}).load()
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
