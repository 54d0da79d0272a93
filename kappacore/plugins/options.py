"""The options of a target, by its signature: checked before it is called, and described."""

from __future__ import annotations

import difflib
import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kappacore.errors import InvalidOptionError, UnknownOptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

#: Kind -> what kappacore gives a target itself: the number of arguments by position (namespace and
#: length; the dataset; the index), and the names of those by keyword.
GIVEN: dict[str, tuple[int, tuple[str, ...]]] = {
    "backend": (2, ("keep",)),
    "wrapper": (1, ()),
    "source": (0, ()),
    "device": (1, ()),
}


@dataclass(frozen=True)
class Option:
    """An option of a plugin, for people.

    Attributes:
        name: Its name; ``"**options"`` stands for any others.
        type: Its type, as it is annotated; empty if it is not.
        default: Its default, as a Python expression; None if it has none.
        required: Whether it must be given.
        text: What the docstring says of it, in one line.
    """

    name: str
    type: str
    default: str | None
    required: bool
    text: str


def options_of(kind: str, target: Callable[..., Any]) -> list[Option] | None:
    """Return the options that users may give a target; None if it has no signature.

    Args:
        kind: The kind of the plugin, see `GIVEN`.
        target: The class or function.
    """
    parameters = _parameters(target)
    if parameters is None:
        return None
    free = [p for p in parameters if p.name not in _taken(parameters, *GIVEN[kind])]
    texts = _texts(target)
    found = []
    for each in free:
        is_any = each.kind is inspect.Parameter.VAR_KEYWORD
        if is_any or each.kind in _BY_NAME:
            has_default = each.default is not each.empty
            found.append(
                Option(
                    name=f"**{each.name}" if is_any else each.name,
                    type=_type(each),
                    default=repr(each.default) if has_default else None,
                    required=not (has_default or is_any),
                    text=texts.get(each.name, ""),
                )
            )
    return found


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
    parameters = _parameters(target)
    if parameters is None:
        return
    taken = _taken(parameters, positional, fixed)
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


def _parameters(target: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):  # some builtins have no signature
        return None


def _taken(
    parameters: list[inspect.Parameter], positional: int, fixed: Collection[str]
) -> set[str]:
    """Return the names of the parameters that kappacore gives itself."""
    return {*[p.name for p in parameters if p.kind in _BY_POSITION][:positional], *fixed}


def _type(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _texts(target: Callable[..., Any]) -> dict[str, str]:
    """Return what a docstring in Google's style says of each argument, in one line each."""
    section = re.search(
        r"^Args:\n((?:[ \t]+.*\n?|\n)+)", inspect.getdoc(target) or "", re.MULTILINE
    )
    if section is None:
        return {}
    entries = re.findall(
        r"^( +)\*{0,2}(\w+)(?: \([^)\n]*\))?:((?:.*)(?:\n(?:\1 +.*|[ \t]*$))*)",
        section[1],
        re.MULTILINE,
    )
    return {name: plain(text) for _, name, text in entries}


def plain(text: str) -> str:
    """Return text without the marks of reStructuredText, in one line."""
    return " ".join(re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "").split())
