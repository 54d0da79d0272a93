"""Imports run downwards only, including those for type checkers and those inside functions."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
from pathlib import Path

import pytest

from kappacore._lazy import stub_names

ROOT = Path(__file__).parents[2]

# From bottom to top. A module belongs to the longest of these that it begins with, and imports
# from its own layer and from those below.
LAYERS = [
    ["kappacore"],  # packages that only list names, and _lazy
    ["kappacore.errors"],
    [
        "kappacore._importable",
        "kappacore._printable",
        "kappacore._ranks",
        "kappacore._shown",
        "kappacore._warn",
    ],
    ["kappacore.sizes", "kappacore.locations"],
    ["kappacore._progress"],
    ["kappacore.machine"],
    ["kappacore.staging"],
    ["kappacore.plugins"],
    ["kappacore.datasets"],
    ["kappacore.plugins.composing"],
    ["kappacore.wrappers"],
    ["kappacore.samplers"],
    ["kappacore.caching.backends"],
    ["kappacore.caching.codec", "kappacore.caching.stats"],
    ["kappacore.caching.identity"],
    ["kappacore.caching.engine"],
    ["kappacore.caching"],
    ["kappacore.loading"],
    ["kappacore.testing", "kappacore.cli", "kappacore.__main__"],
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}

# What plugins may import from the core.
PUBLIC = [
    "kappacore",
    "kappacore.caching",
    "kappacore.errors",
    "kappacore.loading",
    "kappacore.plugin_api",
    "kappacore.plugins",
    "kappacore.samplers",
    "kappacore.staging",
    "kappacore.testing",
    "kappacore.wrappers",
]
LISTING = {name for name in PUBLIC if name not in ("kappacore.errors", "kappacore.testing")}


def files_of(package: Path) -> dict[str, Path]:
    """Return the path of each module of a package."""
    files = {}
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts)
        files[name.removesuffix(".__init__")] = path
    return files


CORE = files_of(ROOT / "kappacore")
PLUGINS = {
    package.name: files_of(package)
    for package in sorted([*ROOT.glob("plugins/*/kappa_*"), *ROOT.glob("examples/*/kappa_*")])
}
FILES = {**CORE, **{name: path for files in PLUGINS.values() for name, path in files.items()}}


@functools.cache
def imports(module: str) -> set[tuple[str, str]]:
    """Return the ``(module, name)`` of every import in a file; of ``import x``, no name."""
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {(source, alias.name) for alias in node.names}
    return found


def files_that_it_needs(module: str) -> set[str]:
    """Return the files that a file imports; behind a listed name, the one that defines it."""
    needed = set()
    for source, name in imports(module):
        if f"{source}.{name}" in FILES:
            needed.add(f"{source}.{name}")
        elif source in LISTING and name in stub_names(source):
            needed.add(stub_names(source)[name])
        elif source in FILES:
            needed.add(source)
    return needed - {module}


@functools.cache
def graph() -> dict[str, set[str]]:
    """Return the files that each file imports."""
    return {module: files_that_it_needs(module) for module in FILES}


def layer(module: str) -> int:
    while module not in LAYER_OF:
        module = module.rpartition(".")[0]
    return LAYER_OF[module]


@pytest.mark.slow
def test_the_imports_are_read_wherever_they_stand():
    assert "kappacore.errors" in graph()["kappacore.machine.locks"]
    assert "kappacore.datasets.mode" in graph()["kappacore.plugins.composing"]  # in a function
    assert "kappacore.plugins.specs" in graph()["kappacore.plugins.hookspecs"]  # for types
    assert "kappacore.machine.folders" in graph()["kappa_shared.backend"]  # through plugin_api


def test_no_files_import_each_other_in_a_circle():
    left = dict(graph())
    while done := [module for module, needed in left.items() if not needed & left.keys()]:
        for module in done:
            del left[module]
    while outside := left.keys() - set().union(*left.values()):  # they import a circle
        for module in outside:
            del left[module]
    assert {module: sorted(needed & left.keys()) for module, needed in left.items()} == {}


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_from_lower_layers_only(module):
    assert sorted(needed for needed in graph()[module] if layer(needed) > layer(module)) == []


def test_only_the_command_line_imports_staging():
    users = {m for m in CORE for needed in graph()[m] if needed.startswith("kappacore.staging")}
    assert {m for m in users if not m.startswith("kappacore.staging")} <= {"kappacore.cli.stage"}


def test_the_core_imports_no_plugin():
    assert {needed for module in CORE for needed in graph()[module]} <= CORE.keys()


@pytest.mark.parametrize("package", PLUGINS)
def test_plugins_import_public_names_of_the_core_only(package):
    used = {(m, *each) for m in PLUGINS[package] for each in imports(m)}
    private = [
        f"{module}: from {source} import {name}"
        for module, source, name in sorted(used)
        if source.partition(".")[0] == "kappacore"
        and not (source in PUBLIC and (not name or name in importlib.import_module(source).__all__))
    ]
    assert private == []
