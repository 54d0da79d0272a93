"""Names of files as text that does nothing to a terminal."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kappacore.errors import KappaError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Control characters, what turns the direction of writing or ends a line, and bytes of names that
# are not UTF-8.
_ACTIVE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BUT_LINES = re.compile(_ACTIVE.pattern.replace("\0-\x1f", "\0-\x09\x0b-\x1f"))


def printable(text: str, *, lines: bool = False) -> str:
    r"""Return a text with all characters that a terminal would act on written as ``\x1b``.

    Args:
        text: The text, such as a message with the name of a file.
        lines: Whether line breaks stay.
    """
    return (_BUT_LINES if lines else _ACTIVE).sub(_escaped, text)


@contextmanager
def printable_errors() -> Iterator[None]:
    """Make the messages of this project's errors printable, each as one line."""
    try:
        yield
    except KappaError as error:
        error.args = (printable(str(error)),)
        raise


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
