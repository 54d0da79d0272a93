"""Workers and pickles read through the very index that was opened, and share its memory."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kappa_imagefolder import ImageFolder, IndexFileError
from kappa_imagefolder.files import scan as scan_module
from kappa_imagefolder.files.listing import LazySequence, Listing, OpenFolder, pack
from kappa_imagefolder.files.open_folder import purpose_of, save_index
from kappa_imagefolder.files.scan import Rules, folder_times
from support.image_indices import FILES, assert_same, change
from support.image_trees import make_tree


def test_who_has_the_old_index_open_keeps_it(root):
    ds = ImageFolder(root, index=True)
    before = list(ds.samples)
    change((root / "cat/1.jpg").unlink)
    assert len(ImageFolder(root, index=True)) == 4
    assert ds.samples == before


def test_a_pickle_holds_the_path_of_the_index_and_not_the_files(root):
    make_tree(root, [f"cat/{'long' * 20}{i}.jpg" for i in range(100)])
    ds = ImageFolder(root, index=True)
    data = pickle.dumps(ds)
    assert len(data) < 1500
    for other in (pickle.loads(data), copy.deepcopy(ds)):
        assert_same(other, ds)


@pytest.mark.parametrize("start", ["fork", "forkserver"])
def test_workers_read_through_the_index(root, start):
    ds = ImageFolder(root, index=True, decode="tensor")
    loader = DataLoader(ds, batch_size=2, num_workers=2, multiprocessing_context=start)
    images, labels = zip(*loader, strict=True)
    assert torch.equal(torch.cat(images), torch.stack([ds[idx][0] for idx in range(5)]))
    assert torch.cat(labels).tolist() == ds.targets


def test_a_worker_never_takes_another_index_for_the_one_that_was_opened(root):
    data = pickle.dumps(ImageFolder(root, index=True))
    change((root / "cat/1.jpg").unlink)
    path = ImageFolder(root, index=True).index_path
    with pytest.raises(
        IndexFileError, match=rf"'{path}', .*, has been replaced by another one; .* Open it again"
    ):
        pickle.loads(data)
    Path(path).unlink()
    with pytest.raises(IndexFileError, match=r"is gone; the folder has changed since then"):
        pickle.loads(data)


def test_a_worker_takes_an_index_made_anew_that_holds_the_same(tmp_path, monkeypatch):
    """Another rank opened the folder later, and noted times that were too recent before."""
    root = make_tree(tmp_path / "data", FILES)
    ds = ImageFolder(root, index=True)
    data, before = pickle.dumps(ds), Path(ds.index_path).read_bytes()
    monkeypatch.setattr(scan_module, "SETTLED", 0)
    time.sleep(0.02)
    ImageFolder(root, index=True)
    assert Path(ds.index_path).read_bytes() != before
    assert_same(pickle.loads(data), ds)


def test_reading_by_the_index_writes_nothing(root):
    ds = ImageFolder(root, index=True)
    assert not ds._listing.paths.blob.flags.writeable
    assert not ds._listing.labels.flags.writeable
    ds.getall_class()[:] = 7
    assert ds.targets == [0, 0, 0, 1, 1]
    assert isinstance(ds.samples, LazySequence)


COUNT = 250_000  # with a Python string for each, the workers grow by 13 %
MEASURE = """
import gc, os, sys, warnings
from torch.utils.data import DataLoader
from kappa_imagefolder import ImageFolder
from kappacore import ModeWrapper

def memory():
    lines = open("/proc/self/smaps_rollup").read().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return kilobytes["Pss"], kilobytes["Private_Dirty"]  # its share of all; what it alone has

def collate(samples):
    return os.getpid(), memory(), len(samples)

warnings.filterwarnings("ignore", message="This DataLoader will create")
ds = ImageFolder(sys.argv[1], index=sys.argv[2], index_check="trust")
gc.freeze()  # a collection in a worker would write to every object of the interpreter
samples = ModeWrapper(ds, "class path")
first, last, count = {}, {}, 0
for pid, used, size in DataLoader(samples, batch_size=5000, num_workers=4, collate_fn=collate):
    count += size
    first.setdefault(pid, used)
    last[pid] = used
began = sum(share for share, _ in first.values())
growth = sum(last[pid][1] - first[pid][1] for pid in first)
print(count, len(first), began, growth)
"""


@pytest.mark.slow
def test_four_workers_share_the_memory_of_many_files(tmp_path):
    """In an epoch of labels and paths they grow by less than 5 %."""
    root, path = tmp_path / "data", tmp_path / "index"
    (root / "x").mkdir(parents=True)
    names = [f"x/n{i // 1000:08}_{i:08}.JPEG" for i in range(COUNT)]
    listing = Listing(pack(names), np.zeros(len(names), np.int32))
    times = np.array([folder_times(str(root / "x"))])
    found = OpenFolder(listing, (["x"], {"x": 0}), [], pack(["x"]), times)
    save_index([str(path)], purpose_of(str(root), Rules()), found, chosen=True)

    command = [sys.executable, "-c", MEASURE, str(root), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, workers, began, growth = map(int, done.stdout.split())
    assert (count, workers) == (COUNT, 4)
    assert growth < 0.05 * began
