from __future__ import annotations

import contextlib
import re
import warnings

import pytest

import kappacore
from kappacore import plugins
from kappacore.caching.backends.base import CacheBackend, backend_class
from kappacore.caching.engine.client import BackendClient
from kappacore.errors import (
    BrokenPluginError,
    CacheWarning,
    InvalidOptionError,
    SizeLimitError,
    UnknownOptionError,
    UnknownPluginError,
)
from support.caching import (
    RecordingBackend,
    load_bytes,
    namespaces_in,
    open_cache,
    open_files,
    remove_kept,
    run_script,
)


class MachineBackend(RecordingBackend):
    """Entries outlive the process, and it knows nothing of lifetimes."""

    scope = "machine"


class NoScope(RecordingBackend):
    scope = "galaxy"


class NeedsServer(RecordingBackend):
    def __init__(self, namespace, length):
        raise RuntimeError("no server there")


@pytest.fixture(autouse=True)
def backends():
    """Backends of this file, registered under their names."""
    RecordingBackend.reset()
    given = {"machine": MachineBackend, "function": dict, "server": NeedsServer}
    for name, backend in given.items():
        scope = None if issubclass(backend, RecordingBackend) else "process"
        kappacore.register_cache_backend(name, backend, scope=scope)
    yield
    for name in given:
        kappacore.plugins.unregister_cache_backend(name)


def names(calls):
    return [name for name, _ in calls]


# ---- bad input


def test_an_unknown_backend_is_refused():
    with pytest.raises(UnknownPluginError, match=r"(?s)shred.*shared"):
        open_cache("shred")


def test_an_unknown_option_is_refused_with_those_there_are():
    expected = r"cache backend 'memory' has no option 'max_byte'. Did you mean 'max_bytes'\?"
    with pytest.raises(UnknownOptionError, match=expected):
        open_cache("memory", options={"max_byte": 1})


@pytest.mark.parametrize("option", ["namespace", "length", "keep"])
def test_what_the_core_gives_is_no_option(option):
    with pytest.raises(UnknownOptionError, match=f"is given '{option}' by kappacore"):
        open_cache("shared", options={option: 1})


def test_what_is_no_backend_is_refused():
    expected = r"The cache backend 'function' is <class 'dict'>; expected a class derived from"
    with pytest.raises(BrokenPluginError, match=expected):
        open_cache("function")


def test_a_scope_that_does_not_exist_is_refused():
    ref = plugins.PluginRef("backend", "galaxy", "x:y", registered=NoScope)
    expected = r"has scope='galaxy'; expected the class attribute scope to be 'process', 'machine'"
    with pytest.raises(BrokenPluginError, match=expected):
        backend_class(ref)


def test_a_backend_that_cannot_be_opened_is_named_and_costs_no_run(cache_folder):
    expected = r"^The cache backend 'server' failed: RuntimeError: no server there. Samples are"
    with pytest.warns(CacheWarning, match=expected):
        cache = open_cache("server", fingerprint=None, namespace="named")
    assert cache.fetch([1, 2], load_bytes()) == load_bytes()([1, 2])  # says it no second time
    assert (cache.stats().source_reads, cache.stats().backend_errors) == (2, 1)
    cache.close()


def test_a_method_that_is_missing_is_its_authors_mistake():
    class Half(RecordingBackend):
        put = CacheBackend.put

    ref = plugins.PluginRef("backend", "half", "x:y", registered=Half)
    with pytest.raises(
        BrokenPluginError, match=r"'half' \(.*Half\) does not define put. A backend"
    ):
        backend_class(ref)


def test_keep_is_refused_where_entries_cannot_outlive_the_process():
    expected = r"keep= was given, but entries of the cache backend 'memory' cannot outlive"
    with pytest.raises(InvalidOptionError, match=expected):
        open_cache("memory", keep=60.0)


# ---- when entries are cleared, for a backend that never clears them itself


def test_the_last_user_clears_what_is_not_kept():
    one, two = open_cache("machine"), open_cache("machine")
    RecordingBackend.take_calls()
    one.close()
    assert names(RecordingBackend.take_calls()) == ["close"]
    two.close()
    assert names(RecordingBackend.take_calls()) == ["clear", "close"]


def test_nobody_clears_what_is_kept(cache_folder):
    cache = open_cache("machine", keep=60.0)
    cache.close()
    assert "clear" not in names(RecordingBackend.take_calls())
    assert RecordingBackend.values
    assert remove_kept(cache_folder)


def test_users_of_another_backend_do_not_count_as_users():
    memory, machine = open_cache("memory"), open_cache("machine")
    memory.fetch([1, 2], load_bytes())
    assert (memory.stats().source_reads, machine.stats().source_reads) == (2, 0)
    machine.close()
    assert "clear" in names(RecordingBackend.take_calls())
    memory.close()


@pytest.mark.slow
def test_the_last_user_clears_at_the_end_of_the_program_too(tmp_path):
    out = run_script(
        tmp_path,
        """
        import kappacore
        from support.caching import RecordingBackend, open_cache

        @kappacore.register_cache_backend("on-disk")
        class OnDisk(RecordingBackend):
            scope = "machine"

            def clear(self):
                print("cleared")

            def close(self):
                print("closed")

        cache = open_cache("on-disk")
        """,
    )
    assert out == "cleared\nclosed\n"


@pytest.mark.parametrize("strict", [False, True])
def test_a_failure_while_closing_still_closes_the_backend(caplog, strict):
    cache = open_cache("machine", strict=strict)
    RecordingBackend.failing.add("clear")
    RecordingBackend.take_calls()
    with pytest.raises(ConnectionError) if strict else contextlib.nullcontext():
        cache.close()
    assert names(RecordingBackend.take_calls()) == ["clear", "close"]
    assert ("could not be cleared at its end" in caplog.text) is not strict
    RecordingBackend.failing.clear()
    open_cache("machine").close()  # the next one clears


# ---- the size limit


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_a_limit_below_one_sample_is_an_error_that_says_what_one_needs(backend):
    cache = open_cache(backend, options={"max_bytes": "4KiB"})
    expected = (
        rf"^The cache '{backend}' may take 4096 bytes \(4.0 KiB\), but one sample needs 100\d\d "
        rf"bytes \(9.8 KiB\), so nothing would ever be cached. Raise max_bytes, or cache a smaller"
    )
    with pytest.raises(SizeLimitError, match=expected):
        cache.fetch([1, 2, 3], load_bytes(size=10_000))
    cache.close()


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_one_sample_above_the_limit_hinders_no_others_whatever_comes_first(backend):
    cache = open_cache(backend, options={"max_bytes": "4KiB"})
    cache.fetch([1], load_bytes(size=10_000))
    cache.fetch([2, 3], load_bytes(size=100))
    cache.fetch([2, 3], load_bytes(size=100))
    assert (cache.stats().refused, cache.stats().hits) == (1, 2)
    cache.close()


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_a_limit_below_the_header_is_the_same_error_at_once(backend):
    with pytest.raises(
        SizeLimitError, match=r"may take 10 bytes .* what the cache notes about itself needs"
    ):
        open_cache(backend, options={"max_bytes": 10})


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_a_full_cache_says_how_much_fits_and_what_all_would_need(backend):
    cache = open_cache(backend, length=20, options={"max_bytes": "9KiB"})
    with pytest.warns(CacheWarning) as caught:
        cache.fetch(list(range(10)), load_bytes(size=1000))
    fit = cache.stats().stores
    assert 6 <= fit <= 9
    expected = (
        rf"^The cache '{backend}' is full: {fit} of 20 samples \({fit / 20:.0%}\) fit into "
        rf"9.0 KiB; the others are read from the source in every epoch. All of them would need "
        rf"about max_bytes='(.*)'\.$"
    )
    found = re.match(expected, str(caught[0].message))
    assert found, caught[0].message
    cache.close()
    # The advice is right.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        larger = open_cache(backend, length=20, options={"max_bytes": found[1]})
        larger.fetch(list(range(20)), load_bytes(size=1000))
        assert larger.stats().stores == 20
        larger.close()


def test_the_warning_of_a_full_cache_comes_once_for_all_its_users():
    def open_small():
        return open_cache("shared", length=20, options={"max_bytes": "8KiB"})

    one, two = open_small(), open_small()
    with pytest.warns(CacheWarning, match="'shared' is full"):
        one.fetch(list(range(10)), load_bytes(size=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two.fetch(list(range(10, 20)), load_bytes(size=1000))
    assert two.stats().refused > 10
    one.close()
    two.close()


# ---- what a client leaves


def test_a_client_that_cannot_open_its_backend_leaves_nothing(cache_folder):
    ref = plugins.as_ref("backend", "server", {})
    with pytest.raises(RuntimeError, match="no server there"):
        BackendClient(ref, "name", 3, keep=0, strict=True)
    import gc

    gc.collect()
    assert namespaces_in(cache_folder) == []


class WithoutClaims(CacheBackend):
    """A backend of two methods; the engine keeps its claims in a file."""

    scope = "machine"

    def __init__(self, namespace, length):
        self.values = {}

    def get(self, key):
        return self.values.get(key)

    def put(self, key, value):
        self.values[key] = b"".join(value)
        return True

    def clear(self):
        self.values.clear()


def test_a_closed_cache_keeps_no_file_open_though_it_is_still_referred_to():
    kappacore.register_cache_backend("without-claims", WithoutClaims)
    try:
        open_cache("without-claims").close()  # what is opened once stays so
        before = open_files()
        cache = open_cache("without-claims")
        cache.fetch([1], load_bytes())
        cache.close()
        assert open_files() == before
        assert cache.stats().misses == 1
    finally:
        kappacore.plugins.unregister_cache_backend("without-claims")
