"""The command ``kappacore cache``."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from kappacore.caching.inventory import Found
    from kappacore.plugins import PluginRef

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

Answer = TypeVar("Answer")


def add_cache(subparsers: Subparsers) -> None:
    """Add the subcommand ``cache`` and its own subcommands."""
    parser = subparsers.add_parser(
        "cache",
        help="list, clear and tidy up caches that outlive their processes",
        description="List, clear and tidy up caches that outlive their processes.",
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
        help="an option of that backend, such as path=/local/cache; may be repeated",
    )
    common.add_argument("--json", action="store_true", help="print a JSON list")
    names = "a cache's namespace, or the name given as namespace=; may contain * and ?"
    for name, run, text in (
        ("ls", _cache_ls, "list caches"),
        ("info", _cache_info, "show all that is known of caches; exit with 1 if one is missing"),
        (
            "clear",
            _cache_clear,
            "remove caches, also those to be kept; exit with 1 if one is missing",
        ),
        ("gc", _cache_gc, "remove what nobody uses and nobody wants kept, as after a kill"),
    ):
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        if name != "gc":
            command.add_argument("names", metavar="NAMESPACE", nargs="*", help=names)
        if name == "clear":
            command.add_argument("--all", action="store_true", help="all caches of the backend")
        command.set_defaults(run=run, usage=command.error)


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form key=value")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _cache_ls(args: argparse.Namespace) -> int:
    from kappacore.caching import inventory

    found, code = _show(args, inventory.as_table)
    if not found and not args.json:
        _complain(_none(args.names))
    return code


def _cache_info(args: argparse.Namespace) -> int:
    from kappacore.caching import inventory

    found, code = _show(
        args, lambda found: "\n\n".join(inventory.as_lines(*each) for each in found)
    )
    return _name_missing(args, found) or code


def _cache_clear(args: argparse.Namespace) -> int:
    from kappacore.caching import inventory

    if bool(args.names) == args.all:
        args.usage("name the caches to remove, or --all")
    found, code = _find(args)
    done = []
    for ref, info in found:
        with contextlib.redirect_stdout(sys.stderr):
            ok, text = inventory.clear(ref, info)
        if not ok:
            code = 1
            _complain(text)
            continue
        done.append({"backend": ref.name, "namespace": info.namespace})
        if not args.json:
            print(text)
    if args.json:
        _print_json(done)
    return code if args.all else _name_missing(args, found) or code


def _cache_gc(args: argparse.Namespace) -> int:
    from kappacore.caching import inventory

    removed, code = _ask(args, inventory.gc)
    inventory.gc_counters()
    if args.json:
        _print_json([{"backend": ref.name, "namespace": name} for ref, name in removed])
    else:
        for _, name in removed:
            print(f"{name}: removed")
        if not removed:
            _complain("there is nothing to remove")
    return code


def _show(
    args: argparse.Namespace, as_text: Callable[[list[Found]], str]
) -> tuple[list[Found], int]:
    """Print the caches that were asked for; return them, and the exit code so far."""
    from kappacore.caching import inventory

    found, code = _find(args)
    if args.json:
        _print_json([inventory.as_dict(ref, info) for ref, info in found])
    elif found:
        print(as_text(found))
    return found, code


def _find(args: argparse.Namespace) -> tuple[list[Found], int]:
    from kappacore.caching import inventory

    return _ask(args, lambda ref: inventory.find(ref, args.names or ["*"]))


def _ask(
    args: argparse.Namespace, question: Callable[[PluginRef], list[Answer]]
) -> tuple[list[tuple[PluginRef, Answer]], int]:
    """Return what the backends answer, each with its backend, and the exit code so far."""
    from kappacore.caching import inventory
    from kappacore.errors import KappaError

    if args.opt and args.backend is None:
        args.usage("--opt needs --backend")
    problems: list[str] = []
    answers: list[tuple[PluginRef, Answer]] = []
    with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints is no part of the list
        if args.backend is not None:
            ref = inventory.backend(args.backend, dict(args.opt))
            return [(ref, answer) for answer in question(ref)], 0
        for ref in inventory.backends_of_machine(problems.append):
            try:
                answers += [(ref, answer) for answer in question(ref)]
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
    if found and not missing:
        return 0
    _complain(_none(missing))
    return 1


def _none(names: list[str]) -> str:
    return f"there is no cache {', '.join(map(repr, names))}".rstrip()


def _complain(text: str) -> None:
    print(f"kappacore: {text}", file=sys.stderr)


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=2))
