"""``kappacore new-plugin``: packages that work as they are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kappacore.cli import main
from kappacore.plugins.info import KINDS
from support.pytest_runs import run_pytest
from support.warm import run_warm

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def new_plugin(capsys, *arguments):
    """Run the command; return its exit code and what it printed."""
    try:
        code = main(["new-plugin", *arguments])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def files_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_says_what_it_wrote_and_what_comes_next(tmp_path, capsys):
    code, out, err = new_plugin(capsys, "kappa-Acme_Store", "--kind", "backend")
    assert (code, err) == (0, "")
    assert out.startswith("kappa-acme-store: a cache backend that is chosen by 'acme-store'\n")
    steps = ["cd kappa-acme-store", "python -m pip install -e '.[dev]'", "pytest"]
    assert out.endswith("Next:\n" + "".join(f"    {step}\n" for step in steps))
    files = {
        "README.md",
        "kappa_acme_store/__init__.py",
        "kappa_acme_store/_plugin.py",
        "kappa_acme_store/backend.py",
        "kappa_acme_store/py.typed",
        "pyproject.toml",
        "tests/test_kappa_acme_store.py",
    }
    assert files_below(tmp_path / "kappa-acme-store") == files
    assert all(f"\n    {file}\n" in out for file in files)
    assert [path.name for path in tmp_path.iterdir()] == ["kappa-acme-store"]
    text = (tmp_path / "kappa-acme-store/kappa_acme_store/backend.py").read_text()
    assert "\nclass AcmeStoreBackend(CacheBackend):\n" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "cannot be the name of a distribution"),
        ("-x", "cannot be the name of a distribution"),
        ("acme store", "cannot be the name of a distribution"),
        ("../acme", "cannot be the name of a distribution"),
        ("café", "cannot be the name of a distribution"),
        ("class", "Python could not import 'class'"),
        ("kappa-class", "Python could not import 'class'"),
        ("3d", "Python could not import '3d'"),
        ("kappa-3d", "Python could not import '3d'"),
        ("kappa-", "cannot be the name of a distribution"),
        ("kappa-auto", "'auto' cannot be the name of a plugin"),
        ("tests", "its folder 'tests' has another use"),
        ("Build", "its folder 'build' has another use"),
    ],
)
def test_a_bad_name_is_wrong_usage(tmp_path, capsys, name, message):
    code, out, err = new_plugin(capsys, "--kind", "source", "--", name)
    assert (code, out) == (2, "")
    assert message in err
    assert "such as 'kappa-sqlite'" in err or "such as 'my-cache'" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["acme"], ["acme", "--kind", "codec"], ["--kind", "source"]])
def test_the_kind_and_the_name_are_needed(tmp_path, capsys, arguments):
    assert new_plugin(capsys, *arguments)[0] == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("memory", "backend", "cache backend 'memory' exists: kappacore 0.1.0 provides it"),
        ("kappa-shared", "wrapper", "kappa-shared 0.1.0 is installed already"),
        ("acme-imagefolder", "source", None),  # a name that only ends like another
        ("kappa-cache", "backend", None),  # 'cache' is a wrapper
        ("k" * 300, "source", "cannot be written: File name too long"),
        ("json", "source", "A module 'json' is installed already"),
    ],
)
def test_a_name_that_is_taken_is_refused(tmp_path, capsys, name, kind, message):
    code, _, err = new_plugin(capsys, name, "--kind", kind)
    if message is None:
        assert (code, err) == (0, "")
    else:
        assert code == 1
        assert message in err
        assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_project_publishes_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("kappacore.plugins.registry.all_plugins", list)  # nothing is installed
    for name in ("redis", "kappa-redis"):
        code, _, err = new_plugin(capsys, name, "--kind", "backend")
        assert code == 1
        assert "kappacore's own kappa-redis provides it" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind", "base"),
    [("kappa-cache", "backend", "CacheBackend"), ("device", "device", "Device")],
)
def test_a_class_is_not_called_as_its_base(tmp_path, capsys, name, kind, base):
    assert new_plugin(capsys, name, "--kind", kind)[0] == 0
    (module,) = tmp_path.rglob(f"{kind}.py")
    assert f"\nclass My{base}({base}):\n" in module.read_text()


def test_a_folder_is_written_only_where_nothing_is(tmp_path, capsys):
    (tmp_path / "acme").mkdir()
    assert new_plugin(capsys, "acme", "--kind", "device")[0] == 0
    before = files_below(tmp_path)
    code, _, err = new_plugin(capsys, "acme", "--kind", "device")
    assert (code, err) == (
        1,
        "kappacore: 'acme' exists and is not empty. Choose another name or --into.\n",
    )
    (tmp_path / "other").write_text("a file")
    assert new_plugin(capsys, "other", "--kind", "device")[0] == 1
    assert files_below(tmp_path) == {*before, "other"}


def test_into_chooses_the_folder(tmp_path, capsys):
    code, _, err = new_plugin(capsys, "acme", "--kind", "source", "--into", "code")
    assert (code, err) == (
        1,
        "kappacore: There is no folder 'code'. Make it first, or give another --into.\n",
    )
    code, _, err = new_plugin(capsys, "acme", "--kind", "source", "--into", "~nobody-of-this-name")
    assert code == 2
    assert "argument --into: '~nobody-of-this-name' is the home of no user" in err
    (tmp_path / "code").mkdir()
    assert new_plugin(capsys, "acme", "--kind", "source", "--into", "code")[0] == 0
    assert [path.name for path in (tmp_path / "code").iterdir()] == ["acme"]


def test_nothing_is_left_half_written(tmp_path, capsys, monkeypatch):
    written = []

    def full(self, *args, **options):
        written.append(self)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return write(self, *args, **options)

    write = Path.write_text
    monkeypatch.setattr(Path, "write_text", full)
    code, _, err = new_plugin(capsys, "acme", "--kind", "source")
    assert (code, err) == (1, "kappacore: 'acme' cannot be written: No space left on device.\n")
    assert len(written) == 3
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def packages(tmp_path, capsys):
    """One package of each kind."""
    for kind in KINDS:
        assert new_plugin(capsys, f"kappa-acme-{kind}", "--kind", kind)[0] == 0
    return {kind: tmp_path / f"kappa-acme-{kind}" for kind in KINDS}


def test_ruff_has_nothing_to_say(packages):
    """Neither with this project's rules nor with its own defaults, which the author has."""
    ours = ["--config", ROOT / "pyproject.toml"]
    others = ["--config", "lint.isort.known-third-party = ['kappacore']", "--ignore", "S101,INP001"]
    for command in (
        ["check", *ours, *others],
        ["format", "--check", *ours],
        ["check", "--isolated"],
        ["format", "--check", "--isolated"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", "--no-cache", *packages.values()],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
def test_each_package_is_built_and_installed_and_passes_its_tests(packages, tmp_path):
    """With the quick part of the suites; ``make types`` checks the types."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-build-isolation", "--no-index", "--no-compile"]
    subprocess.run([*pip, *alone, "--target", site, *packages.values()], check=True)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", path)
        tests = [folder / "tests" for folder in packages.values()]
        results = run_pytest(tmp_path, *map(str, tests), "-k", "not slow")
    failed = {name: what for name, what in results.items() if what and what[:8] != "skipped "}
    assert failed == {}
    passed = [name for name, what in results.items() if not what]
    assert sum(name.startswith("AcmeBackend.") for name in passed) > 30
    assert sum(name.startswith("AcmeDevice.") for name in passed) >= 10
    assert len(passed) > 44  # and the plain ones

    script = tmp_path / "readmes.py"
    pages = [(folder / "README.md").read_text(encoding="utf-8") for folder in packages.values()]
    examples = [re.search(r"```python\n(.*?)```", page, re.DOTALL)[1] for page in pages]
    script.write_text("\n".join(f"exec({each!r}, {{}})" for each in examples), encoding="utf-8")
    done = run_warm(script, env={"PYTHONPATH": path}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= len(packages)
