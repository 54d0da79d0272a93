"""Every public error has a use and is documented."""

from __future__ import annotations

import ast
import builtins
import functools
import re
from pathlib import Path

import pytest

from kappacore import errors

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(\w+)` \| `?(\w*)`? ?\|", PAGE, re.MULTILINE))


@functools.cache
def used_names() -> set[str]:
    """Return the names that are called, or passed on to `warn`, anywhere in the core."""
    names = set()
    for path in (ROOT / "kappacore").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                parts = [node.func, *(node.args if ast.unparse(node.func) == "warn" else ())]
                names |= {ast.unparse(part).rpartition(".")[2] for part in parts}
    return names


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_raised_or_is_a_base(name):
    cls = getattr(errors, name)
    assert name in used_names() or cls.__subclasses__()


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_documented_with_the_builtin_it_is(name):
    cls = getattr(errors, name)
    assert cls.__doc__
    other = ROWS[name]
    if other:
        assert issubclass(cls, getattr(builtins, other, None) or getattr(errors, other))
    else:
        assert all(getattr(builtins, base.__name__, None) is not base for base in cls.__bases__[1:])
    assert issubclass(cls, (errors.KappaError, Warning))


def test_no_error_is_documented_that_does_not_exist():
    assert sorted(ROWS) == sorted(errors.__all__)


def test_all_errors_are_listed():
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == set(errors.__all__)
