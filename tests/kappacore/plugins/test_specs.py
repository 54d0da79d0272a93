from __future__ import annotations

import pytest

from kappacore.errors import InvalidOptionError
from kappacore.plugin_api import CacheBackendSpec, SourceSpec, WrapperSpec

GOOD = {"name": "mine", "target": "my_package.backend:Mine", "api": 1}


@pytest.mark.parametrize("name", ["mine", "my-cache", "my_cache2", "2nd"])
def test_a_spec_accepts_ordinary_names(name):
    assert WrapperSpec(**{**GOOD, "name": name}).name == name


@pytest.mark.parametrize("name", ["", "Mine", "-mine", "my cache", "a:b", "mine\n", None, 3])
def test_a_spec_refuses_a_name_that_cannot_be_typed_everywhere(name):
    with pytest.raises(InvalidOptionError, match=r"cannot be the name of a plugin.*'my-cache'"):
        SourceSpec(**{**GOOD, "name": name})


def test_a_plugin_cannot_have_the_name_that_stands_for_others():
    """A cache with ``backend="auto"`` would never ask for it."""
    for spec in ({"name": "auto"}, {"aliases": ("auto",)}):
        with pytest.raises(InvalidOptionError, match="'auto' cannot be the name of a plugin: it"):
            CacheBackendSpec(**{**GOOD, **spec}, scope="process")


@pytest.mark.parametrize("target", ["a:b", "a.b:C", "a.b:C.make"])
def test_a_spec_accepts_targets_that_name_an_attribute(target):
    assert WrapperSpec(**{**GOOD, "target": target}).target == target


@pytest.mark.parametrize("target", ["", "a.b", "a.b.C", ":C", "a:", "a b:C", "a:<lambda>", None])
def test_a_spec_refuses_a_target_that_cannot_be_imported(target):
    with pytest.raises(InvalidOptionError, match=r"expected 'package\.module:attribute'"):
        WrapperSpec(**{**GOOD, "target": target})


@pytest.mark.parametrize("api", [0, -1, "1", None, True, 1.0])
def test_a_spec_refuses_an_api_that_is_no_version(api):
    with pytest.raises(InvalidOptionError, match=r"api .* of 'mine' is not a version"):
        WrapperSpec(**{**GOOD, "api": api})


def test_a_spec_refuses_one_text_where_a_tuple_is_meant():
    with pytest.raises(InvalidOptionError, match=r"aliases 'other' of 'mine': expected a tuple"):
        WrapperSpec(**GOOD, aliases="other")
    with pytest.raises(InvalidOptionError, match=r"requires \['redis'\] of 'mine'"):
        WrapperSpec(**GOOD, requires=["redis"])
    with pytest.raises(InvalidOptionError, match="summary 3 of 'mine'"):
        WrapperSpec(**GOOD, summary=3)


def test_a_spec_refuses_a_bad_alias():
    with pytest.raises(InvalidOptionError, match="alias 'Other' cannot be the name"):
        WrapperSpec(**GOOD, aliases=("Other",))


def test_a_backend_says_who_sees_what_it_stores():
    assert CacheBackendSpec(**GOOD, scope="machine").scope == "machine"
    with pytest.raises(TypeError, match="scope"):
        CacheBackendSpec(**GOOD)
    with pytest.raises(InvalidOptionError, match="scope 'planet' does not exist: expected"):
        CacheBackendSpec(**GOOD, scope="planet")


def test_specs_are_given_by_keyword_and_cannot_be_changed():
    with pytest.raises(TypeError):
        WrapperSpec("mine", "a:b", 1)
    with pytest.raises(AttributeError):
        WrapperSpec(**GOOD).name = "other"
