"""The command ``kappacore``.

Each subcommand is one function that adds its parser and one that runs it; what it works with is
imported when it runs. Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING

import kappacore
from kappacore.cli import cache as _cache_cli
from kappacore.cli.stage import add_stage
from kappacore.errors import KappaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[[argparse.Namespace], int]
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 something is wrong, 2 usage."""
    args = _parser().parse_args(argv)
    run: Command = args.run
    try:
        code = run(args)
        sys.stdout.flush()
    except KappaError as error:
        print(f"kappacore: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `kappacore plugins | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kappacore", description=kappacore.__doc__)
    parser.add_argument("--version", action="version", version=f"kappacore {kappacore.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_plugins(subparsers)
    _cache_cli.add_cache(subparsers)
    add_stage(subparsers)
    return parser


def _add_plugins(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "plugins",
        help="list the cache backends, wrappers and sources that can be chosen by name",
        description=(
            "List the cache backends, wrappers and sources that can be chosen by name, and the "
            "plugins that cannot be used and why."
        ),
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument(
        "--check",
        action="store_true",
        help="import every target; exit with 1 if anything cannot be used",
    )
    parser.set_defaults(run=_plugins)


def _plugins(args: argparse.Namespace) -> int:
    from kappacore.cli import plugins as _report

    with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no part of the list
        infos = _report.checked() if args.check else _report.listed()
    if args.json:
        print(json.dumps([_report.as_dict(info) for info in infos], indent=2))
    else:
        print(_report.as_table(infos))
    return 1 if args.check and any(_report.is_wrong(info) for info in infos) else 0
