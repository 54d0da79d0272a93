"""Imports run downwards only: those for type checkers and those inside functions too."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from kappacore._lazy import stub_names

ROOT = Path(__file__).parents[2]
PLUGINS = {path.name: path.parent for path in ROOT.glob("plugins/*/kappa_*")}
EXAMPLES = {path.name: path.parent for path in ROOT.glob("examples/*/kappa_*")}

# From the bottom to the top. A file belongs to the longest of these names that is its beginning,
# and may import from its own layer and those below it.
LAYERS = [
    ["kappacore._lazy", "kappacore"],  # the facades: names only
    ["kappacore.errors"],
    ["kappacore._importable", "kappacore._progress", "kappacore._shown", "kappacore._warn"],
    ["kappacore.sizes"],
    ["kappacore.machine"],
    ["kappacore.plugins"],
    ["kappacore.datasets"],
    ["kappacore.wrappers"],
    ["kappacore.caching.codec"],
    ["kappacore.caching.backends"],
    ["kappacore.caching.identity"],
    ["kappacore.caching.engine"],
    ["kappacore.caching"],
    ["kappacore.plugins.composing"],
    ["kappacore.testing", "kappacore.cli", "kappacore.__main__"],
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
# Staging stands beside the rest, on these alone.
BELOW_STAGING = (
    "kappacore", "kappacore._lazy", "kappacore._progress", "kappacore._shown", "kappacore._warn",
    "kappacore.errors", "kappacore.machine", "kappacore.sizes", "kappacore.staging",
)  # fmt: skip
# What plugins may import, beside their own files.
PUBLIC = {
    "kappacore", "kappacore.caching", "kappacore.errors", "kappacore.plugin_api",
    "kappacore.plugins", "kappacore.staging", "kappacore.testing", "kappacore.wrappers",
}  # fmt: skip
LAZY = PUBLIC - {"kappacore.errors", "kappacore.testing"}


def files_of(package: str, folder: Path) -> dict[str, Path]:
    """Return the path of each module of a package."""
    files = {}
    for path in sorted((folder / package).rglob("*.py")):
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        files[name.removesuffix(".__init__")] = path
    return files


CORE = files_of("kappacore", ROOT)
OTHERS = {
    name: path
    for package, folder in {**PLUGINS, **EXAMPLES}.items()
    for name, path in files_of(package, folder).items()
}
ALL = {**CORE, **OTHERS}


def imported(module: str) -> set[tuple[str, str]]:
    """Return all ``(module, name)`` that a file imports, wherever it does; ``name`` may be empty."""
    path = ALL[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            home = importlib.util.resolve_name(relative, package)
            found |= {(home, alias.name) for alias in node.names}
    return found


def needed(module: str) -> set[str]:
    """Return the files that a file imports, seeing through packages that only list names."""
    files = set()
    for home, name in imported(module):
        if f"{home}.{name}" in ALL:
            files.add(f"{home}.{name}")
        elif home in LAZY and name in stub_names(home):
            files.add(stub_names(home)[name])
        elif home in ALL:
            files.add(home)
    return files - {module}


GRAPH = {module: needed(module) for module in ALL}


def longest(module: str, names: object) -> str | None:
    """Return the longest of some names that is the beginning of a module's."""
    while module:
        if module in names:  # type: ignore[operator]
            return module
        module = module.rpartition(".")[0]
    return None


def test_the_imports_were_read():
    assert "kappacore.errors" in GRAPH["kappacore.machine.locks"]
    assert "kappacore.datasets.mode" in GRAPH["kappacore.plugins.composing"]  # inside a function
    assert "kappacore.caching.backends.base" in GRAPH["kappa_shared.layout"]  # for types, by name
    assert len(ALL) > 100


def test_no_files_import_each_other_in_a_circle():
    left = dict(GRAPH)
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    # Those that only import from a circle are no part of it.
    while tops := left.keys() - {need for needs in left.values() for need in needs}:
        for module in tops:
            del left[module]
    circles = {module: sorted(needs & left.keys()) for module, needs in left.items()}
    assert circles == {}


@pytest.mark.parametrize(
    "module", [m for m in CORE if longest(m, BELOW_STAGING) != "kappacore.staging"]
)
def test_the_core_imports_from_the_layers_below(module):
    layer = LAYER_OF[longest(module, LAYER_OF)]
    above = {
        need
        for need in GRAPH[module]
        if not (module, need) == ("kappacore.cli.stage", need)
        and (longest(need, LAYER_OF) is None or LAYER_OF[longest(need, LAYER_OF)] > layer)
    }
    assert above == set()


@pytest.mark.parametrize("module", [m for m in CORE if m.startswith("kappacore.staging")])
def test_staging_stands_on_errors_machine_and_sizes_alone(module):
    allowed = set(BELOW_STAGING)
    assert {need for need in GRAPH[module] if longest(need, allowed) in (None, "kappacore")} <= {
        "kappacore"
    }


def test_the_core_imports_no_plugin():
    assert {need for module in CORE for need in GRAPH[module]} & OTHERS.keys() == set()


@pytest.mark.parametrize("package", [*PLUGINS, *EXAMPLES])
def test_plugins_import_public_names_of_the_core_only(package):
    private = {}
    for module in OTHERS:
        if module.partition(".")[0] != package:
            continue
        for home, name in imported(module):
            if home.partition(".")[0] != "kappacore":
                continue
            public = home in PUBLIC and (not name or name in importlib.import_module(home).__all__)
            if not public:
                private.setdefault(module, []).append(f"from {home} import {name}")
    assert private == {}
