from __future__ import annotations

import json
import subprocess
import sys

import pytest

import kappacore
from kappacore.cli import main
from support.fake_plugins import installed, run_python

BROKEN = (
    "import_error",
    "exits",
    "wrong_signature",
    "misspelt_hook",
    "no_hook",
    "failing_generator",
    "invalid_spec",
    "wrong_kind",
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("KAPPACORE_DISABLE_PLUGINS", raising=False)
    monkeypatch.delenv("KAPPACORE_PLUGIN_AUTOLOAD", raising=False)
    with installed():
        yield


def listed(capsys, *arguments):
    code = main(["plugins", "--json", *arguments])
    rows = json.loads(capsys.readouterr().out)
    return code, {(row["kind"], row["name"], row["distribution"]): row for row in rows}


def test_json_has_every_field_of_every_plugin(capsys):
    with installed("ok"):
        code, rows = listed(capsys)
    assert code == 0
    assert rows["backend", "fake-store", "fake-ok"] == {
        "kind": "backend",
        "name": "fake-store",
        "distribution": "fake-ok",
        "version": "1.2",
        "target": "fake_ok.targets:Store",
        "scope": "network",
        "status": "ok",
        "summary": "Stores nothing.",
        "reason": "",
        "aliases": ["fake-alias"],
        "requires": [],
    }
    assert rows["backend", "memory", "kappacore"]["version"] == kappacore.__version__
    assert rows["backend", "shared", "kappa-shared"]["status"] == "ok"
    assert rows["source", "imagefolder", "kappa-imagefolder"]["status"] == "ok"
    assert [row["summary"] for row in rows.values() if "``" in row["summary"]] == []


def test_the_table_shows_every_field(capsys):
    with installed("ok", "import_error"):
        assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["KIND", "NAME", "DISTRIBUTION", "SCOPE", "STATUS"]
    assert "backend  fake-store " in out
    assert "fake-ok 1.2" in out
    assert "fake_ok.targets:Store  Stores nothing." in out
    assert "also called fake-alias" in out
    assert "broken: ModuleNotFoundError: No module named 'a_module_that_nobody_has'" in out


def test_the_table_fits_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with installed(*BROKEN):
        assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 20
    assert max(map(len, lines)) <= 80


def test_it_works_when_every_plugin_is_broken(capsys):
    with installed(*BROKEN):
        code, rows = listed(capsys)
    assert code == 0
    broken = [row for row in rows.values() if row["status"] == "broken"]
    assert len(broken) == len(BROKEN)
    assert all(row["reason"] and row["distribution"].startswith("fake-") for row in broken)
    assert rows["backend", "memory", "kappacore"]["status"] == "ok"


def test_conflicts_newer_and_blocked_plugins_have_their_status(capsys, monkeypatch):
    monkeypatch.setenv("KAPPACORE_DISABLE_PLUGINS", "fake-blocked")
    with installed("claims_twin", "claims_twin_too", "newer_api", "blocked"):
        code, rows = listed(capsys)
    assert code == 0
    assert rows["source", "twin", "fake-first"]["status"] == "conflict"
    assert rows["source", "twin", "fake-first"]["reason"] == "fake-second 2.0 claims 'twin' too"
    assert rows["source", "twin", "fake-second"]["status"] == "conflict"
    assert rows["source", "fake_first-alone", "fake-first"]["status"] == "ok"
    assert rows["backend", "tomorrow", "fake-newer-api"]["status"] == "incompatible"
    assert rows["", "fake-blocked", "Fake_Blocked"]["status"] == "blocked"


def test_what_a_plugin_prints_does_not_spoil_the_json(capsys):
    with installed("blocked"):
        assert main(["plugins", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)
    assert "fake_blocked was imported" in captured.err


def test_check_passes_where_every_target_can_be_imported(capsys):
    with installed("ok"):
        code, rows = listed(capsys, "--check")
    assert {name: row["reason"] for name, row in rows.items() if row["status"] != "ok"} == {}
    assert code == 0


@pytest.mark.parametrize(
    ("fakes", "row", "status", "reason"),
    [
        (
            ("missing_requirement",),
            ("backend", "needy", "fake-missing-requirement"),
            "broken",
            "pip install 'a-client-that-nobody-has>=2'",
        ),
        (
            ("missing_requirement",),
            ("wrapper", "gone", "fake-missing-requirement"),
            "broken",
            "has no gone",
        ),
        (
            ("wrong_scope",),
            ("backend", "liar", "fake-wrong-scope"),
            "broken",
            "scope 'network', but fake_wrong_scope.x:X has 'process'",
        ),
        (
            ("claims_twin", "claims_twin_too"),
            ("source", "twin", "fake-first"),
            "conflict",
            "fake-second",
        ),
        (
            ("newer_api",),
            ("backend", "tomorrow", "fake-newer-api"),
            "incompatible",
            "pip install --upgrade kappacore",
        ),
    ],
)
def test_check_finds_what_listing_cannot(capsys, fakes, row, status, reason):
    with installed(*fakes):
        code, rows = listed(capsys, "--check")
    assert code == 1
    assert rows[row]["status"] == status
    assert reason in rows[row]["reason"]


def test_check_accepts_what_was_blocked_on_purpose(capsys, monkeypatch):
    monkeypatch.setenv("KAPPACORE_DISABLE_PLUGINS", "fake-import-error")
    with installed("import_error"):
        code, rows = listed(capsys, "--check")
    assert rows["", "fake-import-error", "fake-import-error"]["status"] == "blocked"
    assert code == 0


# ---- one plugin


def test_a_plugin_is_shown_with_its_options(capsys):
    assert main(["plugins", "shared"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("cache backend 'shared' of kappa-shared 0.1.0, scope machine\n")
    assert "\n    max_bytes: float | str | None = None\n        Limit on the samples' size" in out
    assert "    keep:" not in out  # every cache has it


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("imagefolder", ("root", "str | os.PathLike[str]", None, True)),
        ("repeat", ("repetitions", "int | None", "None", False)),
        ("redis", ("ttl", "float | str | None", "'3d'", False)),
        ("cache", ("**options", "Any", None, False)),
    ],
)
def test_options_are_data_too(capsys, name, option):
    code, rows = listed(capsys, name)
    (row,) = rows.values()
    assert (code, row["name"], row["status"]) == (0, name, "ok")
    found = {each["name"]: each for each in row["options"]}
    each = found[option[0]]
    assert tuple(each[key] for key in ("name", "type", "default", "required")) == option
    assert each["text"]
    assert not found.keys() & {"dataset", "namespace", "length", "keep"}


def test_a_device_has_no_options(capsys):
    assert main(["plugins", "cpu"]) == 0
    assert capsys.readouterr().out.endswith("\n\noptions: none\n")


def test_plugins_of_one_name_are_all_shown(capsys):
    with installed("claims_twin", "claims_twin_too"):
        assert main(["plugins", "twin"]) == 1
        both = capsys.readouterr().out
        assert "'twin' of fake-first 1.0" in both
        assert "'twin' of fake-second 2.0" in both
        main(["plugins", "fake-second:twin"])
        assert "fake-first 1.0\n" not in capsys.readouterr().out


def test_a_plugin_that_cannot_be_used_says_why(capsys):
    with installed("missing_requirement", "import_error"):
        assert main(["plugins", "needy"]) == 1
        assert "pip install 'a-client-that-nobody-has>=2'" in capsys.readouterr().out
        code, rows = listed(capsys, "fake-import-error")
    assert code == 1
    assert [row["options"] for row in rows.values()] == [None]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("shard", "Did you mean 'shared'?"),
        ("no-such-thing", "There is no plugin 'no-such-thing'. `kappacore plugins` lists all."),
    ],
)
def test_a_plugin_that_nobody_has_is_an_error(capsys, name, hint):
    assert main(["plugins", name]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert hint in captured.err


def test_a_plugin_that_the_project_publishes_can_be_installed(capsys, monkeypatch):
    monkeypatch.setenv("KAPPACORE_PLUGIN_AUTOLOAD", "0")
    with installed():
        assert main(["plugins", "redis"]) == 1
    assert "'redis' comes with a plugin: `pip install kappa-redis`" in capsys.readouterr().err


def test_only_check_imports_targets():
    with installed("ok"):
        assert main(["plugins"]) == 0
        assert "fake_ok.targets" not in sys.modules
        assert main(["plugins", "--check"]) == 0
        assert "fake_ok.targets" in sys.modules


def test_version():
    done = run_python("-m", "kappacore", "--version")
    assert (done.returncode, done.stdout) == (0, f"kappacore {kappacore.__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["plugins", "--nothing"]])
def test_wrong_usage_exits_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: kappacore" in capsys.readouterr().err


def test_a_reader_that_stops_early_gets_no_traceback():
    command = [sys.executable, "-m", "kappacore", "plugins"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 1
