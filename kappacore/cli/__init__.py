"""The command ``kappacore``.

Each subcommand is a file with a function that adds its parser. What a subcommand works with is
imported when it runs. Results go to standard output, all else to standard error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import kappacore
from kappacore.cli.cache import add_cache
from kappacore.cli.new_plugin import add_new_plugin
from kappacore.cli.parsers import HelpFormatter, Parser, format_examples
from kappacore.cli.plugins import add_plugins
from kappacore.cli.stage import add_stage
from kappacore.cli.streams import complain, give_up_output, prepare_streams
from kappacore.errors import InvalidOptionError, KappaError, UnknownOptionError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

_DESCRIPTION = "A plugin framework for PyTorch datasets that makes slow data fast."
_EPILOG = """

exit codes: 0 done; 1 something failed, or is not there; 2 wrong usage; 130 interrupted.
`kappacore COMMAND --help` explains a command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 something is wrong, 130 interrupted.

    Wrong usage ends the process with 2: what the parser refuses, and options that cannot be used.
    """
    prepare_streams()
    args, unknown = make_parser().parse_known_args(argv)
    if unknown:  # here, because the parser would show the usage of `kappacore` itself
        args.usage(f"unrecognized arguments: {' '.join(unknown)}")
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        code = run(args)
        sys.stdout.flush()
    except (InvalidOptionError, UnknownOptionError) as error:
        args.usage(str(error))
        raise  # which it never comes to: the parser exits
    except KappaError as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `kappacore plugins | head`
        give_up_output()
        return 1
    except OSError as error:  # a full disk, most likely that of the output
        complain(error)
        give_up_output()
        return 1
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    examples = """
        kappacore plugins                          what can be chosen by name
        kappacore cache ls                         the caches on this machine
        kappacore stage /global/train /local/train
    """
    parser: argparse.ArgumentParser = Parser(
        prog="kappacore",
        description=_DESCRIPTION,
        epilog=format_examples(examples) + _EPILOG,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kappacore {kappacore.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (add_plugins, add_new_plugin, add_cache, add_stage):
        add(subparsers)
    return parser
