from __future__ import annotations

import re
import shutil
import sys

import pytest

import kappacore
from kappacore import plugins
from kappacore.errors import (
    BrokenPluginError,
    IncompatiblePluginError,
    PluginConflictError,
    UnknownPluginError,
)
from support.fake_plugins import FAKES


def info_of(distribution):
    (info,) = [i for i in plugins.all_plugins() if i.distribution == distribution]
    return info


def test_the_core_registers_its_own_through_the_same_hooks():
    found = {(i.kind, i.name): i for i in plugins.all_plugins() if i.distribution == "kappacore"}
    wrappers = """
        cache class_filter classwise_percent fewshot intra_class_shuffle label_smoothing
        mix multi_view one_hot oversampling percent_filter remap_classes repeat
        shuffle sort_by_class subset transform
    """
    assert set(found) == {
        ("backend", "memory"),
        ("device", "cpu"),
        *(("wrapper", name) for name in wrappers.split()),
    }
    assert {info.version for info in found.values()} == {kappacore.__version__}
    assert found["backend", "memory"].scope == "process"


def test_an_installed_distribution_is_found_without_importing_its_targets(install):
    install("ok")
    info = plugins.find("backend", "fake-store")
    assert (info.distribution, info.version, info.scope, info.status, info.summary) == (
        "fake-ok",
        "1.2",
        "network",
        "ok",
        "Stores nothing.",
    )
    assert "fake-wrap" in plugins.available("wrapper")
    assert "fake-source" in plugins.available("source")
    assert "fake_ok.targets" not in sys.modules


def test_an_alias_is_looked_up_as_a_name(install):
    install("ok")
    assert kappacore.backend("fake-alias") == kappacore.backend("fake-store")
    assert plugins.has("backend", "fake-alias")
    assert not plugins.has("backend", "fake-wrap")


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        ("import_error", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("exits", "SystemExit: bye"),
        ("wrong_signature", r"PluginValidationError: (?s:.*)kappacore_wrappers(?s:.*)'config'"),
        ("misspelt_hook", "PluginValidationError: unknown hook 'kappacore_cache_backend'"),
        ("no_hook", "BrokenPluginError: fake_no_hook._plugin implements no hook: mark a function"),
        ("failing_generator", "RuntimeError: gave up halfway"),
        ("invalid_spec", "InvalidOptionError: name 'Not A Name' cannot be the name of a plugin"),
        ("wrong_kind", r"BrokenPluginError: kappacore_sources gave WrapperSpec\(.*a SourceSpec"),
        (
            "asks_back",
            "PluginError: A plugin asked for plugins while plugins were",
        ),
    ],
)
def test_a_distribution_that_cannot_be_loaded_is_recorded_and_hurts_no_other(install, fake, reason):
    install(fake, "ok")
    distribution = f"fake-{fake.replace('_', '-')}"
    broken = info_of(distribution)
    assert (broken.status, broken.kind) == ("broken", "")
    assert broken.version
    assert broken.error is not None
    assert f"{type(broken.error).__name__}: {broken.error}" == broken.reason
    assert re.match(reason, broken.reason)
    assert plugins.has("backend", "fake-store")
    assert plugins.has("backend", "memory")

    with pytest.raises(UnknownPluginError, match=f"{distribution} .* could not be loaded: "):
        kappacore.backend("something")
    with pytest.raises(BrokenPluginError, match=f"{distribution} .* failed with ") as caught:
        kappacore.backend(f"{distribution}:something")
    assert caught.value.__cause__ is broken.error


def test_nothing_of_a_distribution_that_fails_halfway_is_offered(install):
    install("failing_generator", "misspelt_hook")
    assert not plugins.has("source", "half")
    assert not plugins.has("wrapper", "misspelt-neighbour")


def test_a_hook_that_returns_no_specs_is_told_what_to_return(install, tmp_path):
    shutil.copytree(FAKES / "ok", tmp_path, dirs_exist_ok=True)
    (tmp_path / "fake_ok" / "_plugin.py").write_text(
        "from kappacore.plugin_api import hookimpl\n"
        "@hookimpl\ndef kappacore_wrappers():\n    pass\n"
    )
    sys.path.insert(0, str(tmp_path))
    plugins.refresh()
    assert "returned None: expected an iterable of WrapperSpec" in info_of("fake-ok").reason


def test_a_name_given_twice_by_one_distribution_breaks_it(install, tmp_path):
    shutil.copytree(FAKES / "ok", tmp_path, dirs_exist_ok=True)
    plugin = tmp_path / "fake_ok" / "_plugin.py"
    plugin.write_text(plugin.read_text().replace('"fake-raises"', '"fake-source"'))
    sys.path.insert(0, str(tmp_path))
    plugins.refresh()
    assert "source 'fake-source' is registered 2 times" in info_of("fake-ok").reason


def test_a_blocked_distribution_is_not_imported(install, monkeypatch):
    monkeypatch.setenv("KAPPACORE_DISABLE_PLUGINS", "something-else, Fake.BLOCKED")
    install("blocked", "ok")
    assert info_of("Fake_Blocked").status == "blocked"
    assert "fake_blocked" not in sys.modules
    assert plugins.has("backend", "fake-store")
    with pytest.raises(UnknownPluginError, match="KAPPACORE_DISABLE_PLUGINS names fake-blocked"):
        kappacore.wrap([], "blocked-wrap")


def test_the_same_distribution_is_loaded_where_it_is_not_blocked(install, capsys):
    install("blocked")
    assert plugins.has("wrapper", "blocked-wrap")
    assert "fake_blocked was imported" in capsys.readouterr().out


def test_autoload_off_leaves_the_core_alone(install, monkeypatch):
    monkeypatch.setenv("KAPPACORE_PLUGIN_AUTOLOAD", "0")
    install("ok", "import_error")
    assert {info.distribution for info in plugins.all_plugins()} == {"kappacore"}
    with pytest.raises(UnknownPluginError, match="KAPPACORE_PLUGIN_AUTOLOAD=0 is set"):
        kappacore.backend("fake-store")


def test_two_distributions_that_claim_one_name_are_an_error_only_when_it_is_chosen(install):
    install("claims_twin", "claims_twin_too")
    assert kappacore.load_dataset("fake_first-alone") == "fake-first"
    assert not plugins.has("source", "twin")
    assert {i.status for i in plugins.all_plugins() if i.name == "twin"} == {"conflict"}
    with pytest.raises(
        PluginConflictError,
        match=r"'twin' is claimed by fake-first 1.0 and fake-second 2.0. Choose one: "
        r"'fake-first:twin' or 'fake-second:twin'",
    ):
        kappacore.load_dataset("twin")
    assert kappacore.load_dataset("fake-first:twin") == "fake-first"
    assert kappacore.load_dataset("Fake_Second:twin") == "fake-second"


def test_a_plugin_written_for_a_newer_contract_says_to_upgrade(install):
    install("newer_api")
    assert info_of("fake-newer-api").status == "incompatible"
    assert not plugins.has("backend", "tomorrow")
    with pytest.raises(
        IncompatiblePluginError,
        match=r"'tomorrow' of fake-newer-api 9.0 is written for version 99 .* implements 1: "
        r"pip install --upgrade kappacore",
    ):
        kappacore.backend("tomorrow")


@pytest.mark.parametrize("others", [(), ("unreadable_metadata",)])
def test_metadata_of_one_distribution_found_twice_counts_once(install, tmp_path, others):
    install("ok", *others)
    for name in ("fake_ok-1.2.dist-info", "fake_ok"):
        shutil.copytree(FAKES / "ok" / name, tmp_path / name)
    (tmp_path / "fake_ok-1.2.dist-info").rename(tmp_path / "Fake.OK-1.2.dist-info")
    sys.path.insert(0, str(tmp_path))
    plugins.refresh()
    assert [i.status for i in plugins.all_plugins() if i.name == "fake-store"] == ["ok"]


def test_an_unreadable_distribution_does_not_hide_the_others(install):
    install("unreadable_metadata", "ok")
    assert plugins.has("backend", "fake-store")
    assert info_of("unreadable").status == "broken"


def test_a_distribution_without_metadata_is_still_a_plugin(install, tmp_path):
    shutil.copytree(FAKES / "ok", tmp_path, dirs_exist_ok=True)
    (tmp_path / "fake_ok-1.2.dist-info" / "METADATA").unlink()
    sys.path.insert(0, str(tmp_path))
    plugins.refresh()
    assert plugins.find("backend", "fake-store").distribution == "unknown"


def test_what_is_installed_later_is_found_after_a_refresh(install):
    assert not plugins.has("backend", "fake-store")
    install("ok")
    assert plugins.has("backend", "fake-store")


def test_the_plugins_of_this_repository_are_installed_and_found():
    shared = plugins.find("backend", "shared")
    assert (shared.distribution, shared.scope, shared.aliases) == (
        "kappa-shared",
        "machine",
        ("shared-dict",),
    )
    assert plugins.find("backend", "shared-dict") is shared
    folder = plugins.find("source", "imagefolder")
    assert (folder.distribution, folder.target) == (
        "kappa-imagefolder",
        "kappa_imagefolder.dataset:ImageFolder",
    )
