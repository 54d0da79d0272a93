"""docs/architecture.md describes what is there, and a new wrapper touches the places it names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from kappacore import plugins
from kappacore._lazy import stub_names

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TABLE = (ROOT / "docs" / "wrappers.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"\b(?:kappacore|tests|docs)/[\w/.]*\w", PAGE)))
WRAPPERS = [name for name in stub_names("kappacore.wrappers") if name.endswith("Wrapper")]
#: Bases of wrappers, which are not wrappers themselves.
BASES = {"FractionWrapper", "RandomWrapper", "SelectionWrapper"}


@pytest.mark.parametrize("path", PATHS)
def test_every_path_on_the_page_exists(path):
    assert (ROOT / path).exists()


def test_the_page_names_every_room():
    rooms = {f"kappacore/{path.parent.name}" for path in ROOT.glob("kappacore/*/__init__.py")}
    assert rooms <= set(PATHS)


def test_every_wrapper_is_in_the_registry():
    defined = {
        node.name
        for path in (ROOT / "kappacore" / "wrappers").glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Wrapper")
    }
    assert defined - BASES == set(WRAPPERS)


@pytest.mark.parametrize("name", WRAPPERS)
def test_every_wrapper_has_a_name_a_summary_and_a_line_in_the_docs(name):
    (info,) = [i for i in plugins.available("wrapper").values() if i.target.endswith(f":{name}")]
    assert info.summary.endswith(".")
    rows = [row for row in TABLE.splitlines() if f"`{name}(" in row]
    assert len(rows) == 1
    assert f"`{info.name}`" in rows[0]
