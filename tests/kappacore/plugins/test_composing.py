from __future__ import annotations

import sys
import types
from collections import UserDict, UserList

import pytest

import kappacore
from kappacore.errors import (
    BrokenPluginError,
    ConfigError,
    InvalidOptionError,
    KappaError,
    ModeError,
    UnknownOptionError,
    UnknownPluginError,
)
from support.fake_plugins import installed


@pytest.fixture(autouse=True)
def _fakes():
    with installed("ok"):
        yield


class Digits(kappacore.KDDataset):
    def __init__(self, length=4, start=0):
        self.length, self.start = length, start

    def __len__(self):
        return self.length

    def getitem_x(self, idx, ctx=None):
        return self.start + idx


class Scale:
    """An object that configurations make."""

    def __init__(self, by=2, inner=None):
        self.by, self.inner = by, inner

    def __call__(self, value):
        return value * self.by

    @classmethod
    def twice(cls):
        return cls(2)


def fails():
    raise ZeroDivisionError("by nothing")


def fails_as_kappacore():
    raise InvalidOptionError("by must not be 0")


def here(name):
    """Return the text by which a configuration names something of this file."""
    return f"composing_objects.{name}"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    module = types.ModuleType("composing_objects")  # test files have no name to be imported by
    vars(module).update(Scale=Scale, fails=fails, fails_as_kappacore=fails_as_kappacore, NUMBER=3)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def digits():
    kappacore.register_source("digits", Digits)


# ---- by name in code


def test_a_source_is_loaded_by_name_with_its_options():
    source = kappacore.load_dataset("fake-source", root="/data", limit=5)
    assert (source.root, len(source)) == ("/data", 5)


def test_a_source_is_loaded_from_plain_data():
    source = kappacore.load_dataset({"use": "fake-source", "root": "/data"}, limit=5)
    assert (source.root, len(source)) == ("/data", 5)


def test_a_dataset_is_wrapped_by_name():
    source = kappacore.load_dataset("fake-source", root="/data")
    assert kappacore.wrap(source, "fake-wrap")[1] == "/DATA/1"
    assert kappacore.wrap(source, "fake-wrap", function=len)[1] == 7
    assert kappacore.wrap(source, {"use": "fake-wrap", "function": len})[1] == 7


def test_an_unknown_source_says_what_there_is():
    with pytest.raises(UnknownPluginError, match=r"Did you mean 'fake-source'\?"):
        kappacore.load_dataset("fake-sorce", root="/data")


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(
        UnknownOptionError, match=r"source 'fake-source' has no option 'path'\. .*: root, limit\."
    ):
        kappacore.load_dataset("fake-source", path="/data")
    with pytest.raises(UnknownOptionError, match=r"wrapper 'fake-wrap' .* options: function\."):
        kappacore.wrap([], "fake-wrap", fn=len)
    with pytest.raises(UnknownOptionError, match="is given 'dataset' by kappacore"):
        kappacore.wrap([], "fake-wrap", dataset=[])


def test_a_missing_option_is_named():
    with pytest.raises(InvalidOptionError, match=r"source 'fake-source' needs 'root'"):
        kappacore.load_dataset("fake-source")


def test_the_cores_own_wrappers_are_known_by_name():
    dataset = kappacore.wrap(Digits(), "transform", transform=Scale(10))
    dataset = kappacore.wrap(dataset, "subset", indices=[3, 1])
    assert list(kappacore.ModeWrapper(dataset, "x")) == [30, 10]


# ---- from a configuration


def test_a_configuration_gives_source_wrappers_and_mode(digits):
    dataset = kappacore.build(
        {
            "source": {"use": "digits", "length": 5, "start": 1},
            "wrappers": [
                {"use": "subset", "indices": [4, 0]},
                {"use": "transform", "item": "x", "transform": {"_target_": here("Scale")}},
            ],
            "mode": "index x",
        }
    )
    assert list(dataset) == [(0, 10), (1, 2)]


def test_keywords_give_the_same_as_a_configuration(digits):
    parts = {
        "source": {"use": "digits", "start": 1},
        "wrappers": [{"use": "subset", "indices": [3]}],
        "mode": "x",
    }
    assert list(kappacore.build(parts)) == list(kappacore.build(**parts)) == [4]


def test_names_alone_are_enough(digits):
    kappacore.register_wrapper("nothing", lambda dataset: dataset)
    dataset = kappacore.build(source="digits", wrappers=["nothing"])
    assert isinstance(dataset, Digits)
    assert isinstance(kappacore.build({"source": "digits", "wrappers": None}), Digits)


def test_a_dataset_that_is_already_one_is_taken_as_it_is():
    digits = Digits()
    assert kappacore.build(source=digits) is digits
    assert list(kappacore.build(source=digits, mode="x")) == [0, 1, 2, 3]


def test_a_source_may_be_a_target():
    source = {"_target_": "fake_ok.targets.Source", "root": "/data"}
    assert kappacore.build(source=source)[0] == "/data/0"


def test_a_configuration_may_be_any_mapping_and_its_lists_any_sequence(digits):
    config = UserDict(
        source=UserDict(use="digits"),
        wrappers=UserList([UserDict(use="subset", indices=UserList([2]))]),
        mode="x",
    )
    assert list(kappacore.build(config)) == [2]


def test_a_configuration_is_left_as_it_was(digits):
    config = {
        "source": {"use": "digits"},
        "wrappers": [{"use": "transform", "transform": {"_target_": here("Scale"), "by": 3}}],
    }
    first = kappacore.build(config, mode=None)
    assert config["wrappers"][0]["transform"] == {"_target_": here("Scale"), "by": 3}
    assert kappacore.build(config) is not first


def test_targets_are_called_at_any_depth_and_found_inside_classes():
    captured = {}
    kappacore.register_wrapper("capture", lambda dataset, **options: captured.update(options))
    scale = {"_target_": here("Scale"), "by": 3, "inner": {"_target_": here("Scale.twice")}}
    kappacore.build(
        source=Digits(),
        wrappers=[{"use": "capture", "deep": [{"scale": scale}], "plain": {"a": (1, "b")}}],
    )
    made = captured["deep"][0]["scale"]
    assert (made.by, made.inner.by) == (3, 2)
    assert captured["plain"] == {"a": (1, "b")}


def test_objects_among_the_options_are_passed_on_untouched():
    captured = {}
    kappacore.register_wrapper("capture", lambda dataset, **options: captured.update(options))
    scale, numbers = Scale(), range(3)
    kappacore.build(
        source=Digits(), wrappers=[{"use": "capture", "scale": scale, "numbers": numbers}]
    )
    assert captured["scale"] is scale
    assert captured["numbers"] is numbers


# ---- what is wrong, and where


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({}, ConfigError, r"^source: is missing: expected a name, .* There are: .*fake-source"),
        ({"source": 3}, ConfigError, r"^source: 3 chooses no source: expected a name"),
        ({"source": ["a"]}, ConfigError, r"^source: \['a'\] chooses no source"),
        ({"source": {"root": "/"}}, ConfigError, r"^source: \{'root': '/'\} chooses no source"),
        ({"source": "fake-sorce"}, UnknownPluginError, "^source: There is no source 'fake-sorce'"),
        (
            {"sourc": "digits"},
            ConfigError,
            "^'sourc' is not a key of a config: .*wrappers",
        ),
        (
            {"source": "digits", "wrappers": "subset"},
            ConfigError,
            "^wrappers is 'subset': expected a list",
        ),
        (
            {"source": "digits", "wrappers": {"use": "subset"}},
            ConfigError,
            r"^wrappers is \{'use': 'subset'\}: expected a list",
        ),
        (
            {"source": "digits", "wrappers": [None]},
            ConfigError,
            r"^wrappers\[0\]: None chooses no wrapper",
        ),
        (
            {"source": "digits", "wrappers": ["cache", {"use": "subset", "indexes": [1]}]},
            UnknownOptionError,
            r"^wrappers\[1\]: wrapper 'subset' has no option 'indexes'.*'indices'",
        ),
        (
            {"source": "digits", "wrappers": [{"use": "transform"}]},
            InvalidOptionError,
            r"^wrappers\[0\]: wrapper 'transform' needs 'transform'",
        ),
        ({"source": "digits", "mode": ""}, ModeError, "^mode: "),
        (
            {"source": "fake-raises"},
            BrokenPluginError,
            r"^source: source 'fake-raises' of fake-ok 1\.2 raised ValueError: the moon is full",
        ),
        (3, ConfigError, "^config is 3: expected a mapping with the keys source, wrappers, mode"),
    ],
)
def test_an_error_begins_with_its_place_in_the_configuration(digits, config, error, message):
    kappacore.register_wrapper("cache", lambda dataset: dataset, override=True)
    with pytest.raises(error, match=message) as caught:
        kappacore.build(config)
    assert isinstance(caught.value, KappaError)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"_target_": "no_such_module.Thing"}, r"\._target_: there is no module 'no_such_module'"),
        ({"_target_": here("Nothing")}, r"\._target_: composing_objects has no Nothing"),
        (
            {"_target_": here("NUMBER")},
            r"\._target_: .*NUMBER is 3; expected a class or a function",
        ),
        ({"_target_": "Thing"}, r"\._target_: 'Thing' names nothing that can be imported"),
        ({"_target_": 3}, r"\._target_: 3 names nothing that can be imported"),
        ({"_target_": here("fails")}, r": composing_objects.fails raised ZeroDivisionError: by no"),
        ({"_target_": here("fails_as_kappacore")}, ": by must not be 0"),
        ({"_target_": here("Scale"), "bye": 1}, r": .*Scale has no option 'bye'\. .*: by, inner"),
        ({"_target_": here("Scale"), "_partial_": True}, r"\._partial_: cannot be given to"),
    ],
)
def test_a_target_that_cannot_be_made_is_an_error_at_its_place(digits, target, message):
    wrapper = {"use": "transform", "transform": [target]}
    with pytest.raises(KappaError, match=rf"^wrappers\[0\]\.transform\[0\]{message}"):
        kappacore.build({"source": "digits", "wrappers": [wrapper]})


def test_a_configuration_and_keywords_together_are_refused():
    with pytest.raises(ConfigError, match="a config and keywords as well"):
        kappacore.build({"source": "digits"}, mode="x")
