"""What importing kappacore and listing its plugins does not import."""

from __future__ import annotations

import json

import pytest

import kappacore
from support.fake_plugins import run_python

HEAVY = ["torch", "numpy", "PIL", "redis"]
LAZY = [*HEAVY, "pluggy", "importlib_metadata", "multiprocessing", "dataclasses"]
TARGETS = [
    "kappacore.caching",
    "kappacore.datasets",
    "kappacore.wrappers",
    "kappa_shared.backend",
    "kappa_imagefolder.dataset",
    "fake_ok.targets",
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
        "from kappacore.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    assert main(['plugins']) == 0\n"
        "assert 'fake_ok.targets:Store' in out.getvalue()"
    )
    assert imported(listing, [*HEAVY, *TARGETS, "fake_ok"]) == ["fake_ok"]


def test_choosing_a_plugin_does_not_import_its_target():
    assert imported("import kappacore\nkappacore.backend('fake-store', url='x')", TARGETS) == []


def test_every_public_name_can_be_imported():
    missing = [name for name in kappacore.__all__ if not hasattr(kappacore, name)]
    assert missing == []


@pytest.mark.parametrize(
    ("name", "package"), [("SharedDictDataset", "kappa_shared"), ("RedisDataset", "kappa_redis")]
)
def test_what_lives_in_a_plugin_says_where(name, package):
    with pytest.raises(AttributeError, match=rf"`from {package} import {name}` .*`pip install"):
        getattr(kappacore, name)


def test_an_unknown_attribute_is_an_ordinary_error():
    with pytest.raises(AttributeError, match="module 'kappacore' has no attribute 'nothing'"):
        _ = kappacore.nothing
