"""The parsers of commands: what a command does, its options, an example, its exit codes."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any, NoReturn

from kappacore._printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_WIDTH = 88


class Parser(argparse.ArgumentParser):
    """Shows arguments, which a shell may have made of the names of files, without what acts."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves texts as they are laid out, and gives the options' column room."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=28, **options)


def add_command(
    subparsers: Subparsers,
    name: str,
    summary: str,
    *,
    details: str = "",
    examples: str,
    exit_codes: str = "",
    parents: Sequence[argparse.ArgumentParser] = (),
) -> argparse.ArgumentParser:
    """Add the parser of a command.

    Its function is set by ``set_defaults(run=…)``. Wrong usage that only shows later is reported
    by ``args.usage(text)``, which exits with 2.

    Args:
        subparsers: Where to add it.
        name: The command's name.
        summary: What it does, in a line that begins with a verb.
        details: More about it, in sentences.
        examples: Commands, a line each.
        exit_codes: What its exit codes mean, where that is more than "done" and "failed".
        parents: Parsers whose options it takes.
    """
    text = f"{summary[0].upper()}{summary[1:]}. {details}".strip()
    epilog = format_examples(examples)
    if exit_codes:
        epilog += "\n\n" + textwrap.fill(f"exit codes: {exit_codes}", _WIDTH)
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=textwrap.fill(text, _WIDTH, break_on_hyphens=False),
        epilog=epilog,
        formatter_class=HelpFormatter,
        parents=list(parents),
    )
    parser.set_defaults(usage=parser.error)
    return parser


def format_examples(examples: str) -> str:
    """Return commands as the end of a help text shows them."""
    return "examples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  ")
