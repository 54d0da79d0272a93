"""Checking options against the signature of their target, before it is called."""

from __future__ import annotations

import difflib
import inspect
from typing import TYPE_CHECKING, Any

from kappacore.errors import InvalidOptionError, UnknownOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check_options(
    what: str,
    target: Callable[..., Any],
    options: Mapping[str, Any],
    positional: int = 0,
    fixed: Collection[str] = (),
) -> None:
    """Check ``options`` against the signature of ``target``.

    A target with ``**options`` checks unknown ones itself.

    Args:
        what: The target, for messages: ``"wrapper 'cache'"``.
        target: The class or function to be called.
        options: Its options, by name.
        positional: Number of arguments that the caller passes by position.
        fixed: Names of the arguments that the caller passes by keyword.

    Raises:
        UnknownOptionError: If there is no such option; the message lists the existing ones.
        InvalidOptionError: If a required option is missing.
    """
    try:
        parameters = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature
        return
    given = [p.name for p in parameters if p.kind in _BY_POSITION][:positional]
    taken = {*given, *fixed}
    free = [p for p in parameters if p.kind in _BY_NAME and p.name not in taken]
    known = [p.name for p in free]
    listed = f"Its options: {', '.join(known)}." if known else "It has no options."
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    for name in options:
        if name in taken:
            raise UnknownOptionError(
                f"{what} is given {name!r} by kappacore; leave it out of the options. {listed}"
            )
        if name not in known and not takes_any:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UnknownOptionError(f"{what} has no option {name!r}.{hint} {listed}")
    missing = [p.name for p in free if p.default is p.empty and p.name not in options]
    if missing:
        raise InvalidOptionError(
            f"{what} needs {' and '.join(repr(name) for name in missing)}. {listed}"
        )
