"""Nothing reads the source but who would have read it: files opened late stay as they were."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import kappacore
from kappacore import CachedDataset, CacheWrapper, KDConcatDataset, KDDataset, KDSubset, ModeWrapper
from support.caching import RecordingBackend
from support.workers import workers

LENGTH, SIZE = 300, 512
SMALL = {"max_bytes": "4MiB"}


class LateFile:
    """An open file; it has one position, whichever process reads."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDONLY)

    def record(self, idx):
        os.lseek(self.fd, idx * SIZE, os.SEEK_SET)
        half = os.read(self.fd, SIZE // 2)
        return half + os.read(self.fd, SIZE // 2)

    def __reduce__(self):
        raise TypeError("cannot pickle an open file")

    def __del__(self):
        os.close(self.fd)


class Records(torch.utils.data.Dataset):
    """Opens its file at the first read."""

    def __init__(self, path):
        self.path, self.file = path, None

    def __len__(self):
        return LENGTH

    def __getitem__(self, idx):
        if self.file is None:
            self.file = LateFile(self.path)
        return self.file.record(idx)


class RecordItems(KDDataset):
    def __init__(self, path):
        self.path, self.file = path, None

    def __len__(self):
        return LENGTH

    def getitem_x(self, idx, ctx=None):
        if self.file is None:
            self.file = LateFile(self.path)
        return self.file.record(idx)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "records"
    np.random.default_rng(0).integers(0, 256, (LENGTH, SIZE), dtype=np.uint8).tofile(path)
    return path


def expected(path):
    data = path.read_bytes()
    return [data[start : start + SIZE] for start in range(0, len(data), SIZE)]


def epoch(dataset, method):
    loader = DataLoader(dataset, batch_size=10, collate_fn=list, **workers(method))
    return [sample for batch in loader for sample in batch]


@pytest.mark.parametrize(
    ("method", "prefilled"),
    [("fork", False), ("fork", True), ("forkserver", True), ("forkserver", False)],
)
def test_a_file_that_workers_open_is_opened_by_no_one_else(path, method, prefilled):
    source = Records(path)
    with CachedDataset(source, "shared", **SMALL) as cached:
        if prefilled:
            assert cached.prefill(progress=False) == LENGTH
        assert source.file is None
        assert epoch(cached, method) == expected(path)
        assert epoch(cached, "fork") == expected(path)
        assert source.file is None


def test_nor_is_one_of_items(path):
    source = RecordItems(path)
    with CacheWrapper(source, "shared", **SMALL) as cached:
        assert cached.prefill(progress=False) == LENGTH
        assert source.file is None
        assert len(pickle.dumps(cached)) < 2000
        assert epoch(ModeWrapper(cached, "x"), "fork") == expected(path)


@pytest.mark.parametrize("threads", [0, 3])
def test_prefill_reads_through_copies_of_all_datasets_inside(path, threads):
    first, second = RecordItems(path), RecordItems(path)
    both = KDSubset(KDConcatDataset([KDSubset(first, range(4)), second]), range(3, 7))
    with CachedDataset(ModeWrapper(both, "x"), "shared", **SMALL) as cached:
        assert cached.prefill(progress=False, threads=threads) == 4
        assert (first.file, second.file) == (None, None)
        one = expected(path)
        assert list(cached) == [one[3], *one[:3]]
    torch_subset = torch.utils.data.Subset(Records(path), [5, 6])
    with CachedDataset(torch_subset, "memory", **SMALL) as cached:
        assert cached.prefill(progress=False) == 2
        assert torch_subset.dataset.file is None


class Helped(torch.utils.data.Dataset):
    """Reads by a helper, which opens the file; one helper for two datasets."""

    def __init__(self, reader):
        self.reader = reader

    def __len__(self):
        return LENGTH

    def __getitem__(self, idx):
        return self.reader.item(idx)


class Reader:
    """A helper that opens its file at the first read, and is no dataset."""

    def __init__(self, path):
        self.path, self.file = path, None

    item = Records.__getitem__


def test_prefill_opens_no_file_of_a_helper(path):
    reader = Reader(path)
    both = torch.utils.data.ConcatDataset([Helped(reader), Helped(reader)])
    with CachedDataset(both, "shared", **SMALL) as cached:
        assert cached.prefill(progress=False) == 2 * LENGTH
        kappacore.explain(cached)
        assert reader.file is None
        assert epoch(cached, "fork") == expected(path) * 2
        assert both.datasets[0].reader is both.datasets[1].reader is reader


class Closing(torch.utils.data.Dataset):
    """Closes its file when it goes; it may be open from the start."""

    def __init__(self, path, opened):
        self.path = path
        self.file = path.open("rb") if opened else None

    def __len__(self):
        return LENGTH

    def __getitem__(self, idx):
        if self.file is None:
            self.file = self.path.open("rb")
        self.file.seek(idx * SIZE)
        return self.file.read(SIZE)

    def __del__(self):
        if self.file is not None:
            self.file.close()


class ClosingHelper(Closing):
    item = Closing.__getitem__


@pytest.mark.parametrize("opened", [False, True])
def test_a_file_that_is_closed_at_the_end_is_not_closed_before(path, opened):
    for source in (Closing(path, opened), Helped(ClosingHelper(path, opened))):
        for _ in range(2):
            with CachedDataset(source, "memory", **SMALL) as cached:
                assert cached.prefill(progress=False) == LENGTH
                kappacore.explain(cached)
            gc.collect()
            if not opened and type(source) is Closing:
                assert source.file is None
        assert [source[idx] for idx in range(LENGTH)] == expected(path)


def test_explaining_opens_nothing_either(path):
    source = Records(path)
    with CachedDataset(source, "memory", **SMALL) as cached:
        assert "ms a sample" in kappacore.explain(cached)
        assert source.file is None


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("namespace", [None, "n"])
def test_opening_is_one_look_up_however_long_the_dataset_is(recording, check, namespace):
    class Long(list):
        def __len__(self):
            return 1_281_167

        def __getitem__(self, idx):
            raise AssertionError("opening reads no sample")

    with CachedDataset(Long(), "recording", check=check, namespace=namespace):
        name, _ = RecordingBackend.take_calls()[0]
        assert name == "open"
    for _ in range(2):  # the second time with a header
        with CachedDataset(Long(), "recording", check=check, namespace=namespace) as cached:
            (_, _), *calls = RecordingBackend.take_calls()
            assert calls[-1] == ("get", [1_281_167])
            with contextlib.suppress(AssertionError):
                cached[0]
            RecordingBackend.take_calls()


def test_the_first_miss_looks_in_the_process_that_loads(tmp_path):
    looks = tmp_path / "looks"

    class Noting(list):
        def __getitem__(self, idx):
            with looks.open("a") as file:
                file.write(f"{multiprocessing.current_process().name}\n")
            return super().__getitem__(idx)

    with CachedDataset(Noting(range(10)), "shared", **SMALL) as cached:
        assert sorted(epoch(cached, "fork")) == list(range(10))
    assert "MainProcess" not in looks.read_text()
