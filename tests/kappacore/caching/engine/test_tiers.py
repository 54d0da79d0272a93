"""Two caches, one behind the other: memory before shared, or any other pair."""

from __future__ import annotations

import functools
import pickle
import warnings
from collections import Counter

import pytest
from torch.utils.data import DataLoader

import kappacore
from kappacore import CachedDataset, CacheWrapper, ModeWrapper
from kappacore.caching.identity.determinism import samples_looked_at
from kappacore.errors import CacheWarning, ConfigError, InvalidOptionError, UnknownOptionError
from support.cache_sources import Images, Samples
from support.caching import namespaces_in, remove_kept, run_script

PAIR = [kappacore.backend("memory", max_bytes="1MiB"), {"use": "shared", "max_bytes": "1MiB"}]


@pytest.fixture
def source(log):
    return Samples(log)


def tiers(cached):
    """The statistics of each tier."""
    return [cached.stats(tier=tier) for tier in (0, 1)]


def read(dataset):
    return [dataset[idx] for idx in range(len(dataset))]


def test_a_tier_that_does_not_exist_has_no_statistics(source):
    with CachedDataset(source, PAIR, check=False) as cached:
        for tier in (2, -1, "shared"):
            with pytest.raises(
                InvalidOptionError,
                match=rf"^tier={tier!r} is not a tier of this cache. It has 0 \(memory\), 1 \(sha",
            ):
                cached.stats(tier=tier)
    with CachedDataset(source, "memory", check=False) as cached:
        read(cached)
        assert cached.stats(tier=0) == cached.stats()


def test_what_is_read_fills_both_and_comes_from_the_first(source):
    with CachedDataset(source, PAIR, check=False) as cached:
        for _ in range(3):
            assert read(cached) == [source.sample(idx) for idx in range(10)]
        assert source.log.count() == dict.fromkeys(range(10), 1)
        first, second = tiers(cached)
        assert (first.hits, first.misses, first.stores) == (20, 10, 10)
        assert (second.hits, second.misses, second.stores, second.source_reads) == (0, 10, 10, 10)


def test_a_hit_behind_is_promoted(source):
    with CachedDataset(source, PAIR[1], namespace="n", check=False) as behind:
        behind.prefill()
        with CachedDataset(source, PAIR, namespace="n", check=False) as cached:
            before = tiers(cached)[1]
            for _ in range(2):
                assert read(cached) == [source.sample(idx) for idx in range(10)]
            first, second = tiers(cached)
            second -= before
            assert (first.misses, first.stores, first.hits) == (10, 10, 10)
            assert (second.hits, second.misses, second.stores) == (10, 0, 0)  # the second time none
    assert source.log.count() == dict.fromkeys(range(10), 1)


def test_the_statistics_are_those_of_one_cache(source):
    with CachedDataset(source, PAIR, check=False) as cached:
        read(cached)
        read(cached)
        stats = cached.stats()
        assert (stats.hits, stats.misses, stats.source_reads) == (10, 10, 10)
        assert stats.hit_rate == 0.5
        first, second = tiers(cached)
        assert stats.stores == first.stores + second.stores == 20
        assert stats.seconds_source == second.seconds_source


def test_names_alone_make_a_pair(source):
    with CachedDataset(source, ["memory", "shared"], check=False) as cached:
        read(cached)
        assert [tier.ref.name for tier in cached._cache.tiers] == ["memory", "shared"]
        assert [stats.stores for stats in tiers(cached)] == [10, 10]


def test_items_can_be_cached_in_a_pair(log):
    images = Images(log)
    with CacheWrapper(images, PAIR, items="x class", check=False) as cached:
        for _ in range(2):
            pairs = list(ModeWrapper(cached, "x class"))
            assert [(int(x[0]), label) for x, label in pairs] == [(i, i % 2) for i in range(10)]
        assert images.reads() == dict.fromkeys(range(10), 1)
        assert cached.stats().hits == 20


def test_prefilling_fills_both(source):
    with CachedDataset(source, PAIR, check=False) as cached:
        assert cached.prefill() == 10
        assert [stats.stores for stats in tiers(cached)] == [10, 10]
        assert cached.prefill() == 0
        assert source.log.count() == dict.fromkeys(range(10), 1)


def test_clearing_empties_both(source):
    with CachedDataset(source, PAIR, check=False) as cached:
        read(cached)
        cached.clear()
        read(cached)
        assert source.log.count() == dict.fromkeys(range(10), 2)


def test_what_the_first_is_filled_from_is_cleared_before_it(source, monkeypatch):
    """Else a reader in between would fill it with what it was to be rid of."""
    with CachedDataset(source, PAIR, check=False) as cached:
        first, second = cached._cache.tiers
        clear = second.clear

        def clear_among_readers():
            read(cached)
            clear()

        monkeypatch.setattr(second, "clear", clear_among_readers)
        read(cached)
        cached.clear()
        assert (first.take_cached(range(10)), second.take_cached(range(10))) == ({}, {})


def test_where_the_first_is_full_the_second_serves(log):
    source = Samples(log, 50, size=1000)
    pair = [kappacore.backend("memory", max_bytes="10KiB"), PAIR[1]]
    with CachedDataset(source, pair, check=False) as cached:
        with pytest.warns(CacheWarning, match=r"^The cache 'memory' is full") as caught:
            read(cached)
        assert caught[0].filename == __file__  # the user's own line
        assert read(cached) == [source.sample(idx) for idx in range(50)]
        assert source.log.count() == dict.fromkeys(range(50), 1)


# ---- one fails


@pytest.mark.parametrize("tier", [0, 1])
def test_where_one_fails_the_other_serves(source, recording, tier):
    pair = ["memory", "memory"]
    pair[tier] = "recording"
    with CachedDataset(source, pair, check=False) as cached:
        recording.failing.update({"get", "put", "claim", "release"})
        with pytest.warns(CacheWarning, match=r"backend 'recording' failed: ConnectionError: get"):
            read(cached)
        for _ in range(2):
            assert read(cached) == [source.sample(idx) for idx in range(10)]
        assert source.log.count() == dict.fromkeys(range(10), 1)
        assert tiers(cached)[tier].backend_errors >= 1
        assert tiers(cached)[1 - tier].stores == 10


def test_strict_raises_what_either_raises(source, recording):
    with CachedDataset(source, ["memory", "recording"], strict=True, check=False) as cached:
        recording.failing.add("put")
        with pytest.raises(ConnectionError, match="put does not work today"):
            cached[1]


# ---- opening


def test_the_source_is_looked_at_once_for_both(log, tmp_path):
    images = Images(log, known=True)
    with CacheWrapper(images, PAIR) as cached:
        cached.getraw_x(0)
        looked_at = samples_looked_at(cached._caches["x"][0].tiers[0].identity.namespace, 10)
        reads = Counter(looked_at * 2) + Counter([0])
        assert images.reads() == reads
        run_script(
            tmp_path,
            """
            import sys
            from kappacore import CacheWrapper
            from support.cache_sources import Images

            with CacheWrapper(Images(sys.argv[1], known=True), ["memory", "shared"]) as cached:
                cached.getraw_x(0)
            """,
            log,
            warm=True,
        )
        assert images.reads() == reads + Counter(looked_at)  # one look for both tiers again


def test_options_beside_a_pair_are_refused(source):
    expected = (
        r"^The options max_bytes, path were given beside a pair of backends, so they could belong "
        r"to either\. Give them with their backend: kappacore\.backend\(name, …\)\.$"
    )
    with pytest.raises(InvalidOptionError, match=expected):
        CachedDataset(source, ["memory", "shared"], max_bytes="1MiB", path="/tmp")


@pytest.mark.parametrize("backend", [[], ["memory"], ["memory", "shared", "memory"]])
def test_another_number_is_refused(source, backend):
    expected = rf"^backend=.* has {len(backend)} entries; expected one backend, or a pair of them: "
    with pytest.raises(InvalidOptionError, match=expected):
        CachedDataset(source, backend)


def test_each_of_a_pair_is_checked_as_one_backend_is(source, cache_folder):
    with pytest.raises(ConfigError, match="expected a name"):
        CachedDataset(source, ["memory", 3])
    with pytest.raises(UnknownOptionError, match="'memory' has no option 'maxbytes'"):
        CachedDataset(source, ["shared", {"use": "memory", "maxbytes": 3}])
    assert namespaces_in(cache_folder) == []


def test_what_is_kept_is_the_tier_that_can(source, cache_folder):
    options = {"namespace": "n", "keep": True, "check": False}
    with CachedDataset(source, PAIR, **options) as cached:
        read(cached)
    with CachedDataset(source, PAIR, **options) as cached:
        assert read(cached) == [source.sample(idx) for idx in range(10)]
    assert source.log.count() == dict.fromkeys(range(10), 1)
    assert len(remove_kept(cache_folder)) == 1


def test_keep_is_refused_where_neither_can(source):
    with pytest.raises(InvalidOptionError, match=r"keep= was given, but .* cannot outlive"):
        CachedDataset(source, ["memory", "memory"], namespace="n", keep=True)


# ---- processes


def test_a_pair_pickles_small_and_its_copy_finds_the_samples(source):
    with CachedDataset(source, PAIR, namespace="n", check=False) as cached:
        read(cached)
        pickled = pickle.dumps(cached)
        assert len(pickled) - len(pickle.dumps(source)) < 2000
        with pickle.loads(pickled) as copy:
            assert read(copy) == [source.sample(idx) for idx in range(10)]
    assert source.log.count() == dict.fromkeys(range(10), 1)


def note_warnings(path, _worker):
    def note(message, *_):
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{message}\n")

    warnings.simplefilter("always")
    warnings.showwarning = note


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_share_the_second_and_have_no_reason_to_warn(log, tmp_path, method):
    source = Samples(log, 40)
    with CachedDataset(source, PAIR, check=False) as cached:
        loader = DataLoader(
            cached,
            batch_size=8,
            num_workers=2,
            multiprocessing_context=method,
            persistent_workers=True,
            collate_fn=list,
            worker_init_fn=functools.partial(note_warnings, tmp_path / "warnings"),
        )
        for _ in range(3):
            samples = [sample for batch in loader for sample in batch]
            assert samples == [source.sample(idx) for idx in range(40)]
        assert source.log.count() == dict.fromkeys(range(40), 1)
        del loader
    assert not (tmp_path / "warnings").exists()


def test_views_of_the_first_come_from_values_of_the_second(source, tmp_path):
    options = {"use": "shared", "path": str(tmp_path), "max_bytes": "1MiB"}
    with CachedDataset(source, options, namespace="n", keep=True, check=False) as behind:
        expected = read(behind)
    with CachedDataset(
        source, ["memory", options], namespace="n", keep=True, copy=False, check=False
    ) as cached:
        assert read(cached) == expected  # promoted
        assert isinstance(cached[0][0], memoryview)  # and given as views from the first
        assert cached.stats().source_reads == 0


def test_prefill_fills_the_one_behind_from_the_one_in_front(source, tmp_path):
    kept = {"use": "shared", "path": str(tmp_path / "kept"), "max_bytes": "1MiB"}
    new = {"use": "shared", "path": str(tmp_path / "new"), "max_bytes": "1MiB"}
    for folder in ("kept", "new"):
        (tmp_path / folder).mkdir()
    options = {"namespace": "n", "keep": True, "check": False}
    with CachedDataset(source, kept, **options) as cached:
        assert cached.prefill() == 10
    with CachedDataset(source, [kept, new], **options) as cached:
        assert cached.prefill() == 0
        assert [cached.stats(tier=tier).stores for tier in (0, 1)] == [10, 10]
        assert source.log.count() == dict.fromkeys(range(10), 1)


def test_prefill_past_a_full_first_tier_is_no_work_the_second_time(log):
    source = Samples(log, 40, size=1000)
    pair = [kappacore.backend("memory", max_bytes="10KiB"), PAIR[1]]
    with CachedDataset(source, pair, check=False) as cached:
        with pytest.warns(CacheWarning, match="'memory' is full"):
            assert cached.prefill() == 40
        assert cached.prefill() == 0
        assert source.log.count() == dict.fromkeys(range(40), 1)
        read(cached)
        assert "The cache is full" not in cached.explain() + kappacore.explain(cached)


def test_prefill_moves_samples_that_the_one_in_front_gives_as_views(source):
    with CachedDataset(source, PAIR, copy=False, check=False) as cached:
        assert cached.prefill() == 10
        cached._cache.tiers[1].clear()
        assert cached.prefill() == 0
        assert [stats.source_reads for stats in tiers(cached)] == [10, 10]
        assert tiers(cached)[1].stores == 20
