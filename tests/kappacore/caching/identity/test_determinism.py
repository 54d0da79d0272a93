"""A cache would freeze what comes out new at each read, so a few samples are read twice before."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import torch

from kappacore import CachedDataset, CacheWrapper, KDDataset
from kappacore.caching.identity.determinism import samples_looked_at
from kappacore.errors import NondeterministicSourceError
from support.cache_sources import Images, Samples
from support.caching import Log, namespaces_in, remove_kept, run_script, start_script

SMALL = {"max_bytes": "1MiB"}


def looked_at(cached):
    """How often samples were read before the first was stored: each of a few, twice."""
    cache = cached._cache if isinstance(cached, CachedDataset) else cached._caches["x"][0]
    return dict.fromkeys(samples_looked_at(cache.identity.namespace, cache.length), 2)


def reads_of(cached):
    """The reads that the source has noted, but for those of the first sample itself."""
    return cached.dataset.log.count() - Counter([0])


class Augmented(Samples):
    """Random from some index on, and does not say so."""

    def __init__(self, log, draw=random.random, first=0):
        super().__init__(log)
        self.draw = draw
        self.first = first

    def sample(self, idx):
        return float(self.draw()) if idx >= self.first else 0.0


class AugmentedItems(KDDataset):
    def __len__(self):
        return 10

    def getitem_x(self, idx, ctx=None):
        return random.random()

    def getitem_class(self, idx):
        return 0


def draw_one_of_each():
    return random.random(), np.random.rand(), torch.rand(1).item()


@pytest.mark.parametrize(
    "draw", [random.random, np.random.rand, lambda: torch.rand(()), np.random.default_rng().random]
)
def test_a_random_source_is_refused_with_the_place_and_what_to_do(log, backend, draw):
    expected = (
        r"^The sample 0 of Augmented differs between two reads, so a cache would freeze whatever "
        r"came first\. Put the cache below the random part \(random transforms come after it: "
        r"transform=…, or a TransformWrapper above\)\. check=False caches the first read all the "
        r"same\.$"
    )
    with pytest.raises(NondeterministicSourceError, match=expected):
        CachedDataset(Augmented(log, draw), backend, **SMALL)[3]


def test_five_samples_are_looked_at_the_first_the_middle_the_last_and_two_drawn():
    names = [f"n{number}.x.raw.1000.v2" for number in range(50)]
    looked_at = [samples_looked_at(name, 1000) for name in names]
    assert all({0, 500, 999} < set(found) and len(found) == 5 for found in looked_at)
    assert looked_at == [samples_looked_at(name, 1000) for name in names]  # in every process
    assert len(set(map(tuple, looked_at))) == 50
    assert [samples_looked_at("n", length) for length in (0, 1, 2)] == [[], [0], [0, 1]]


@pytest.mark.parametrize("first", [0, 1, 6, 9])
def test_the_first_of_them_that_is_random_is_named(log, first):
    chosen = samples_looked_at("n.sample.sample.10.v2", 10)
    found = next(idx for idx in chosen if idx >= first)
    with pytest.raises(NondeterministicSourceError, match=rf"^The sample {found} of Augmented"):
        CachedDataset(Augmented(log, first=first), "memory", namespace="n", **SMALL)[0]


def test_a_random_item_is_named_and_the_others_can_be_cached(backend):
    expected = r"^The item 'x' of sample 0 of AugmentedItems differs between two reads"
    with pytest.raises(NondeterministicSourceError, match=expected):
        CacheWrapper(AugmentedItems(), backend, items="class x", **SMALL).getitem_x(0)
    with CacheWrapper(AugmentedItems(), backend, items="class", **SMALL) as cached:
        assert cached.getitem_class(3) == 0


@pytest.mark.parametrize("check", [True, False])
def test_random_states_are_as_before(log, check):
    class Wasteful(Samples):
        def sample(self, idx):
            draw_one_of_each()
            return idx

    def seed():
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = draw_one_of_each()
    seed()
    with CachedDataset(Wasteful(log), "memory", check=check, **SMALL) as cached:
        cached[0]
        if not check:
            seed()  # a read that the user asked for draws as it does without a cache
        else:
            seed()
            draw_one_of_each()
            expected = draw_one_of_each()
            seed()
            cached[1]
        assert draw_one_of_each() == expected


def test_random_states_are_as_before_a_refusal_too(log):
    random.seed(1)
    expected = random.random()
    random.seed(1)
    with pytest.raises(NondeterministicSourceError):
        CachedDataset(Augmented(log), "memory", **SMALL)[0]
    assert random.random() == expected


@pytest.mark.parametrize("length", [0, 1, 2, 10])
def test_a_few_samples_are_read_twice_and_none_is_counted(log, backend, length):
    with CachedDataset(Samples(log, length), backend, **SMALL) as cached:
        assert cached.dataset.log.count() == {}
        list(cached)
        assert cached.dataset.log.count() == Counter(looked_at(cached)) + Counter(range(length))
        stats = cached.stats()
        assert (stats.source_reads, stats.misses, stats.stores) == (length, length, length)
        list(cached)
        assert cached.stats().source_reads == length


def test_check_false_reads_nothing_and_takes_what_comes_first(log, backend):
    with CachedDataset(Augmented(log), backend, check=False, **SMALL) as cached:
        assert cached.dataset.log.count() == {}
        assert cached[3] == cached[3]


SECOND = """
    import sys
    from kappacore import CacheWrapper
    from support.cache_sources import Images

    with CacheWrapper(Images(sys.argv[1], known=True), "shared", max_bytes="1MiB") as cached:
        cached.getraw_x(0)
    """


def test_the_second_to_use_a_namespace_reads_them_once(log, backend, tmp_path):
    images = Images(log, known=True)
    with CacheWrapper(images, backend, **SMALL) as cached:
        cached.getraw_x(0)
        once = dict.fromkeys(looked_at(cached), 1)
        images.log.clear()
        with CacheWrapper(images, backend, **SMALL) as second:
            assert images.reads() == {}  # opening reads nothing
            second.getraw_x(0)
            second.getraw_x(0)
            assert images.reads() == once
        if backend == "shared":
            images.log.clear()
            run_script(tmp_path, SECOND, log, warm=True)
            assert images.reads() == once


def test_clearing_ends_the_evidence_and_the_next_miss_makes_new(log, backend):
    with CachedDataset(Samples(log), backend, **SMALL) as cached:
        list(cached)
        cached.dataset.log.clear()
        cached.clear()
        assert cached.dataset.log.count() == {}
        cached[0]
        assert reads_of(cached) == looked_at(cached)


def test_a_refusal_leaves_no_header_so_the_next_one_is_checked_too(log, cache_folder):
    options = {**SMALL, "namespace": "n", "keep": True}
    for _ in range(2):
        with pytest.raises(NondeterministicSourceError):
            CachedDataset(Augmented(log), "shared", **options)[0]
    source = Samples(log)
    source.log.clear()
    with CachedDataset(source, "shared", **options) as cached:
        cached[0]
        assert reads_of(cached) == looked_at(cached)
    remove_kept(cache_folder)


def test_a_source_that_raises_leaves_no_header_either(log, cache_folder):
    class Broken(Samples):
        def sample(self, idx):
            raise OSError("no such bucket")

    options = {**SMALL, "namespace": "n", "keep": True}
    with pytest.raises(OSError, match="no such bucket"):
        CachedDataset(Broken(log), "shared", **options)[0]
    source = Samples(log)
    source.log.clear()
    with CachedDataset(source, "shared", **options) as cached:
        cached[0]  # and does not wait for a claim
        assert reads_of(cached) == looked_at(cached)
    remove_kept(cache_folder)


KILLED = """
    import sys, time
    from kappacore import CachedDataset
    from kappacore.caching.engine import claims
    from support.cache_sources import Samples

    class Slow(Samples):
        def sample(self, idx):
            print("loading", flush=True)
            time.sleep(60)

    claims.CLAIM_TTL = 0.5  # what the next one has to wait for
    CachedDataset(Slow(sys.argv[1]), "shared", max_bytes="1MiB", namespace="n", keep=True)[0]
    """


def test_one_that_is_killed_while_it_looks_leaves_it_to_the_next(tmp_path, cache_folder):
    with start_script(tmp_path, KILLED, tmp_path / "first", warm=True) as first:
        assert first.stdout.readline() == "loading\n", first.stderr.read()
        first.kill()
    log = Log(tmp_path / "second")
    options = {**SMALL, "namespace": "n", "keep": True}
    with CachedDataset(Samples(log.path), "shared", **options) as cached:
        cached[0]
        assert reads_of(cached) == looked_at(cached)
    assert len(remove_kept(cache_folder)) >= 1
    assert namespaces_in(cache_folder) == []


class Reordered(Samples):
    """Dicts made of sets, which have another order in every process; here at every read."""

    reads = 0

    def sample(self, idx):
        self.reads += 1
        keys = ["x", ("y", 1), 3, b"w"][:: (-1) ** self.reads]
        return {key: [{"a": idx, **dict.fromkeys(keys)}, (dict.fromkeys(keys), 1)] for key in keys}


def test_dicts_of_another_order_are_equal(tmp_path):
    options = {"namespace": "n", **SMALL}
    with (
        CachedDataset(Reordered(tmp_path / "log"), "shared", **options) as cached,
        CachedDataset(Reordered(tmp_path / "log"), "shared", **options) as other,
    ):
        for each in (cached, other):
            assert each[3] == Reordered(tmp_path / "log").sample(3)
        assert list(other[3]) == list(cached[3])
        assert other.stats().source_reads == 1
