"""The standard streams, made to take whatever is printed, and to print nothing that acts."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from kappacore._printable import printable


def prepare_streams() -> None:
    """Make closed streams lead nowhere, and names that have no spelling in the encoding printable.

    A closed descriptor would be given to the next file that is opened.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> io.TextIOWrapper:
    return Path(os.devnull).open("w", encoding="utf-8")


def show(text: str) -> None:
    """Print a result."""
    print(printable(text, lines=True))


def complain(text: object) -> None:
    """Print a message, or an error, to standard error."""
    print(f"kappacore: {printable(str(text), lines=True)}", file=sys.stderr)


def give_up_output() -> None:
    """Discard what standard output still holds, which would fail again at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
