"""An in-house backend whose methods raise, lie or take long, at each point in time.

No run ends, no sample is wrong, everything is counted and said once; an answer of the wrong type is
its author's mistake, and named.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import warnings

import pytest
from torch.utils.data import DataLoader

import kappacore
from kappacore.cli import main
from kappacore.errors import BrokenPluginError, CacheWarning
from support.caching import namespaces_in, remove_kept
from support.hostile import Hostile, HostileClaims

LENGTH = 8
SAMPLES = [([idx, b"x" * 20], idx % 3) for idx in range(LENGTH)]

METHODS = ["__init__", "get", "put", "get_many", "put_many", "info", "close", "clear", "namespaces"]
CLAIMS = ["claim_many", "release_many"]


class Source(kappacore.KDDataset):
    def __len__(self):
        return LENGTH

    def getitem_x(self, idx, ctx=None):
        return [idx, b"x" * 20]

    def getitem_class(self, idx, ctx=None):
        return idx % 3


@pytest.fixture(autouse=True)
def hostile(cache_folder):
    """The backends of this file; what could not be cleared is for the next one to open it."""
    kappacore.register_cache_backend("hostile", Hostile)
    kappacore.register_cache_backend("hostile-claims", HostileClaims)
    yield
    kappacore.plugins.unregister_cache_backend("hostile")
    kappacore.plugins.unregister_cache_backend("hostile-claims")
    if namespaces_in(cache_folder):
        gc.collect()
        assert all("/lifetimes/" in name for name in remove_kept(cache_folder))


def chosen(path, method, tier=None, **options):
    name = "hostile-claims" if method in CLAIMS else "hostile"
    ref = kappacore.backend(name, path=str(path), method=method, **options)
    return {None: ref, 0: [ref, "memory"], 1: ["memory", ref]}[tier]


def use(backend, *, item="x", strict=False, context=None):
    """Do all that is done with a cache; return its counters."""
    with kappacore.CacheWrapper(
        Source(), backend, items=item, namespace="named", strict=strict
    ) as cached:
        dataset = kappacore.ModeWrapper(cached, "x class")
        assert [dataset[idx] for idx in range(LENGTH)] == SAMPLES
        cached.prefill(progress=False)
        assert kappacore.ClassFilterWrapper(cached, [1]).indices.tolist() == [1, 4, 7]
        if context is not None:
            loader = DataLoader(
                dataset,
                4,
                num_workers=2,
                collate_fn=list,
                multiprocessing_context=context,
            )
            for _ in range(2):
                assert list(itertools.chain(*loader)) == SAMPLES
        for _ in range(2):
            assert dataset[:] == SAMPLES
        assert kappacore.explain(dataset)
    return cached.stats()


@pytest.mark.parametrize("after", [0, 1, 5])
@pytest.mark.parametrize("tier", [None, 0, 1], ids=["alone", "first", "second"])
@pytest.mark.parametrize("method", METHODS + CLAIMS)
def test_a_method_that_raises_ends_no_run_and_is_said_once(tmp_path, caplog, method, tier, after):
    caplog.set_level(logging.WARNING)
    for item in ("x", "class"):  # a value a key; a column
        caplog.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stats = use(chosen(tmp_path / item, method, tier, after=after), item=item)
        said = [str(each.message) for each in caught] + [
            each.getMessage() for each in caplog.records
        ]
        said = [each for each in said if not each.startswith("prefill ends after 8 samples")]
        assert len(said) <= 1, said
        assert len(said) == (stats.backend_errors > 0)
        assert all(f"{method} does not work today" in each for each in said)
        if after == 0 and method not in ("namespaces", *(["clear"] if tier == 1 else [])):
            assert said or method in ("info", "get", "get_many")  # not each is called


def test_a_first_look_that_raises_ends_no_run(tmp_path):
    with pytest.warns(CacheWarning, match="'hostile' failed: prepare.. raised RuntimeError: prepa"):
        stats = use(chosen(tmp_path, "prepare"))
    assert stats.stores == LENGTH
    with pytest.raises(BrokenPluginError, match="'hostile' answered 'text' to prepare; expected a"):
        use(chosen(tmp_path, "prepare", how="nonsense"))
    with pytest.raises(RuntimeError, match="prepare does not work today"):
        use(chosen(tmp_path, "prepare"), strict=True)


def test_a_private_network_cache_that_does_not_know_its_lifetime_is_cleared(tmp_path, caplog):
    private = kappacore.backend("hostile-claims", path=str(tmp_path), method="is_temporary")
    with kappacore.CachedDataset([1, 2], private) as cached:
        assert cached[:] == [1, 2]
    assert "is_temporary of the cache backend 'hostile-claims' failed" in caplog.text
    assert not list(tmp_path.glob("*/*.value"))


@pytest.mark.parametrize("method", ["__init__", "get", "put", "claim_many", "close"])
def test_a_strict_cache_raises_what_a_method_raises(tmp_path, method):
    with pytest.raises(RuntimeError, match=f"{method} does not work today"):
        use(chosen(tmp_path, method), strict=True)


@pytest.mark.parametrize(
    ("method", "after"),
    [*itertools.product(["get", "put", "get_many", "put_many", "claim_many"], [0, 3]), ("info", 0)],
)
def test_an_answer_of_the_wrong_type_is_its_authors_mistake_and_named(tmp_path, method, after):
    with pytest.raises(BrokenPluginError, match=r"^The cache backend 'hostile.*' answered .*; exp"):
        use(chosen(tmp_path, method, how="nonsense", after=after))


@pytest.mark.parametrize("method", ["close", "clear", "release_many", "namespaces"])
def test_an_answer_that_nobody_needs_is_not_looked_at(tmp_path, method):
    stats = use(chosen(tmp_path, method, how="nonsense"))
    assert (stats.backend_errors, stats.stores) == (0, LENGTH)


@pytest.mark.parametrize("method", ["get", "put", "claim_many"])
def test_a_method_that_takes_long_is_waited_for(tmp_path, method):
    stats = use(chosen(tmp_path, method, how="slow"))
    assert (stats.backend_errors, stats.stores) == (0, LENGTH)


@pytest.mark.parametrize(
    ("method", "how", "after", "context"),
    [
        ("__init__", "raises", 0, "fork"),
        ("get_many", "raises", 2, "fork"),
        ("get", "corrupt", 2, "fork"),
        ("__init__", "raises", 0, "forkserver"),
    ],
)
@pytest.mark.filterwarnings("ignore:The cache backend")
def test_workers_too_read_on(tmp_path, method, how, after, context):
    stats = use(chosen(tmp_path, method, how=how, after=after), context=context)
    assert stats.backend_errors or stats.corrupt


def test_a_backend_that_goes_and_comes_again_and_again_serves_no_wrong_sample(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("kappacore.caching.engine.client._RETRY_AFTER", 0.0)
    down = tmp_path / "down"
    down.touch()
    with pytest.warns(CacheWarning, match="connection refused"):
        cached = kappacore.CachedDataset(
            [sample for sample, _ in SAMPLES], chosen(tmp_path, ""), namespace="named"
        )
    for turn in range(40):
        (down.unlink if down.exists() else down.touch)()
        if turn % 7 == 6:  # somebody clears the folder meanwhile
            for file in tmp_path.glob("*/*.value"):
                file.unlink()
        assert cached[turn % LENGTH] == SAMPLES[turn % LENGTH][0]
        assert cached[:] == [sample for sample, _ in SAMPLES]
    assert cached.stats().hits > LENGTH
    cached.close()


def test_a_failure_to_clear_is_raised_and_counted(tmp_path):
    with kappacore.CachedDataset([1, 2], chosen(tmp_path, "clear", after=0), namespace="n") as ds:
        ds[:]
        with pytest.raises(RuntimeError, match="clear does not work today"):
            ds.clear()
        assert ds.stats().backend_errors == 1
        assert ds[:] == [1, 2]


# ---- on the command line


@pytest.mark.parametrize(("how", "expected"), [("raises", "not work"), ("nonsense", "'text'")])
@pytest.mark.parametrize("command", [["ls"], ["info", "n"], ["clear", "n"]])
def test_the_command_names_a_backend_that_cannot_list_its_caches(capsys, how, expected, command):
    options = {"path": "x", "method": "namespaces", "how": how}
    given = itertools.chain(
        *(("--opt", f"{key}={json.dumps(value)}") for key, value in options.items())
    )
    assert main(["cache", *command, "--backend", "hostile", *given]) == 1
    error = capsys.readouterr().err
    assert "The cache backend 'hostile'" in error
    assert expected in error


# ---- what opening and looking cost


@pytest.mark.parametrize("length", [10, 20_000])
@pytest.mark.parametrize("namespace", [None, "named"])
@pytest.mark.parametrize("check", [True, False])
def test_opening_and_looking_cost_the_same_whatever_the_length(recording, length, namespace, check):
    with kappacore.CachedDataset(
        range(length), "recording", namespace=namespace, check=check
    ) as cached:
        recording.take_calls()
        cached.explain()
        calls = recording.take_calls()
        assert len(calls) <= 2, calls
        cached[0]
        assert keys_asked_for(recording.take_calls()) <= 10
        kappacore.explain(cached)
        assert keys_asked_for(recording.take_calls()) <= 8 * 16
    with kappacore.CachedDataset(range(length), "recording", namespace=namespace, check=check):
        assert keys_asked_for(recording.take_calls()) <= 4


def keys_asked_for(calls):
    return sum(len(what) if isinstance(what, list) else 1 for _, what in calls)
