"""What importing kappacore and listing its plugins does not import."""

from __future__ import annotations

import importlib
import json
import pkgutil

import pytest

import kappacore
from kappacore._lazy import stub_names
from support.fake_plugins import run_python

HEAVY = ["torch", "numpy", "PIL", "redis"]
LAZY = [*HEAVY, "pluggy", "importlib_metadata", "multiprocessing", "dataclasses"]
TARGETS = [
    "kappacore.caching.backends.memory",
    "kappacore.caching.datasets",
    "kappacore.datasets",
    "kappacore.wrappers.transform",
    "kappa_shared.backend",
    "kappa_imagefolder.dataset",
    "fake_ok.targets",
]

PUBLIC = [
    "kappacore",
    "kappacore.caching",
    "kappacore.loading",
    "kappacore.plugin_api",
    "kappacore.plugins",
    "kappacore.samplers",
    "kappacore.staging",
    "kappacore.wrappers",
]


def imported(code, names):
    done = run_python(
        "-c",
        "import contextlib, io, json, sys\n"
        "before = set(sys.modules)\n"
        f"{code}\n"
        f"print(json.dumps([name for name in {names} if name in set(sys.modules) - before]))",
        fakes=("ok",),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_kappacore_imports_nothing_heavy_and_looks_for_no_plugin():
    assert imported("import kappacore", [*LAZY, *TARGETS, "fake_ok"]) == []


def test_listing_plugins_imports_nothing_heavy_and_no_target():
    listing = (
        "from kappacore.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    assert main(['plugins']) == 0\n"
        "assert 'fake_ok.targets:Store' in out.getvalue()"
    )
    assert imported(listing, [*HEAVY, *TARGETS, "fake_ok"]) == ["fake_ok"]


def test_choosing_a_plugin_does_not_import_its_target():
    assert imported("import kappacore\nkappacore.backend('fake-store', url='x')", TARGETS) == []


def test_a_plugin_that_imports_hooks_and_specs_imports_little_else():
    code = "from kappacore.plugin_api import CacheBackendSpec, SourceSpec, hookimpl"
    assert imported(code, [*HEAVY, *TARGETS, "multiprocessing", "importlib_metadata"]) == []


# ---- names


def test_there_are_at_most_45_names_at_the_top():
    assert len(kappacore.__all__) <= 45


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_can_be_imported(module):
    package = importlib.import_module(module)
    missing = [name for name in package.__all__ if not hasattr(package, name)]
    assert missing == []
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("module", PUBLIC)
def test_no_public_name_is_also_a_file_beside_it(module):
    """Importing the file would put it in the place of the object."""
    package = importlib.import_module(module)
    files = {info.name for info in pkgutil.iter_modules(getattr(package, "__path__", ()))}
    assert files & set(package.__all__) == set()


@pytest.mark.parametrize("module", PUBLIC)
def test_a_lazy_name_is_the_object_that_its_module_defines(module):
    package = importlib.import_module(module)
    for name, home in stub_names(module).items():
        if home != module:
            assert getattr(package, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("NamespaceMismatchError", "kappacore.errors"),
        ("LabelSmoothingWrapper", "kappacore.wrappers"),
        ("WeightedSampler", "kappacore.samplers"),
        ("hookimpl", "kappacore.plugin_api"),
        ("unregister_source", "kappacore.plugins"),
        ("CacheStats", "kappacore.caching"),
        ("CopyResult", "kappacore.staging"),
    ],
)
def test_a_name_that_is_not_at_the_top_says_where_it_is(name, module):
    with pytest.raises(AttributeError, match=rf"'{name}': use `from {module} import {name}`\.$"):
        getattr(kappacore, name)
    assert getattr(importlib.import_module(module), name)


def test_submodules_need_no_import_of_their_own():
    code = "import kappacore\nkappacore.errors.CacheError, kappacore.plugins.has"
    assert imported(code, HEAVY) == []


@pytest.mark.parametrize(
    ("name", "package"), [("SharedDictDataset", "kappa_shared"), ("RedisDataset", "kappa_redis")]
)
def test_what_lives_in_a_plugin_says_where(name, package):
    with pytest.raises(AttributeError, match=rf"`from {package} import {name}` .*`pip install"):
        getattr(kappacore, name)


def test_an_unknown_attribute_is_an_ordinary_error():
    with pytest.raises(AttributeError, match=r"^module 'kappacore' has no attribute 'nothing'$"):
        _ = kappacore.nothing
