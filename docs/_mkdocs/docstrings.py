"""What griffe reads of the code, made fit for pages: public names, docstrings as Markdown."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import griffe

#: The public modules, whose ``exports`` are the public names; filled as packages are read.
PUBLIC: list[griffe.Module] = []

_WITHOUT_STUB = ("kappacore.datasets", "kappacore.errors", "kappacore.testing")

_ROLE = re.compile(r":(?:class|meth|func|mod|attr|data):`~?([\w.]+)`")
_BLOCK = re.compile(r"^( *)(.*)::\n\n((?:\1 +.*\n|\n)+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Notes the public names of a package, and rewrites its docstrings."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        _note_public(pkg)
        _rewrite(pkg)


def _note_public(module: griffe.Module) -> None:
    """A public module lists its names in a stub (see kappacore/_lazy.py) or in ``__all__``."""
    stub = Path(str(module.filepath)).with_suffix(".pyi")
    if stub.is_file():
        module.exports = [
            alias.asname
            for line in ast.parse(stub.read_text(encoding="utf-8")).body
            if isinstance(line, ast.ImportFrom) and line.module
            for alias in line.names
            if alias.asname
        ]
        PUBLIC.append(module)
    elif module.path in _WITHOUT_STUB:
        if not module.exports:  # made at run time: all classes
            defined = [member for member in module.members.values() if not member.is_alias]
            module.exports = [member.name for member in defined if member.is_class]
        PUBLIC.append(module)
    for member in module.members.values():
        if not member.is_alias and member.is_module:
            _note_public(member)


def _rewrite(obj: griffe.Object) -> None:
    if obj.is_attribute and not obj.docstring:
        _take_comment(obj)
    if obj.docstring:
        text = _BLOCK.sub(_fence, obj.docstring.value + "\n").rstrip()
        obj.docstring.value = _ROLE.sub(lambda match: _link(match[1], obj), text)
    for member in obj.members.values():
        if not member.is_alias:
            _rewrite(member)


def _take_comment(attribute: griffe.Object) -> None:
    """Take the lines above an attribute that begin with ``#:`` for its docstring."""
    lines = attribute.lines_collection[attribute.filepath]
    number = (attribute.lineno or 1) - 1
    comment: list[str] = []
    while number and lines[number - 1].lstrip().startswith("#:"):
        number -= 1
        comment.insert(0, lines[number].strip().removeprefix("#:").strip())
    if comment:
        attribute.docstring = griffe.Docstring("\n".join(comment), parent=attribute)


def _fence(match: re.Match[str]) -> str:
    """Fence a block after ``::``; reStructuredText only indents it."""
    space, line, block = match.groups()
    code = dedent(block).strip("\n")
    fenced = f"```{'python' if _is_python(code) else 'text'}\n{code}\n```"
    return f"{space}{line}:\n\n{indent(fenced, space)}\n\n"


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return ">>> " in code
    return True


def _link(name: str, obj: griffe.Object) -> str:
    """Turn a role of Sphinx into a link, if a page has that name, and into code if none has."""
    first, *rest = name.split(".")
    try:
        path = ".".join([obj.resolve(first), *rest])
    except griffe.NameResolutionError:
        path = name
    return f'<autoref optional identifier="{path}"><code>{name}</code></autoref>'
