from __future__ import annotations

import pytest

import kappacore
from kappacore import plugins
from kappacore.errors import ConfigError, InvalidOptionError, UnknownPluginError
from kappacore.plugins import registry


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UnknownPluginError, match=r"There is no cache backend 'nothing-like-it'"):
        kappacore.backend("nothing-like-it")
    with pytest.raises(UnknownPluginError, match=r"There are: cache, .*subset, transform"):
        kappacore.wrap([], "nothing-like-it")


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownPluginError, match=r"Did you mean 'memory'\?"):
        kappacore.backend("memroy")


@pytest.mark.parametrize(
    ("kind", "name", "distribution"),
    [
        ("backend", "redis", "kappa-redis"),
        ("backend", "shared", "kappa-shared"),
        ("backend", "shared-dict", "kappa-shared"),
        ("source", "imagefolder", "kappa-imagefolder"),
        ("device", "cuda", "kappa-cuda"),
    ],
)
def test_a_published_plugin_that_is_not_installed_says_what_to_install(
    monkeypatch, kind, name, distribution
):
    monkeypatch.setenv("KAPPACORE_PLUGIN_AUTOLOAD", "0")
    plugins.refresh()
    with pytest.raises(UnknownPluginError, match=f"`pip install {distribution}`"):
        plugins.ref(kind, name, {})


def test_a_misspelt_published_name_says_both(monkeypatch):
    monkeypatch.setitem(registry.PUBLISHED["backend"], "redos", "kappa-redos")
    with pytest.raises(
        UnknownPluginError, match=r"Did you mean 'redos'\? 'redos' .* `pip install kappa-redos`"
    ):
        kappacore.backend("redoss")


def test_a_published_plugin_that_is_installed_but_blocked_is_not_to_be_installed(monkeypatch):
    monkeypatch.setenv("KAPPACORE_DISABLE_PLUGINS", "kappa-shared")
    plugins.refresh()
    with pytest.raises(UnknownPluginError, match=r"kappa-shared .* is blocked") as caught:
        kappacore.backend("shared")
    assert "pip install" not in str(caught.value)


def test_a_name_of_another_kind_says_so():
    with pytest.raises(UnknownPluginError, match="'memory' is a cache backend"):
        kappacore.wrap([], "memory")


def test_an_unknown_distribution_before_the_name_is_not_ignored():
    with pytest.raises(UnknownPluginError, match="There is no cache backend 'no-such-dist:memory'"):
        kappacore.backend("no-such-dist:memory")


def test_every_way_of_choosing_gives_the_same_ref():
    by_name = plugins.as_ref("backend", "memory", {"max_bytes": 5})
    assert by_name == plugins.as_ref("backend", {"use": "memory", "max_bytes": 5})
    assert by_name == plugins.as_ref("backend", {"use": "memory"}, {"max_bytes": 5})
    assert by_name == plugins.as_ref("backend", kappacore.backend("memory", max_bytes=5))
    assert by_name == plugins.as_ref("backend", kappacore.backend("memory"), {"max_bytes": 5})
    assert by_name == plugins.as_ref("backend", "kappacore:memory", {"max_bytes": 5})
    assert by_name.options == {"max_bytes": 5}


def test_choosing_changes_nothing_that_was_given():
    config, options = {"use": "memory", "a": 1}, {"b": 2}
    chosen = plugins.as_ref("backend", config, options)
    assert chosen.options == {"a": 1, "b": 2}
    assert (config, options) == ({"use": "memory", "a": 1}, {"b": 2})


@pytest.mark.parametrize("choice", [None, 3, {}, {"usr": "memory"}, {"use": None}, ["memory"]])
def test_what_chooses_nothing_is_refused_with_the_forms_that_do(choice):
    with pytest.raises(ConfigError, match=r'expected a name, \{"use": name, .* There.*memory'):
        plugins.as_ref("backend", choice)


def test_what_is_no_name_is_refused():
    with pytest.raises(
        ConfigError, match=r"^3 names no cache backend: expected a name\. There.*mem"
    ):
        kappacore.backend(3)


def test_a_ref_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="chooses no wrapper"):
        plugins.as_ref("wrapper", kappacore.backend("memory"))


def test_a_malformed_choice_is_shown_without_its_password():
    with pytest.raises(ConfigError) as caught:
        plugins.as_ref("backend", {"name": "redis", "password": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_an_option_given_twice_is_refused():
    with pytest.raises(ConfigError, match="cache backend 'memory' is given 'a' twice"):
        plugins.as_ref("backend", {"use": "memory", "a": 1}, {"a": 2})


def test_an_unknown_kind_lists_the_kinds():
    with pytest.raises(InvalidOptionError, match="expected one of backend, wrapper, source"):
        plugins.available("cache_backend")
