"""Stale or crossed data is the worst that a cache can do; over datasets and processes."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch

import kappacore
from kappacore import CachedDataset, CacheWrapper, KDSubset, ModeWrapper, TransformWrapper
from kappacore.caching.identity.determinism import samples_looked_at
from kappacore.errors import NamespaceMismatchError, NamespaceRequiredError
from support.cache_sources import Images, Labels, Samples
from support.caching import namespaces_in, remove_kept, run_script

SMALL = {"max_bytes": "1MiB"}


def read(dataset):
    return [dataset[idx] for idx in range(len(dataset))]


def test_items_under_one_name_do_not_meet(log, backend):
    images = Images(log)
    with CacheWrapper(images, backend, items="x class", namespace="n", **SMALL) as cached:
        for _ in range(2):
            for idx, (x, label) in enumerate(ModeWrapper(cached, "x class")):
                assert x[0] == idx
                assert label == idx % 2
        assert cached.stats().hits == 20


@pytest.mark.parametrize("known", [False, True])
def test_raw_and_decoded_do_not_meet(log, backend, known):
    images = Images(log, known=known)
    options = {**SMALL, "namespace": "n"}
    raw = CacheWrapper(images, backend, form="raw", **options)
    decoded = CacheWrapper(images, backend, form="decoded", **options)
    expected = read(ModeWrapper(images, "x"))
    for _ in range(2):
        for cached in (raw, decoded):
            for one, two in zip(read(ModeWrapper(cached, "x")), expected, strict=True):
                assert torch.equal(one, two)
    raw.close()
    decoded.close()


def test_train_and_val_of_one_length_under_one_name_are_kept_apart_by_fingerprint(log, backend):
    with CacheWrapper(Images(log, known=True), backend, namespace="n", **SMALL) as train:
        expected = (
            r"(?s)The cache namespace 'n.x.raw.10.v2' holds samples of another dataset:\n"
            r"  fingerprint: the cache has 'images 0 x True', this dataset has 'images 1 x True'"
        )
        read(ModeWrapper(train, "x"))
        with pytest.raises(NamespaceMismatchError, match=expected):
            CacheWrapper(Images(log, seed=1, known=True), backend, namespace="n", **SMALL)


def test_train_and_val_of_one_length_under_one_name_are_kept_apart_by_content(log, backend):
    train = CachedDataset(Samples(log), backend, namespace="n", **SMALL)
    read(train)
    before = train.stats()
    expected = (
        r"The cache namespace 'n.sample.sample.10.v2' holds other samples than this dataset, "
        r"though the name is the same: sample 0 differs. Either it was filled from other content "
        r".* or the dataset returns something new at each read .* or another version of a "
        r"library, .* check=False skips this comparison"
    )
    with pytest.raises(NamespaceMismatchError, match=expected):
        CachedDataset(Samples(log, seed=1), backend, namespace="n", **SMALL)[4]
    assert (train.stats() - before).source_reads == 0
    train.close()


def test_a_difference_at_the_other_end_is_found_too(log, backend):
    class Other(Samples):
        def sample(self, idx):
            return super().sample(idx) if idx < 9 else ("different", idx)

    train = CachedDataset(Samples(log), backend, namespace="n", **SMALL)
    read(train)
    with pytest.raises(NamespaceMismatchError, match="sample 9 differs"):
        CachedDataset(Other(log), backend, namespace="n", **SMALL)[1]
    train.close()


def test_check_false_skips_the_comparison(log, backend):
    train = CachedDataset(Samples(log), backend, namespace="n", **SMALL)
    expected = read(train)
    val = CachedDataset(Samples(log, seed=1), backend, namespace="n", check=False, **SMALL)
    assert read(val) == expected  # what the user asked for
    train.close()
    val.close()


def test_the_comparison_costs_five_reads_and_is_not_counted(log, backend):
    train = CachedDataset(Samples(log), backend, namespace="n", **SMALL)
    read(train)
    train.dataset.log.clear()
    same = CachedDataset(Samples(log), backend, namespace="n", **SMALL)
    assert train.dataset.log.count() == {}
    read(same)
    chosen = samples_looked_at(same._cache.identity.namespace, 10)
    assert train.dataset.log.count() == Counter(chosen)
    assert train.stats().source_reads == 10
    train.close()
    same.close()


@pytest.mark.parametrize("filled", [[3], [0], [9], [4, 5]])
def test_content_is_kept_apart_however_much_is_filled(log, backend, filled):
    train = CachedDataset(Samples(log), backend, namespace="n", **SMALL)
    for idx in filled:
        train[idx]
    with pytest.raises(NamespaceMismatchError, match="sample 0 differs"):
        CachedDataset(Samples(log, seed=1), backend, namespace="n", **SMALL)[7]
    same = CachedDataset(Samples(log), backend, namespace="n", **SMALL)
    assert read(same) == [same.dataset.sample(idx) for idx in range(10)]
    train.close()
    same.close()


def test_private_caches_of_equal_datasets_never_meet(log, backend):
    one = CachedDataset(Samples(log), backend, **SMALL)
    two = CachedDataset(Samples(log, seed=1), backend, **SMALL)
    read(one)
    assert read(two) == [two.dataset.sample(idx) for idx in range(10)]
    assert two.stats().hits == 0
    one.close()
    two.close()


def test_private_caches_of_identified_datasets_never_meet_where_asked(log, backend):
    options = {**SMALL, "namespace": kappacore.PRIVATE}
    one = CacheWrapper(Images(log, known=True), backend, **options)
    two = CacheWrapper(Images(log, known=True), backend, **options)
    read(ModeWrapper(one, "x"))
    read(ModeWrapper(two, "x"))
    assert two.stats().hits == 0
    one.close()
    two.close()


def test_subsets_of_one_dataset_do_not_meet_and_equal_ones_do(log, backend):
    images = Images(log, known=True)
    options = {**SMALL, "check": False}
    first = CacheWrapper(KDSubset(images, range(5)), backend, **options)
    second = CacheWrapper(KDSubset(images, range(5, 10)), backend, **options)
    again = CacheWrapper(KDSubset(images, range(5)), backend, **options)
    images.log.clear()
    assert [int(x[0]) for x in ModeWrapper(first, "x")] == [0, 1, 2, 3, 4]
    assert [int(x[0]) for x in ModeWrapper(second, "x")] == [5, 6, 7, 8, 9]
    assert [int(x[0]) for x in ModeWrapper(again, "x")] == [0, 1, 2, 3, 4]
    assert images.reads() == dict.fromkeys(range(10), 1)
    for cached in (first, second, again):
        cached.close()


def test_the_modes_of_one_dataset_do_not_meet(log, backend):
    images = Images(log, known=True)
    x = CachedDataset(ModeWrapper(images, "x"), backend, **SMALL)
    both = CachedDataset(ModeWrapper(images, "x class"), backend, **SMALL)
    swapped = CachedDataset(ModeWrapper(images, "class x"), backend, **SMALL)
    assert x[3].shape == (100,)
    assert [type(value) for value in both[3]] == [torch.Tensor, int]
    assert [type(value) for value in swapped[3]] == [int, torch.Tensor]
    for cached in (x, both, swapped):
        cached.close()


def test_several_ranks_need_an_identity(log, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    expected = r"2 ranks run, and nothing identifies the content of Samples"
    with pytest.raises(NamespaceRequiredError, match=expected):
        CachedDataset(Samples(log), "shared", **SMALL)
    with pytest.raises(NamespaceRequiredError, match=r"content of Images .*fingerprint of 'x'"):
        CacheWrapper(Images(log), "shared", **SMALL)
    CachedDataset(Samples(log), "shared", namespace=kappacore.PRIVATE, **SMALL).close()
    CachedDataset(Samples(log), "shared", namespace="train", **SMALL).close()
    CachedDataset(Samples(log), "memory", **SMALL).close()
    CacheWrapper(Images(log, known=True), "shared", **SMALL).close()


def test_torch_subsets_are_identified_by_what_is_inside(log):
    images = ModeWrapper(Images(log, known=True), "x class")
    one = CachedDataset(torch.utils.data.Subset(images, [1, 2]), "shared", **SMALL)
    same = CachedDataset(torch.utils.data.Subset(images, [1, 2]), "shared", **SMALL)
    other = CachedDataset(torch.utils.data.Subset(images, [2, 1]), "shared", **SMALL)
    assert [int(sample[0][0]) for sample in (*read(one), *read(same), *read(other))] == [
        *(1, 2, 1, 2, 2, 1)
    ]
    assert same.stats().hits == 2
    for cached in (one, same, other):
        cached.close()


class HuggingFace(Samples):
    """Identified as datasets of Hugging Face are."""

    @property
    def _fingerprint(self):
        return f"print-{self.seed}"


def test_datasets_of_hugging_face_identify_themselves(log):
    one, same, other = HuggingFace(log), HuggingFace(log), HuggingFace(log, seed=1)
    options = {**SMALL, "check": False}
    cached = [CachedDataset(dataset, "shared", **options) for dataset in (one, same, other)]
    assert read(cached[0]) == read(cached[1])
    assert read(cached[2]) == [other.sample(idx) for idx in range(10)]
    assert one.log.count() == dict.fromkeys(range(10), 2)
    for dataset in cached:
        dataset.close()


SECOND = """
    import sys
    from kappacore import CachedDataset, CacheWrapper, ModeWrapper
    from support.cache_sources import Images, Samples

    x = CacheWrapper(Images(sys.argv[1], known=True), "shared", max_bytes="1MiB")
    assert [int(value[0]) for value in ModeWrapper(x, "x")] == list(range(10))
    samples = CachedDataset(Samples(sys.argv[2]), "shared", max_bytes="1MiB", namespace="train")
    assert list(samples) == [samples.dataset.sample(idx) for idx in range(10)]
    for cached in (x, samples):
        print(cached.stats().hits, cached.stats().source_reads)
        cached.close()
    """


def test_a_second_process_of_the_same_identity_reads_at_most_five_to_compare(tmp_path):
    images = Images(tmp_path / "images", known=True)
    source = Samples(tmp_path / "samples")
    with (
        CacheWrapper(images, "shared", **SMALL) as x,
        CachedDataset(source, "shared", namespace="train", **SMALL) as samples,
    ):
        read(ModeWrapper(x, "x"))
        read(samples)
        images.log.clear()
        source.log.clear()
        out = run_script(tmp_path, SECOND, images.log.path, source.log.path, warm=True)
        assert out == "10 10\n10 10\n"
        for cache, reads in ((x._caches["x"][0], images.reads()), (samples._cache, source.log)):
            found = reads if isinstance(reads, dict) else reads.count()
            assert found == Counter(samples_looked_at(cache.identity.namespace, 10))


def test_a_kept_cache_of_other_content_is_found_out_in_the_next_run(log, cache_folder):
    with CacheWrapper(Images(log, known=True), "shared", namespace="n", keep=True, **SMALL) as one:
        one.getraw_x(0)
    with pytest.raises(NamespaceMismatchError):
        CacheWrapper(Images(log, known=True, seed=1), "shared", namespace="n", **SMALL)
    CacheWrapper(Images(log, known=True), "shared", namespace="n", **SMALL).close()
    assert len(namespaces_in(cache_folder)) == 1
    remove_kept(cache_folder)


def test_who_did_not_look_does_not_disarm_the_comparison_of_who_does(log, backend):
    train = CachedDataset(Samples(log), backend, namespace="n", check=False, **SMALL)
    train.__getitems__([3, 7, 9])
    with pytest.raises(NamespaceMismatchError, match="differs"):
        CachedDataset(Samples(log, seed=1), backend, namespace="n", **SMALL)[0]
    with CachedDataset(Samples(log), backend, namespace="n", **SMALL) as same:
        assert read(same) == read(train)
    train.close()


def test_who_took_the_header_unproved_proves_nothing_for_who_looks(log, backend):
    right, wrong = Samples(log), Samples(log, seed=1)
    options = {"namespace": "n", **SMALL}
    with CachedDataset(right, backend, **options) as train:
        expected = read(train)
        with CachedDataset(wrong, backend, check=False, **options) as unproved:
            assert read(unproved) == expected  # and stays open
            with (
                CachedDataset(wrong, backend, **options) as looks,
                pytest.raises(NamespaceMismatchError, match="sample 0 differs"),
            ):
                looks[0]
            log.unlink()
            with CachedDataset(right, backend, **options) as same:
                assert read(same) == expected
                chosen = samples_looked_at(same._cache.identity.namespace, 10)
                assert right.log.count() == Counter(chosen)  # proved by itself


@pytest.mark.slow
def test_a_cache_unpickled_by_another_program_is_compared_while_it_is_open_here(log, tmp_path):
    with CachedDataset(Samples(log), "shared", namespace="n", **SMALL) as cached:
        expected = read(cached)
        (tmp_path / "blob").write_bytes(pickle.dumps(cached))
        program = """
            import pickle, sys
            from pathlib import Path
            from kappacore.errors import NamespaceMismatchError
            cached = pickle.loads(Path(sys.argv[1]).read_bytes())
            cached.dataset.seed = int(sys.argv[2])  # as if its code had been edited
            try:
                print(cached[3] == cached.dataset.sample(3))
            except NamespaceMismatchError:
                print("found out")
            cached.close()
        """
        for seed, answer in ((0, "True"), (1, "found out")):
            assert run_script(tmp_path, program, tmp_path / "blob", seed).strip() == answer
        assert read(cached) == expected


# ---- what changes an item changes its identity


def first_bytes(cached):
    return [int(x[0]) for x in ModeWrapper(cached, "x")]


class Negated(Images):
    """A subclass that makes something else of the item."""

    def getitem_x(self, idx, ctx=None):
        return -self.decode_x(self.getraw_x(idx), ctx)


@pytest.mark.parametrize(
    "change",
    [
        lambda log: TransformWrapper(Images(log, known=True), torch.neg),
        lambda log: Negated(log, known=True),
        lambda log: KDSubset(Images(log, known=True), range(9, -1, -1)),
    ],
    ids=["a transform added below", "a subclass", "another order"],
)
def test_what_is_changed_below_never_meets_the_original(log, backend, change):
    original, changed = Images(log, known=True), change(log)
    expected = {ds: first_bytes(ds) for ds in (original, changed)}
    assert expected[original] != expected[changed]
    options = {"form": "decoded", **SMALL}
    with CacheWrapper(original, backend, **options) as one:
        assert first_bytes(one) == expected[original]
        with CacheWrapper(changed, backend, **options) as other:  # in a namespace of its own
            for _ in range(2):
                assert first_bytes(other) == expected[changed]
                assert first_bytes(one) == expected[original]
    with CacheWrapper(original, backend, namespace="n", **options) as one:
        first_bytes(one)
        with pytest.raises(NamespaceMismatchError):
            CacheWrapper(changed, backend, namespace="n", **options)


def test_another_list_of_files_never_meets_the_original(log, backend):
    first, second = Labels(log, [1, 2, 3]), Labels(log, [1, 2, 4])
    with (
        CacheWrapper(first, backend, items="class", **SMALL) as one,
        CacheWrapper(second, backend, items="class", **SMALL) as other,
    ):
        for _ in range(2):
            assert list(ModeWrapper(one, "class")) == [1, 2, 3]
            assert list(ModeWrapper(other, "class")) == [1, 2, 4]
