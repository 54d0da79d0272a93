"""The backend of a cached dataset: how it is chosen, shared with copies, and closed."""

from __future__ import annotations

import pickle

import pytest

import kappacore
from kappacore import CachedDataset, CacheWrapper
from kappacore.errors import (
    CacheClosedError,
    InvalidOptionError,
    SizeLimitError,
    UnknownOptionError,
    UnknownPluginError,
)
from support.cache_sources import SMALL, Samples
from support.caching import RecordingBackend, namespaces_in


@pytest.mark.parametrize(
    "choice",
    [
        "auto",
        "shared",
        "kappa-shared:shared",
        {"use": "shared", "max_bytes": "1MiB"},
        kappacore.backend("shared", max_bytes="1MiB"),
    ],
)
def test_a_backend_is_chosen_by_name_mapping_or_choice(log, choice):
    options = SMALL if isinstance(choice, str) else {}
    with CachedDataset(Samples(log), choice, **options) as cached:
        assert cached[1] == cached[1]
        assert cached._cache.ref.name == "shared"
        assert cached.stats().hits == 1


def test_an_unknown_backend_and_unknown_options_are_refused(log):
    with pytest.raises(UnknownPluginError, match=r"(?s)'memroy'.*memory"):
        CachedDataset(Samples(log), "memroy")
    with pytest.raises(UnknownOptionError, match=r"'memory' has no option 'maxbytes'"):
        CachedDataset(Samples(log), "memory", maxbytes="1GiB")
    with pytest.raises(InvalidOptionError, match="keep='a while' is not a duration"):
        CachedDataset(Samples(log), "shared", keep="a while")
    with pytest.raises(InvalidOptionError, match="max_bytes='a lot' is not a size"):
        CachedDataset(Samples(log), "shared", max_bytes="a lot")
    with pytest.raises(InvalidOptionError, match="check_digests='no' is not known"):
        CachedDataset(Samples(log), "memory", check_digests="no")


def test_the_old_name_of_check_digests_is_refused_with_the_new_one(log):
    expected = r"no option 'verify'.* The cache's own verify= is called check_digests= now\.$"
    for given in ({}, {"namespace": "n"}):
        with pytest.raises(UnknownOptionError, match=expected):
            CachedDataset(Samples(log), "memory", verify="always", **given)
    dataset = kappacore.as_kd(Samples(log))
    with pytest.raises(UnknownOptionError, match=expected):
        CacheWrapper(dataset, "memory", verify="always")
    expected = r"verify= is called check_digests= now\.$"
    with pytest.raises(InvalidOptionError, match=expected):
        CachedDataset(Samples(log), ["memory", "shared"], verify="always")
    with pytest.raises(InvalidOptionError, match=expected):
        CacheWrapper(dataset, items={"x": "memory"}, verify="always")


class Verifying(RecordingBackend):
    """A backend with an option of that name."""

    def __init__(self, namespace, length, *, verify):
        super().__init__(namespace, length)
        self._note("verify", verify)


def test_a_backend_may_have_an_option_verify(log, recording):
    kappacore.register_cache_backend("verifying", Verifying)
    CachedDataset(Samples(log), "verifying", verify="a certificate").close()
    kappacore.plugins.unregister_cache_backend("verifying")
    assert ("verify", "a certificate") in recording.take_calls()


def test_a_limit_below_one_sample_is_an_error(log, backend):
    with (
        CachedDataset(Samples(log, size=10_000), backend, max_bytes="2KiB") as cached,
        pytest.raises(SizeLimitError, match=r"may take 2048 bytes .* one sample needs 10"),
    ):
        cached[:3]


def test_closing_leaves_nothing_and_using_it_afterwards_is_an_error(log, cache_folder, backend):
    cached = CachedDataset(Samples(log), backend, **SMALL)
    cached[1]
    cached.dispose()
    cached.close()
    assert namespaces_in(cache_folder) == []
    with pytest.raises(CacheClosedError, match="The cache of Samples was closed"):
        cached[1]
    assert len(cached) == 10
    assert cached.stats().source_reads == 1


def test_clear_empties_it_for_all(log, backend):
    one = CachedDataset(Samples(log), backend, namespace="n", **SMALL)
    two = CachedDataset(Samples(log), backend, namespace="n", **SMALL)
    one[1]
    two.clear()
    assert one[1] == one.dataset.sample(1)
    assert one.dataset.log.count() == {1: 2}
    one.close()
    two.close()


def test_it_pickles_small_and_its_copy_finds_the_samples(log):
    with CachedDataset(Samples(log), "shared", namespace="n", **SMALL) as cached:
        cached[1]
        pickled = pickle.dumps(cached)
        source = len(pickle.dumps(cached.dataset))
        assert len(pickled) - source < 2000
        with pickle.loads(pickled) as copy:
            assert copy[1] == cached[1]
        assert cached.dataset.log.count() == {1: 1}
