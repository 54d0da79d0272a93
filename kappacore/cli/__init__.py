"""The command ``kappacore``.

Each subcommand is a file with a function that adds its parser. What a subcommand works with is
imported when it runs. Results go to standard output, all else to standard error.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import kappacore
from kappacore.cli.cache import add_cache
from kappacore.cli.plugins import add_plugins
from kappacore.cli.stage import add_stage
from kappacore.cli.streams import give_up_output, prepare_streams
from kappacore.errors import KappaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DESCRIPTION = "A plugin framework for PyTorch datasets that makes slow data fast."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 something is wrong, 2 usage."""
    prepare_streams()
    parser = argparse.ArgumentParser(prog="kappacore", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"kappacore {kappacore.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (add_plugins, add_cache, add_stage):
        add(subparsers)
    args = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        code = run(args)
        sys.stdout.flush()
    except KappaError as error:
        print(f"kappacore: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell reports it
    except BrokenPipeError:  # `kappacore plugins | head`
        give_up_output()
        return 1
    except OSError as error:  # a full disk, most likely that of the output
        print(f"kappacore: {error}", file=sys.stderr)
        give_up_output()
        return 1
    return code
