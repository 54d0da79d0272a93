from __future__ import annotations

import functools

import pytest

import kappacore
from kappacore import plugins
from kappacore.errors import InvalidOptionError, PluginConflictError, UnknownPluginError


class Mine:
    """Keeps nothing.

    And says more about it.
    """

    scope = "process"


class Other:
    scope = "machine"


def same_name_again():
    again = type("Mine", (), {"scope": "process", "__module__": __name__})
    assert again is not Mine
    return again


def test_a_class_is_registered_by_name_and_found_again():
    assert kappacore.register_cache_backend("mine", Mine) is Mine
    assert kappacore.backend("mine").load() is Mine
    info = plugins.find("backend", "mine")
    assert (info.scope, info.summary, info.distribution) == ("process", "Keeps nothing.", "")
    assert plugins.has("backend", "mine")


def test_all_three_kinds_register_as_decorators():
    @kappacore.register_cache_backend("mine", scope="network")
    class Backend:
        pass

    @kappacore.register_wrapper("mine")
    def wrapper(dataset):
        return [*dataset, 3]

    @kappacore.register_source("mine")
    def source():
        return [1, 2]

    assert plugins.find("backend", "mine").scope == "network"
    assert kappacore.wrap(kappacore.load_dataset("mine"), "mine") == [1, 2, 3]


def test_a_text_is_registered_without_being_imported():
    kappacore.register_source("lazy", "a_module_that_nobody_has:Source")
    assert plugins.has("source", "lazy")
    kappacore.register_source("counter", "collections:Counter")
    assert kappacore.load_dataset("counter") == {}


def test_a_text_that_names_a_backend_needs_the_scope():
    with pytest.raises(InvalidOptionError, match=r"'lazy' \(a.b:C\) has no scope: give scope="):
        kappacore.register_cache_backend("lazy", "a.b:C")
    kappacore.register_cache_backend("lazy", "a.b:C", scope="machine")
    assert plugins.find("backend", "lazy").scope == "machine"


def test_a_backend_whose_class_has_no_scope_is_refused():
    with pytest.raises(InvalidOptionError, match="or set `scope` on the class"):
        kappacore.register_cache_backend("dict", dict)


def test_a_scope_that_contradicts_the_class_is_refused():
    with pytest.raises(InvalidOptionError, match="scope='network', but its class has 'process'"):
        kappacore.register_cache_backend("mine", Mine, scope="network")
    with pytest.raises(InvalidOptionError, match="scope 'planet' does not exist"):
        kappacore.register_cache_backend("mine", "a:b", scope="planet")


def test_the_same_object_twice_is_no_error():
    kappacore.register_cache_backend("mine", Mine)
    kappacore.register_cache_backend("mine", Mine)
    assert kappacore.backend("mine").load() is Mine


def test_the_same_module_and_name_again_replaces_as_when_a_cell_is_run_again():
    again = same_name_again()
    kappacore.register_cache_backend("mine", Mine)
    kappacore.register_cache_backend("mine", again)
    assert kappacore.backend("mine").load() is again


def test_another_object_needs_override():
    kappacore.register_cache_backend("mine", Mine)
    with pytest.raises(PluginConflictError, match=r"'mine' exists: .*:Mine .* override=True"):
        kappacore.register_cache_backend("mine", Other)
    assert kappacore.backend("mine").load() is Mine
    kappacore.register_cache_backend("mine", Other, override=True)
    assert kappacore.backend("mine").load() is Other


def test_two_objects_without_names_are_never_the_same():
    kappacore.register_source("range", functools.partial(range, 3))
    with pytest.raises(PluginConflictError):
        kappacore.register_source("range", functools.partial(range, 4))


def test_the_name_of_an_installed_plugin_needs_override_and_comes_back(install):
    install("ok")
    with pytest.raises(PluginConflictError, match=r"fake_ok\.targets:Store of fake-ok 1\.2"):
        kappacore.register_cache_backend("fake-store", Mine)
    with pytest.raises(
        PluginConflictError, match=r"kappacore\.caching\.backends\.memory:MemoryBackend"
    ):
        kappacore.register_cache_backend("memory", Mine)
    kappacore.register_cache_backend("fake-store", Mine, override=True)
    assert kappacore.backend("fake-store").load() is Mine
    assert kappacore.backend("fake-ok:fake-store").target == "fake_ok.targets:Store"
    kappacore.plugins.unregister_cache_backend("fake-store")
    assert kappacore.backend("fake-store").target == "fake_ok.targets:Store"


def test_the_target_of_an_installed_plugin_may_register_itself(install):
    install("ok")
    kappacore.register_cache_backend("fake-store", kappacore.backend("fake-store").load())


def test_one_name_may_stand_for_one_plugin_of_each_kind():
    kappacore.register_cache_backend("mine", Mine)
    kappacore.register_wrapper("mine", Other)
    assert kappacore.backend("mine").load() is Mine


@pytest.mark.parametrize(
    "unregister",
    [
        kappacore.plugins.unregister_cache_backend,
        kappacore.plugins.unregister_wrapper,
        kappacore.plugins.unregister_source,
    ],
)
def test_taking_back_what_was_not_registered_is_an_error(unregister):
    with pytest.raises(UnknownPluginError, match="'memory' was registered in this program"):
        unregister("memory")


def test_taking_back_makes_the_name_unknown():
    kappacore.register_wrapper("mine", Mine)
    kappacore.plugins.unregister_wrapper("mine")
    with pytest.raises(UnknownPluginError):
        kappacore.wrap([], "mine")


def test_only_what_can_be_called_is_registered():
    with pytest.raises(InvalidOptionError, match=r"3 cannot be registered as source 'three'"):
        kappacore.register_source("three", 3)
    with pytest.raises(InvalidOptionError, match=r"expected 'package\.module:attribute'"):
        kappacore.register_source("three", "no colon")


def test_a_decorator_without_its_name_is_told_so():
    with pytest.raises(InvalidOptionError, match="cannot be the name of a plugin"):
        kappacore.register_wrapper(Mine)
