"""Datasets above the backend: stored None, pickling, DataLoader workers."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from kappacore.testing.caching.case import forks_are_meant, run_program, slow
from kappacore.testing.caching.content import random_bytes

if TYPE_CHECKING:
    from kappacore.caching.datasets import CachedDataset
    from kappacore.testing.caching.case import Case

_PLAIN: list[Any] = [None, b"", b"bytes", 0, False, "", (), [], {}, (b"image", 7), (None, None)]
_SAMPLES = [(random_bytes(1000 * (idx % 5), idx), idx) for idx in range(24)]
_BATCH_SIZE = 4


_READ_BY_WORKERS = """
from kappacore.testing.caching.datasets import read_by_workers

read_by_workers(*arguments)
"""


class DatasetTests:
    """What holds for a ``CachedDataset``, which is how users meet the backend."""

    def test_a_stored_none_is_no_miss(self, case: Case) -> None:
        dataset = case.dataset(_PLAIN)
        for _ in range(3):
            assert list(dataset) == _PLAIN
        stats = dataset.stats()
        assert stats.source_reads == len(_PLAIN), "a sample was read from its source again"
        assert (stats.hits, stats.corrupt, stats.refused) == (2 * len(_PLAIN), 0, 0)

    def test_views_of_the_cache_are_exact_too(self, case: Case) -> None:
        dataset = case.dataset(_SAMPLES, copy=False, check_digests="always")
        assert dataset.__getitems__(range(len(_SAMPLES))) == _SAMPLES
        held = dataset.__getitems__(range(len(_SAMPLES)))
        if case.defines("clear"):
            dataset.clear()
        dataset.close()
        assert [(bytes(data), idx) for data, idx in held] == _SAMPLES

    def test_a_dataset_survives_pickling(self, case: Case) -> None:
        case.skip_unless_sendable()
        dataset = case.dataset(_SAMPLES)
        assert list(dataset) == _SAMPLES
        with pickle.loads(pickle.dumps(dataset)) as again:  # noqa: S301 - just made
            assert list(again) == _SAMPLES
            if case.shares:
                assert again.stats().source_reads == len(_SAMPLES), "it was read again"

    def test_forked_workers_read_through_the_cache(self, case: Case) -> None:
        dataset = case.dataset(_SAMPLES)
        if not case.shares:
            list(dataset)  # forked workers find it; empty caches of their own would be warned of
        read_by_workers(dataset, "fork")
        _check_reads(case, dataset)

    @slow
    @pytest.mark.parametrize("start", ["spawn", "forkserver"])
    def test_workers_in_a_new_python_read_through_the_cache(self, case: Case, start: str) -> None:
        case.skip_unless_sendable()
        dataset = case.dataset(_SAMPLES)
        if not case.shares:
            list(dataset)
        if start == "forkserver":
            # Elsewhere: a server that this process started before may have another environment.
            run_program(case.timeout, _READ_BY_WORKERS, dataset, start)
        else:
            read_by_workers(dataset, start)
        _check_reads(case, dataset)


def _check_reads(case: Case, dataset: CachedDataset) -> None:
    """Fail if a sample was read twice, by whichever process."""
    if case.shares:
        assert list(dataset) == _SAMPLES
        reads = dataset.stats().source_reads
        assert reads == len(_SAMPLES), f"{reads} samples were read instead of {len(_SAMPLES)}"


def read_by_workers(dataset: CachedDataset, start: str) -> None:
    """Read all samples twice by DataLoader workers that are started in the given way."""
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=_BATCH_SIZE,
        num_workers=2 if start == "fork" else 1,  # a new Python takes seconds to import torch
        persistent_workers=start != "fork",
        multiprocessing_context=start,
        collate_fn=list,
    )
    with forks_are_meant():
        for _ in range(2):
            assert [sample for batch in loader for sample in batch] == _SAMPLES
