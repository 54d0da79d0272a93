"""The main job: epoch 1 reads every sample once, epochs 2 and 3 none, whatever the workers."""

from __future__ import annotations

import functools
import multiprocessing.forkserver
import warnings

import pytest
from torch.utils.data import DataLoader, RandomSampler

from kappacore import CachedDataset, CacheWrapper, ModeWrapper
from support.cache_sources import SMALL, Images, Samples
from support.caching import namespaces_in


def make_loader(dataset, workers, method, *, persistent=False):
    if method == "forkserver":
        multiprocessing.get_context("forkserver").set_forkserver_preload(
            ["kappacore.caching.datasets"]
        )
    return DataLoader(
        dataset,
        batch_size=8,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context=method if workers else None,
        persistent_workers=persistent and workers > 0,
        collate_fn=list,
        prefetch_factor=2 if workers else None,
    )


def run_epochs(loader, expected, count=3):
    """Read some epochs, check each sample, and return the number of reads of each epoch."""
    reads = []
    log = loader.dataset.dataset.log
    for _ in range(count):
        log.clear()
        samples = sorted((sample for batch in loader for sample in batch), key=lambda s: s[1])
        assert samples == expected
        reads.append(sum(log.count().values()))
    return reads


@pytest.mark.parametrize(
    ("workers", "method", "persistent"),
    [
        (0, None, False),
        (2, "fork", False),
        (2, "fork", True),
        (2, "spawn", True),
        (2, "forkserver", False),
        (2, "forkserver", True),
    ],
)
def test_shared_reads_every_sample_once_and_never_again(
    log, cache_folder, workers, method, persistent
):
    source = Samples(log, 40)
    with CachedDataset(source, "shared", **SMALL) as cached:
        loader = make_loader(cached, workers, method, persistent=persistent)
        expected = [source.sample(idx) for idx in range(40)]
        assert run_epochs(loader, expected) == [40, 0, 0]
        stats = cached.stats()
        assert (stats.source_reads, stats.misses, stats.stores) == (40, 40, 40)
        assert stats.hits == 80
        assert stats.corrupt == stats.refused == stats.backend_errors == 0
        del loader  # and its workers
    assert cached.stats().hits == 80
    assert namespaces_in(cache_folder) == []


@pytest.mark.slow
def test_workers_of_an_older_fork_server_use_the_folder_of_their_parent(log, tmp_path, monkeypatch):
    multiprocessing.forkserver.ensure_running()
    monkeypatch.setenv("KAPPACORE_DIR", str(tmp_path))
    with CachedDataset(Samples(log, 8), "shared", **SMALL) as cached:
        list(cached)
        monkeypatch.setenv("KAPPACORE_DIR", str(tmp_path / "later"))
        assert run_epochs(make_loader(cached, 1, "forkserver"), list(cached), 1) == [0]
        assert cached.stats().hits == 16


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
@pytest.mark.parametrize("workers", [1, 3, 5])
def test_the_number_of_workers_makes_no_difference(log, workers):
    source = Samples(log, 30, delay=0.001)
    with CachedDataset(source, "shared", **SMALL) as cached:
        expected = [source.sample(idx) for idx in range(30)]
        loader = make_loader(cached, workers, "fork")
        assert run_epochs(loader, expected) == [30, 0, 0]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_that_want_the_same_sample_at_the_same_time_read_it_once(log):
    source = Samples(log, 5, delay=0.005)
    with CachedDataset(source, "shared", **SMALL) as cached:
        loader = DataLoader(
            cached,
            batch_size=4,
            sampler=RandomSampler(cached, replacement=True, num_samples=80),
            num_workers=3,
            multiprocessing_context="fork",
            collate_fn=list,
        )
        for batch in loader:
            assert batch == [source.sample(idx) for _, idx in batch]
        assert max(source.log.count().values()) == 1


@pytest.mark.slow
def test_items_are_cached_raw_and_decoded_in_the_workers(log):
    images = Images(log, 20)
    with CacheWrapper(images, "shared", **SMALL) as cached:
        loader = make_loader(ModeWrapper(cached, "x class"), 2, "fork")
        for epoch in range(3):
            pairs = [pair for batch in loader for pair in batch]
            assert sorted(int(x[0]) for x, _ in pairs) == list(range(20))
            assert all(int(x[0]) % 2 == label for x, label in pairs)
            assert images.reads() == dict.fromkeys(range(20), 1)
            assert images.decodings() == 20 * (epoch + 1)


def test_default_collate_takes_views_of_the_cache(log):
    images = Images(log, 20)
    with CacheWrapper(images, "shared", form="decoded", copy=False, **SMALL) as cached:
        loader = DataLoader(
            ModeWrapper(cached, "x class"),
            batch_size=5,
            num_workers=2,
            multiprocessing_context="fork",
        )
        for _ in range(2):
            xs = [x for x, _ in loader]
            assert [int(value) for x in xs for value in x[:, 0]] == list(range(20))


def test_two_loaders_at_the_same_time_share_what_they_read(log):
    source = Samples(log, 24)
    with CachedDataset(source, "shared", **SMALL) as cached:
        loaders = [make_loader(cached, 2, "fork") for _ in range(2)]
        for one, two in zip(*loaders, strict=True):
            assert len(one) == len(two) == 8
        assert source.log.count() == dict.fromkeys(range(24), 1)


def test_a_loader_that_is_left_in_the_middle_leaves_nothing(log, cache_folder):
    cached = CachedDataset(Samples(log, 100), "shared", **SMALL)
    loader = make_loader(cached, 2, "fork")
    next(iter(loader))
    del loader
    cached.close()
    assert [name for name in namespaces_in(cache_folder) if "shared/" in name] == []


# ---- memory


def test_memory_within_one_process(log):
    source = Samples(log, 40)
    with CachedDataset(source, "memory", **SMALL) as cached:
        loader = make_loader(cached, 0, None)
        assert run_epochs(loader, [source.sample(idx) for idx in range(40)]) == [40, 0, 0]


@pytest.mark.slow
def test_memory_filled_before_workers_are_forked_serves_them(log):
    source = Samples(log, 40)
    with CachedDataset(source, "memory", **SMALL) as cached:
        expected = list(cached)
        loader = make_loader(cached, 2, "fork")
        assert run_epochs(loader, expected) == [0, 0, 0]
        assert cached.stats().hits == 120


def note_warnings(path, _worker):
    """Write what a worker warns of into a file."""

    def note(message, category, *_):
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{category.__name__}: {message}\n")

    warnings.simplefilter("always")
    warnings.showwarning = note


@pytest.mark.parametrize(("persistent", "reads"), [(True, [40, 0, 0]), (False, [40, 40, 40])])
def test_memory_in_workers_is_of_little_use_and_says_so_once(log, tmp_path, persistent, reads):
    source = Samples(log, 40)
    with CachedDataset(source, "memory", **SMALL) as cached:
        loader = make_loader(cached, 1, "fork", persistent=persistent)
        loader.worker_init_fn = functools.partial(note_warnings, tmp_path / "warnings")
        assert run_epochs(loader, [source.sample(idx) for idx in range(40)]) == reads
    assert (tmp_path / "warnings").read_text() == (
        "CacheWarning: The cache backend 'memory' keeps samples in each DataLoader worker apart: "
        "every worker reads the source for itself, and again in every epoch unless "
        "persistent_workers=True. Use the backend 'shared' (pip install kappa-shared).\n"
    )
