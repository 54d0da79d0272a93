"""The command ``kappacore cache``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from kappacore._progress import progress_bar
from kappacore.cli.parsers import add_command
from kappacore.errors import KappaError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.inventory import Found
    from kappacore.cli.parsers import Subparsers
    from kappacore.plugins import PluginRef

Answer = TypeVar("Answer")


_GONE = "0 done; 1 a backend failed, or there is no cache NAMESPACE; 2 wrong usage."


def add_cache(subparsers: Subparsers) -> None:
    """Add the subcommand ``cache`` and its own subcommands."""
    parser = add_command(
        subparsers,
        "cache",
        "list, clear and tidy up caches that outlive their processes",
        examples="""
            kappacore cache ls
            kappacore cache info in1k
            kappacore cache clear in1k
            kappacore cache gc
        """,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--backend",
        metavar="NAME",
        help="the cache backend (default: all that keep entries on this machine)",
    )
    common.add_argument(
        "--opt",
        metavar="KEY=VALUE",
        type=_option,
        action="append",
        default=[],
        help="an option of that backend, such as path=/local/cache; may be repeated. "
        "`kappacore plugins NAME` lists a backend's options",
    )
    common.add_argument("--json", action="store_true", help="print a JSON list")
    ls = add_command(
        commands,
        "ls",
        "list caches: dataset, entries, size, users, last use, and how long they are kept",
        examples="""
            kappacore cache ls
            kappacore cache ls 'in1k*' --json
            kappacore cache ls --backend redis --opt url=redis://cache:6379
        """,
        exit_codes=_GONE,
        parents=[common],
    )
    info = add_command(
        commands,
        "info",
        "show caches in detail: also their limit, folder or server, and advice",
        examples="kappacore cache info in1k",
        exit_codes=_GONE,
        parents=[common],
    )
    clear = add_command(
        commands,
        "clear",
        "remove caches, also those that are kept",
        details="A cache in use is emptied, and filled anew by those who use it.",
        examples="""
            kappacore cache clear in1k
            kappacore cache clear --all
        """,
        exit_codes=_GONE,
        parents=[common],
    )
    gc = add_command(
        commands,
        "gc",
        "remove caches that are neither in use nor kept, as killed processes leave them",
        examples="kappacore cache gc",
        exit_codes="0 done, also if there was nothing to do; 1 a backend failed; 2 wrong usage.",
        parents=[common],
    )
    names = "a cache's namespace, or the name given as namespace=; may contain * and ?"
    for command in (ls, info, clear):
        command.add_argument("names", metavar="NAMESPACE", nargs="*", help=names)
    clear.add_argument("--all", action="store_true", help="all caches of the backend")
    for command, run in ((ls, _ls), (info, _info), (clear, _clear), (gc, _gc)):
        command.set_defaults(run=run)


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _ls(args: argparse.Namespace) -> int:
    from kappacore.caching import inventory

    return _show(args, inventory.as_table)


def _info(args: argparse.Namespace) -> int:
    from kappacore.caching import inventory

    return _show(args, lambda found: "\n\n".join(inventory.as_lines(*each) for each in found))


def _clear(args: argparse.Namespace) -> int:
    from kappacore.caching import inventory

    if bool(args.names) == args.all:
        args.usage("name the caches to remove, or --all")
    found, code = _find(args)
    done = []
    with progress_bar("Removing caches", len(found), "cache", leave=False) as bar:
        for ref, info in found:
            with contextlib.redirect_stdout(sys.stderr):
                ok, text = inventory.clear(ref, info)
            bar.clear()
            if not ok:
                code = 1
                _complain(text)
            else:
                done.append({"backend": ref.name, "namespace": info.namespace})
                if not args.json:
                    print(text)
            bar.update(1)
    if args.json:
        _print_json(done)
    return _name_missing(args, found) or code


def _gc(args: argparse.Namespace) -> int:
    from kappacore.caching import inventory

    removed, code = _ask(args, inventory.gc, "Removing what nobody uses from")
    inventory.gc_counters()
    if args.json:
        _print_json([{"backend": ref.name, "namespace": name} for ref, name in removed])
    else:
        for _, name in removed:
            print(f"{name}: removed")
        if not removed:
            _complain(_why_none(args))
    return code


def _why_none(args: argparse.Namespace) -> str:
    """Say why nothing was removed."""
    from kappacore.caching import inventory

    if args.backend and not inventory.collects(inventory.backend(args.backend, dict(args.opt))):
        return f"the storage of {args.backend!r} removes by itself what is not kept"
    return "there is nothing to remove"


def _show(args: argparse.Namespace, as_text: Callable[[list[Found]], str]) -> int:
    """Print the caches that were asked for; return the exit code."""
    from kappacore.caching import inventory

    found, code = _find(args)
    if args.json:
        _print_json([inventory.as_dict(ref, info) for ref, info in found])
    elif found:
        print(as_text(found))
    return _name_missing(args, found) or code


def _find(args: argparse.Namespace) -> tuple[list[Found], int]:
    from kappacore.caching import inventory

    names = args.names or ["*"]
    return _ask(args, lambda ref: inventory.find(ref, names), "Listing the caches of")


def _ask(
    args: argparse.Namespace, question: Callable[[PluginRef], list[Answer]], doing: str
) -> tuple[list[tuple[PluginRef, Answer]], int]:
    """Return what the backends answer, each with its backend, and the exit code so far."""
    from kappacore.caching import inventory

    if args.opt and args.backend is None:
        args.usage("--opt needs --backend")
    problems: list[str] = []
    answers: list[tuple[PluginRef, Answer]] = []

    def ask(ref: PluginRef) -> None:
        with progress_bar(f"{doing} {ref.name!r}", None):
            answers.extend((ref, answer) for answer in question(ref))

    with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no part of the list
        if args.backend is not None:
            ask(inventory.backend(args.backend, dict(args.opt)))
            return answers, 0
        for ref in inventory.backends_of_machine(problems.append):
            try:
                ask(ref)
            except KappaError as error:  # noqa: PERF203 - one that fails does not hide the others
                problems.append(str(error))
    for problem in problems:
        _complain(problem)
    return answers, 1 if problems else 0


def _name_missing(args: argparse.Namespace, found: list[Found]) -> int:
    """Say which names there are no caches for; return the exit code for that."""
    from kappacore.caching import inventory

    missing = [
        name for name in args.names if not any(inventory.matches(info, name) for _, info in found)
    ]
    if missing:
        _complain(f"there is no cache {', '.join(map(repr, missing))}")
        return 1
    if not found:
        _complain("there are no caches")
    return 0


def _complain(text: str) -> None:
    print(f"kappacore: {text}", file=sys.stderr)


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=2))
