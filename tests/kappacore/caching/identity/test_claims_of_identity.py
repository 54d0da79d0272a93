"""Names and fingerprints are claims: samples prove them, once per cache object and machine."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
from torch.utils.data import DataLoader, Subset

import kappacore
from kappacore import CachedDataset, CacheWrapper, KDConcatDataset, KDDataset, KDSubset, ModeWrapper
from kappacore.caching.identity.determinism import samples_looked_at
from kappacore.errors import CacheError, NamespaceMismatchError
from support.cache_sources import Samples
from support.caching import remove_kept, run_script

SMALL = {"max_bytes": "1MiB"}
PAIR = ["memory", {"use": "shared", "max_bytes": "1MiB"}]


class Plain:
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, idx):
        return self.values[idx]


class HuggingFace(Plain):
    def __init__(self, values):
        super().__init__(values)
        self._fingerprint = "abc"


class Upper(HuggingFace):
    def __getitem__(self, idx):
        return super().__getitem__(idx) * 10


class Scaled(Plain):
    scale = 1

    def load(self, idx):
        return self.values[idx] * self.scale

    def __getitem__(self, idx):
        return self.load(idx)

    def sample_fingerprint(self):
        return "version 1"


class OtherHelper(Scaled):
    def load(self, idx):
        return -self.values[idx]


class OtherScale(Scaled):
    scale = 3


class Items(KDDataset):
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def getitem_x(self, idx, ctx=None):
        return self.read(idx)

    def read(self, idx):
        return self.values[idx]

    def fingerprint(self, item, raw=False):
        return "version 1"


class OtherRead(Items):
    def read(self, idx):
        return self.values[idx] + 100


def patched(values):
    items = Items(values)
    items.read = lambda idx: -values[idx]
    return items


def samples(dataset):
    reader = ModeWrapper(dataset, "x") if isinstance(dataset, KDDataset) else dataset
    return [reader[idx] for idx in range(len(reader))]


@pytest.mark.parametrize("backend", ["memory", "shared", PAIR])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (HuggingFace, Upper),
        (lambda v: Subset(HuggingFace(v), [0, 1]), lambda v: Subset(Upper(v), [0, 1])),
        (
            lambda v: kappacore.as_kd(HuggingFace(v), items=("x",)),
            lambda v: kappacore.as_kd(Upper(v), items=("x",)),
        ),
        (Scaled, OtherHelper),
        (Scaled, OtherScale),
        (Scaled, lambda v: Scaled([value + 1 for value in v])),
        (Items, OtherRead),
        (Items, patched),
    ],
    ids=["subclass", "subset", "as_kd", "helper", "attribute", "content", "read", "instance"],
)
def test_a_fingerprint_that_does_not_cover_the_content_is_found_out(backend, one, other):
    from kappacore.caching.datasets import cache

    values = [1, 2, 3, 4]
    options = {} if backend is PAIR else SMALL
    with cache(one(values), backend, **options) as first:
        assert samples(first) == samples(one(values))
        with (
            cache(other(values), backend, **options) as second,
            pytest.raises(NamespaceMismatchError, match=r"though the fingerprint .* sample 0 dif"),
        ):
            samples(second)
        with cache(other(values), backend, check=False, **options) as second:
            assert samples(second) == samples(first)  # as asked for


@pytest.mark.parametrize("backend", ["memory", "shared"])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_all_digests_are_compared(backend, at):
    values = ["a", "b", "c", "d", "e"]
    with CachedDataset(values, backend, namespace="n", **SMALL) as one:
        samples(one)
        other = [*values[:at], "other", *values[at + 1 :]]
        with pytest.raises(NamespaceMismatchError, match=f"sample {at} differs"):
            CachedDataset(other, backend, namespace="n", **SMALL)[1]


@pytest.mark.parametrize("at", samples_looked_at("n.sample.sample.1000.v2", 1000))
def test_the_drawn_ones_too(at):
    values = list(range(1000))
    with CachedDataset(values, "shared", namespace="n", **SMALL) as one:
        one[3]
        other = [*values[:at], -1, *values[at + 1 :]]
        with pytest.raises(NamespaceMismatchError, match=f"sample {at} differs"):
            CachedDataset(other, "shared", namespace="n", **SMALL)[3]


def test_what_a_refused_dataset_reads_is_not_stored():
    with CachedDataset([1, 2, 3], "shared", namespace="n", **SMALL) as one:
        one[0]
        with CachedDataset([1, 5, 3], "shared", namespace="n", **SMALL) as other:
            for _ in range(2):
                with pytest.raises(NamespaceMismatchError):
                    other[1]
                with pytest.raises(NamespaceMismatchError):
                    other.prefill(progress=False)
        assert list(one) == [1, 2, 3]


# ---- what it costs


@pytest.mark.filterwarnings("ignore:The cache backend 'memory' keeps samples in each")
@pytest.mark.parametrize(
    ("backend", "method"),
    [("memory", "fork"), ("shared", "forkserver"), (PAIR, "fork")],
)
def test_neither_workers_nor_epochs_look_again(log, backend, method):
    options = {} if backend is PAIR else SMALL
    with CachedDataset(Samples(log), backend, namespace="n", **options) as cached:
        chosen = samples_looked_at("n.sample.sample.10.v2", 10)
        for number in range(2):
            loader = DataLoader(
                cached,
                batch_size=2,
                num_workers=2,
                multiprocessing_context=method,
                collate_fn=list,
            )
            assert len([sample for batch in loader for sample in batch]) == 10
            own = 1 + number if backend == "memory" else 1  # its samples go with each worker
            reads = Counter(chosen * 2) + Counter(list(range(10)) * own)
            assert Samples(log).log.count() == reads


def test_the_workers_of_a_later_run_compare_once(log, cache_folder):
    options = {**SMALL, "namespace": "n", "keep": True}
    with CachedDataset(Samples(log), "shared", **options) as cached:
        list(cached)
    source = Samples(log)
    source.log.clear()
    with CachedDataset(source, "shared", **options) as cached:
        for _ in range(2):
            loader = DataLoader(
                cached, 2, num_workers=2, multiprocessing_context="fork", collate_fn=list
            )
            assert sum(map(len, loader)) == 10
    assert source.log.count() == Counter(samples_looked_at("n.sample.sample.10.v2", 10))
    remove_kept(cache_folder)


def test_a_source_that_cannot_be_read_to_compare_is_named(log, cache_folder):
    class Broken(Samples):
        def __getitem__(self, idx):
            raise OSError("no such bucket")

    options = {**SMALL, "namespace": "n", "keep": True}
    with CachedDataset(Samples(log), "shared", **options) as cached:
        list(cached)
    expected = r"are compared with the source, and sample 0 cannot be read there: OSError: no such"
    with CachedDataset(Broken(log), "shared", **options) as cached:
        with pytest.raises(CacheError, match=expected) as caught:
            cached[3]
        assert isinstance(caught.value.__cause__, OSError)
    with CachedDataset(Broken(log), "shared", check=False, **options) as cached:
        assert cached[3] == Samples(log).sample(3)
    remove_kept(cache_folder)


# ---- fingerprints that are the content


class Content(Items):
    fingerprint_is_content = True

    def __init__(self, values):
        super().__init__(values)
        self.reads = 0

    def read(self, idx):
        self.reads += 1
        return super().read(idx)


class ContentRead(Content):
    def read(self, idx):
        return super().read(idx) + 100


class ContentAgain(ContentRead):
    fingerprint_is_content = True

    def fingerprint(self, item, raw=False):
        return "version 2"


@pytest.mark.parametrize("backend", ["memory", "shared"])
def test_a_class_that_says_so_is_believed_and_neither_looked_at_nor_compared(backend):
    stacks = (
        lambda source: source,
        lambda source: KDSubset(source, [0, 1, 2]),
        lambda source: KDConcatDataset([source]),
    )
    for stack in stacks:
        with CacheWrapper(stack(Content([1, 2, 3])), backend, **SMALL) as one:
            assert samples(one) == [1, 2, 3]
            source = Content([1, 2, 3])
            with CacheWrapper(stack(source), backend, **SMALL) as two:
                assert samples(two) == [1, 2, 3]
            assert source.reads == 0
    source = Content([1, 2, 3])
    with CachedDataset(ModeWrapper(source, "x index"), backend, **SMALL) as cached:
        assert cached[1] == (2, 1)
        assert source.reads == 1


@pytest.mark.parametrize("backend", ["memory", "shared"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_subclass_or_an_instance_that_changes_it_is_not(backend, first):
    def changed(values):
        content = Content(values)
        content.read = lambda idx: -values[idx]
        return content

    for other in (ContentRead, ContentAgain, changed):
        order = [Content, other] if first == 0 else [other, Content]
        with (
            CacheWrapper(order[0]([1, 2, 3]), backend, **SMALL) as one,
            CacheWrapper(order[1]([1, 2, 3]), backend, **SMALL) as two,
        ):
            for cached, make in zip((one, two), order, strict=True):
                assert samples(cached) == samples(make([1, 2, 3]))
    with (
        CacheWrapper(ContentRead([1, 2, 3]), backend, **SMALL) as one,
        CacheWrapper(changed([1, 2, 3]), backend, **SMALL) as two,
    ):
        assert samples(one) == [101, 102, 103]
        with pytest.raises(NamespaceMismatchError):
            samples(two)


# ---- unpickled later


UNPICKLE = """
    import pickle, sys
    from kappacore.errors import NamespaceMismatchError

    with open(sys.argv[1], "rb") as file:
        cached = pickle.load(file)
    try:
        print(cached[3])
    except NamespaceMismatchError:
        print("refused")
    cached.close()
    """


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_cache_that_is_unpickled_later_is_compared_with_its_namespace(
    tmp_path, log, elsewhere, cache_folder
):
    options = {**SMALL, "namespace": "n", "keep": True}
    with CachedDataset(Samples(log), "shared", **options) as one:
        list(one)
        pickled = pickle.dumps(one)
        one.clear()
    with CachedDataset(Samples(log, seed=1), "shared", **options) as other:
        list(other)
    if elsewhere:
        (tmp_path / "pickle").write_bytes(pickled)
        assert run_script(tmp_path, UNPICKLE, tmp_path / "pickle", warm=True) == "refused\n"
    else:
        copy = pickle.loads(pickled)
        with pytest.raises(NamespaceMismatchError):
            copy[3]
        copy.close()
    remove_kept(cache_folder)


# ---- after clear()


@pytest.mark.parametrize("backend", ["shared", PAIR, "memory"])
def test_what_was_cleared_in_a_living_job_proves_nothing_to_the_next(backend, cache_folder):
    keep = {} if backend == "memory" else {"keep": True}
    source = Plain([b"old"] * 20)
    with CachedDataset(source, backend, namespace="n", **keep) as cached:
        list(cached)
        source.values = [b"new"] * 20
        cached.clear()
        assert list(cached) == source.values
    with CachedDataset(Plain([b"new"] * 20), backend, namespace="n", **keep) as cached:
        assert list(cached) == [b"new"] * 20
    remove_kept(cache_folder)


def test_who_is_cleared_by_another_notices_at_the_next_miss(tmp_path):
    source = Plain([b"old"] * 20)
    with (
        CachedDataset(source, "shared", namespace="n", **SMALL) as one,
        CachedDataset(source, "shared", namespace="n", **SMALL) as two,
    ):
        assert list(one) == list(two)
        source.values = [b"new"] * 20
        two.clear()
        assert one[3] == b"new"  # and writes a header of what is there now
        assert list(two) == list(one) == [b"new"] * 20
        with CachedDataset(Plain([b"new"] * 20), "shared", namespace="n", **SMALL) as three:
            assert list(three) == [b"new"] * 20
            assert three.stats().hits >= 20


def test_what_was_loading_during_a_clear_is_served_to_nobody():
    """It was read before the content changed, and is stored after the clear."""
    source = Plain([b"old"] * 5)
    with CachedDataset(source, "shared", namespace="n", **SMALL) as cached:
        cached[0]
        with CachedDataset(source, "shared", namespace="n", **SMALL) as late:
            late[0]

            def load(indices):
                found = [source[idx] for idx in indices]
                source.values = [b"old", b"old", b"old", b"new", b"old"]
                cached.clear()
                cached[0]
                return found

            assert late._cache.fetch([3], load) == [b"old"]
        assert cached[3] == b"new"
