from __future__ import annotations

import copy
import functools
import pickle
import sys
import threading
import types

import pytest

import kappacore
from kappacore.errors import (
    BrokenPluginError,
    InvalidOptionError,
    UnknownOptionError,
)
from kappacore.plugins import PluginRef


def module_with(tmp_path, monkeypatch, name, text):
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return __import__(name)


def test_a_ref_survives_pickling_and_stays_small(install):
    install("ok")
    ref = kappacore.backend("fake-store", url="tcp://host", size=2)
    data = pickle.dumps(ref)
    assert len(data) < 500
    again = pickle.loads(data)
    assert again == ref
    assert hash(again) == hash(ref)
    assert again.open("ns", 4).arguments == ("ns", 4, "tcp://host", 2)


def test_a_ref_cannot_be_changed():
    with pytest.raises(AttributeError):
        kappacore.backend("memory").name = "other"


def test_refs_with_other_options_differ():
    assert kappacore.backend("memory", max_bytes=1) != kappacore.backend("memory", max_bytes=2)


def test_a_ref_shows_its_options_but_no_secrets():
    ref = PluginRef(
        "backend",
        "redis",
        "kappa_redis.backend:RedisBackend",
        {
            "url": "redis://user:hunter2@host:6379/0",
            "password": "hunter2",
            "auth_token": "hunter2",
            "API_KEY": "hunter2",
            "tls": {"client_secret": "hunter2", "verify": True},
            "long": "x" * 1000,
        },
    )
    shown = repr(ref)
    assert "hunter2" not in shown
    assert shown.startswith("PluginRef('backend', 'redis', url='redis://***@host:6379/0'")
    assert "password='***'" in shown
    assert "'verify': True" in shown
    assert len(shown) < 400


def test_a_target_that_cannot_be_imported_says_what_to_install(install):
    install("missing_requirement")
    ref = kappacore.backend("needy")
    with pytest.raises(
        BrokenPluginError,
        match=r"'needy' of fake-missing-requirement 1\.0 cannot be used: importing "
        r"fake_missing_requirement\.backend raised ModuleNotFoundError: No module named "
        r"'a_client_that_nobody_has'\. It needs: pip install 'a-client-that-nobody-has>=2'",
    ) as caught:
        ref.load()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_target_that_is_not_in_its_module_says_where_it_was_looked_for(install):
    install("missing_requirement")
    with pytest.raises(BrokenPluginError, match="fake_missing_requirement has no gone"):
        kappacore.wrap([], "gone")
    with pytest.raises(BrokenPluginError, match=r":DATA is 3, expected a class or a function"):
        kappacore.wrap([], "data")


def test_opening_checks_the_options_before_the_target_is_called(install):
    install("ok")
    with pytest.raises(
        UnknownOptionError,
        match=r"cache backend 'fake-store' has no option 'sise'\. Did you mean 'size'\? "
        r"Its options: url, size\.",
    ):
        kappacore.backend("fake-store", sise=3).open("ns", 4)
    with pytest.raises(UnknownOptionError, match="is given 'length' by kappacore; leave it out"):
        kappacore.backend("fake-store", length=3).open("ns", 4)
    with pytest.raises(InvalidOptionError, match=r"needs 'length'"):
        kappacore.backend("fake-store").open("ns")


def test_a_target_without_options_or_with_any_is_checked_fairly():
    kappacore.register_source("none", lambda: "nothing")
    kappacore.register_source("any", lambda *, needed, **more: (needed, more))
    kappacore.register_wrapper("several", lambda *datasets, shuffle=False: (datasets, shuffle))
    with pytest.raises(UnknownOptionError, match=r"has no option 'a'\. It has no options"):
        kappacore.load_dataset("none", a=1)
    with pytest.raises(InvalidOptionError, match="source 'any' needs 'needed'"):
        kappacore.load_dataset("any", a=1)
    assert kappacore.load_dataset("any", needed=1, a=2) == (1, {"a": 2})
    assert kappacore.wrap("ds", "several", shuffle=True) == (("ds",), True)


def test_what_is_registered_from_a_module_is_imported_by_name_elsewhere(tmp_path, monkeypatch):
    module = module_with(tmp_path, monkeypatch, "kept_source", "class Source:\n    pass\n")
    kappacore.register_source("kept", module.Source)
    data = pickle.dumps(kappacore.plugins.ref("source", "kept", {}))
    kappacore.plugins.unregister_source("kept")
    again = pickle.loads(data)
    assert again.target == "kept_source:Source"
    assert again.load() is module.Source


def refusal(value, **options):
    kappacore.register_source("refused", value, override=True)
    ref = kappacore.plugins.ref("source", "refused", options)
    assert ref.load() is value
    with pytest.raises(BrokenPluginError) as caught:
        pickle.dumps(ref)
    assert str(caught.value).startswith("source 'refused' cannot be sent to another process: ")
    return str(caught.value)


def test_what_no_other_process_could_import_is_refused_when_pickled():
    class Local:
        pass

    assert "it is a lambda" in refusal(lambda: 1)
    assert "Local is defined inside a function" in refusal(Local)
    assert "a partial object has no name" in refusal(functools.partial(int))
    assert "at the top level of a module" in refusal(lambda: 1)
    assert "multiprocessing_context='fork'" in refusal(lambda: 1)


def test_a_module_without_a_file_is_refused_when_pickled(monkeypatch):
    module = types.ModuleType("made_up_module")
    exec("class Source: pass", vars(module))
    monkeypatch.setitem(sys.modules, "made_up_module", module)
    assert "its module 'made_up_module' is not on the import path" in refusal(module.Source)


def test_an_object_that_its_module_no_longer_has_is_refused_when_pickled(tmp_path, monkeypatch):
    module = module_with(tmp_path, monkeypatch, "hidden_source", "class Source:\n    pass\n")
    registered = module.Source
    module.Source = None
    assert "hidden_source.Source is now None, not the object" in refusal(registered)


def test_an_option_that_does_not_pickle_is_named():
    ref = kappacore.backend("memory", max_bytes=3, lock=threading.Lock())
    with pytest.raises(BrokenPluginError, match=r"its option 'lock' is a lock that does not"):
        pickle.dumps(ref)


def test_a_ref_among_the_options_gives_its_own_reason():
    kappacore.register_cache_backend("inner", lambda: 1, scope="process")
    outer = kappacore.backend("memory", behind=kappacore.backend("inner"))
    with pytest.raises(BrokenPluginError, match=r"cache backend 'inner' .* it is a lambda"):
        pickle.dumps(outer)


def test_copies_stay_in_the_process_and_keep_the_object():
    kappacore.register_source("refused", lambda: 1)
    ref = kappacore.plugins.ref("source", "refused", {"a": [1]})
    assert copy.copy(ref) is ref
    deep = copy.deepcopy(ref)
    assert deep.load() is ref.load()
    assert deep.options == ref.options
    assert deep.options["a"] is not ref.options["a"]


def test_an_error_of_the_target_names_the_plugin_and_keeps_the_cause(install):
    install("ok")
    with pytest.raises(
        BrokenPluginError,
        match=r"source 'fake-raises' of fake-ok 1\.2 raised ValueError: the moon is full",
    ) as caught:
        kappacore.load_dataset("fake-raises")
    assert isinstance(caught.value.__cause__, ValueError)


def test_errors_about_files_pass_a_plugin_as_they_are(install):
    install("ok")
    with pytest.raises(FileNotFoundError, match="/data/train does not exist"):
        kappacore.load_dataset("fake-raises", how="missing")
