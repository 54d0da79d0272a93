"""An image folder opened by its index is the folder as it is, or the index is made anew."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from kappa_imagefolder import EmptyClassError, ImageFolder, IndexFileError, NoClassesError
from kappa_imagefolder import folders as folders_module
from kappa_imagefolder import index as index_module
from kappa_imagefolder.folders import folder_times
from kappa_imagefolder.index import about, save_index
from kappa_imagefolder.paths import LazySequence, Listing, pack
from kappa_imagefolder.scan import Rules, Scan
from kappacore import InvalidOptionError
from support.image_trees import make_tree, picture

FILES = ["cat/1.jpg", "cat/2.png", "cat/deep/3.jpg", "dog/4.jpg", "dog/größe.jpg"]
CHECKS = ["trust", "dirs", "full"]


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    home = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder that counts as settled, although it was made just now."""
    monkeypatch.setattr(index_module, "SETTLED", 0)
    root = make_tree(tmp_path / "data", FILES)
    time.sleep(0.02)  # the clock of a file system ticks a few times in a hundredth of a second
    return root


def change(action):
    time.sleep(0.02)
    action()
    time.sleep(0.02)


def index_in(folder):
    return sorted(folder.glob(".kappa_imagefolder-*"))


def assert_same(ds, other):
    assert ds.classes == other.classes
    assert ds.class_to_idx == other.class_to_idx
    assert ds.samples == other.samples
    assert ds.targets == other.targets
    assert ds.fingerprint("x") == other.fingerprint("x")


@pytest.mark.parametrize("check", CHECKS)
def test_a_folder_opened_by_its_index_is_the_same(root, check):
    plain = ImageFolder(root)
    made = ImageFolder(root, index=True, index_check=check)
    opened = ImageFolder(root, index=True, index_check=check)
    assert [Path(ds.index_path) for ds in (made, opened)] == index_in(root) * 2
    assert plain.index_path is None
    for ds in (made, opened):
        assert_same(ds, plain)
        assert ds[2][0].tobytes() == plain[2][0].tobytes()
    assert_same(ImageFolder(root), plain)  # the index itself is no part of the folder


def test_an_index_that_is_right_is_not_written_again(root):
    place = Path(ImageFolder(root, index=True).index_path)
    before = place.stat().st_ino
    for check in CHECKS:
        ImageFolder(root, index=True, index_check=check)
    assert place.stat().st_ino == before


def test_trust_reads_no_folder(root):
    ImageFolder(root, index=True)
    for name in ("cat", "dog"):
        shutil.rmtree(root / name)
    ds = ImageFolder(root, index=True, index_check="trust")
    assert ds.classes == ["cat", "dog"]
    assert len(ds) == 5
    with pytest.raises(NoClassesError):
        ImageFolder(root, index=True)


@pytest.mark.parametrize("check", ["dirs", "full"])
@pytest.mark.parametrize("what", ["added", "removed", "renamed", "deep", "class", "less"])
def test_a_change_of_the_folder_is_seen(root, check, what):
    ImageFolder(root, index=True)
    actions = {
        "added": lambda: picture(9).save(root / "dog/9.jpg"),
        "removed": (root / "cat/1.jpg").unlink,
        "renamed": lambda: (root / "cat/1.jpg").rename(root / "cat/0.jpg"),
        "deep": lambda: picture(9).save(root / "cat/deep/9.jpg"),
        "class": lambda: make_tree(root, ["bee/1.jpg"]),
        "less": lambda: shutil.rmtree(root / "cat"),
    }
    change(actions[what])
    for _ in range(2):
        assert_same(ImageFolder(root, index=True, index_check=check), ImageFolder(root))
    assert_same(ImageFolder(root, index=True, index_check="trust"), ImageFolder(root))


def test_classes_that_trade_names_are_seen(root):
    ImageFolder(root, index=True)

    def trade():
        (root / "cat").rename(root / "x")
        (root / "dog").rename(root / "cat")
        (root / "x").rename(root / "dog")

    change(trade)
    assert_same(ImageFolder(root, index=True), ImageFolder(root))


def test_times_that_were_set_back_are_seen(root):
    ImageFolder(root, index=True)
    before = (root / "dog").stat()

    def act():
        picture(9).save(root / "dog/9.jpg")
        os.utime(root / "dog", ns=(before.st_atime_ns, before.st_mtime_ns))

    change(act)
    assert len(ImageFolder(root, index=True)) == 6


def test_a_folder_that_changed_a_moment_ago_is_not_believed_yet(tmp_path, monkeypatch):
    """File systems note times in steps; a change within the same step would not be seen."""
    root = make_tree(tmp_path / "data", FILES)
    place = Path(ImageFolder(root, index=True).index_path)
    first = place.stat().st_ino
    picture(9).save(root / "dog/9.jpg")
    assert len(ImageFolder(root, index=True)) == 6
    assert place.stat().st_ino != first
    monkeypatch.setattr(index_module, "SETTLED", 0)  # as if seconds had passed
    time.sleep(0.02)
    ImageFolder(root, index=True)
    second = place.stat().st_ino
    ImageFolder(root, index=True)
    assert place.stat().st_ino == second


def test_storage_that_keeps_no_times_is_scanned(root, monkeypatch):
    for module in (index_module, folders_module):
        monkeypatch.setattr(module, "folder_times", lambda path: (0, 0))
    ImageFolder(root, index=True)
    picture(9).save(root / "dog/9.jpg")
    assert len(ImageFolder(root, index=True)) == 6


def test_links_are_followed_by_the_index_too(root, tmp_path):
    store = make_tree(tmp_path / "store", ["a/1.jpg"])
    (root / "eel").symlink_to(store / "a")
    (root / "cat" / "back").symlink_to(root / "cat")
    time.sleep(0.02)
    ImageFolder(root, index=True)
    change(lambda: picture(9).save(store / "a/2.jpg"))
    assert_same(ImageFolder(root, index=True), ImageFolder(root))
    assert len(ImageFolder(root)) == 7


def test_an_index_moves_and_is_copied_with_the_folder(root, tmp_path):
    ImageFolder(root, index=True)
    copied = shutil.copytree(root, tmp_path / "copy")
    (place,) = index_in(copied)
    before = place.stat().st_ino
    trusted = ImageFolder(copied, index=True, index_check="trust")
    assert_same(trusted, ImageFolder(copied))
    assert place.stat().st_ino == before
    assert_same(ImageFolder(copied, index=True), ImageFolder(copied))


# ---- where it lies


def test_an_index_can_lie_elsewhere(root, tmp_path):
    place = tmp_path / "indices" / "train.index"
    with pytest.raises(IndexFileError, match=rf"cannot write an index of '{root}' to '{place}': "):
        ImageFolder(root, index=place)
    place.parent.mkdir()
    for _ in range(2):
        ds = ImageFolder(root, index=place)
        assert ds.index_path == str(place)
        assert_same(ds, ImageFolder(root))
    assert index_in(root) == []


def test_an_index_of_another_folder_is_not_taken_even_on_trust(root, tmp_path, caplog):
    other = make_tree(tmp_path / "other", FILES[:2])
    place = tmp_path / "x.index"
    ImageFolder(other, index=place)
    ds = ImageFolder(root, index=place, index_check="trust")
    assert_same(ds, ImageFolder(root))
    assert f"the index '{place}' is for another root; it will be replaced" in caplog.text


def test_the_index_made_last_is_the_one_to_trust(root):
    """The one in a folder that cannot be written any more is older than the one in the cache."""
    inside = Path(ImageFolder(root, index=True).index_path)
    change((root / "cat/1.jpg").unlink)
    other = index_module._places(str(root), Rules())[1]
    Path(other).parent.mkdir(parents=True)
    ImageFolder(root, index=other)
    for newer, older, count in ((other, inside, 4), (inside, other, 5)):
        os.utime(older, ns=(10**9, 10**9))
        os.utime(newer, ns=(2 * 10**9, 2 * 10**9))
        ds = ImageFolder(root, index=True, index_check="trust")
        assert (ds.index_path, len(ds)) == (str(newer), count)


def test_a_relative_cache_folder_is_ignored(root, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/somebody")
    places = index_module._places(str(root), Rules())
    assert Path(places[1]).parent == Path("/home/somebody/.cache/kappa_imagefolder")
    monkeypatch.setenv("HOME", "~")  # as for a user that the system does not know
    assert index_module._places(str(root), Rules()) == places[:1]


@pytest.fixture
def as_nobody():
    """As a user who may not write everywhere."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.fixture
def readable(root):
    """The folder where any user can read it and nobody can write it."""
    base = Path(tempfile.mkdtemp(prefix="kappa-imagefolder-test-"))
    base.chmod(0o755)
    home = base / "home"
    home.mkdir()
    home.chmod(0o777)
    folder = base / "data"
    shutil.copytree(root, folder)
    time.sleep(0.02)
    folder.chmod(0o555)
    yield folder, home
    folder.chmod(0o755)
    shutil.rmtree(base)


def test_the_index_of_a_read_only_folder_is_in_the_users_cache(readable, monkeypatch, as_nobody):
    folder, home = readable
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    for _ in range(2):
        ds = ImageFolder(folder, index=True)
        assert_same(ds, ImageFolder(folder))
        place = Path(ds.index_path)
        assert place.parent == home / "kappa_imagefolder"
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert len(list(place.parent.iterdir())) == 1
    assert index_in(folder) == []


def test_without_a_place_for_an_index_there_is_none(readable, monkeypatch, caplog, as_nobody):
    folder, _ = readable
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    ds = ImageFolder(folder, index=True)
    assert ds.index_path is None
    assert_same(ds, ImageFolder(folder))
    assert "cannot write an index" in caplog.text
    assert "The next opening scans again" in caplog.text


def test_a_class_that_is_the_root_itself_has_its_index_in_the_users_cache(root, cache_home):
    class Flat(ImageFolder):
        def find_classes(self, directory):
            return ["all"], {"": 0}

    for _ in range(2):
        ds = Flat(root, index=True)
        assert ds.samples == Flat(root).samples
        assert Path(ds.index_path).is_relative_to(cache_home)


# ---- what it was made for


def test_other_options_have_an_index_of_their_own(root):
    class Dogs(ImageFolder):
        def find_classes(self, directory):
            return ["dog"], {"dog": 0}

    make_tree(root, ["2/a.jpg", "10/a.jpg"])
    time.sleep(0.02)
    for _ in range(2):
        for options in ({}, {"extensions": ".jpg"}, {"class_order": "natural"}):
            assert_same(ImageFolder(root, index=True, **options), ImageFolder(root, **options))
        assert_same(Dogs(root, index=True, index_check="trust"), Dogs(root))
    assert len(index_in(root)) == 4


def test_an_own_find_classes_is_asked_even_on_trust(root):
    chosen = ["cat"]

    class Chosen(ImageFolder):
        def find_classes(self, directory):
            return chosen, {name: idx for idx, name in enumerate(chosen)}

    assert Chosen(root, index=True, index_check="trust").classes == ["cat"]
    chosen = ["dog"]
    ds = Chosen(root, index=True, index_check="trust")
    assert ds.classes == ["dog"]
    assert len(ds) == 2


@pytest.mark.parametrize("check", CHECKS)
def test_an_empty_class_is_an_error_by_the_index_too(root, check):
    (root / "bare").mkdir()
    for _ in range(2):
        with pytest.raises(EmptyClassError, match=r"1 of the 3 classes .* have no image: 'bare'"):
            ImageFolder(root, index=True, index_check=check)
        ds = ImageFolder(root, index=True, index_check=check, allow_empty=True)
        assert ds.classes == ["bare", "cat", "dog"]


def test_a_folder_without_any_image_has_an_index(tmp_path):
    (tmp_path / "data" / "x").mkdir(parents=True)
    for _ in range(2):
        assert ImageFolder(tmp_path / "data", allow_empty=True, index=True).samples == []


def test_names_that_are_not_utf8_are_kept(tmp_path):
    folder = tmp_path / "data" / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir(parents=True)
        picture().save(folder / os.fsdecode(b"gr\xfc.jpg"))
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    for _ in range(2):
        assert_same(ImageFolder(tmp_path / "data", index=True), ImageFolder(tmp_path / "data"))


# ---- workers and pickles


def test_who_has_the_old_index_open_keeps_it(root):
    ds = ImageFolder(root, index=True)
    before = list(ds.samples)
    change((root / "cat/1.jpg").unlink)
    assert len(ImageFolder(root, index=True)) == 4
    assert ds.samples == before


def test_a_pickle_holds_the_place_of_the_index_and_not_the_files(root):
    make_tree(root, [f"cat/{'long' * 20}{i}.jpg" for i in range(100)])
    ds = ImageFolder(root, index=True)
    data = pickle.dumps(ds)
    assert len(data) < 1500
    for other in (pickle.loads(data), copy.deepcopy(ds)):
        assert_same(other, ds)


@pytest.mark.parametrize("start", ["fork", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_workers_read_through_the_index(root, start):
    ds = ImageFolder(root, index=True, decode="tensor")
    loader = DataLoader(ds, batch_size=2, num_workers=2, multiprocessing_context=start)
    images, labels = zip(*loader, strict=True)
    assert torch.equal(torch.cat(images), torch.stack([ds[idx][0] for idx in range(5)]))
    assert torch.cat(labels).tolist() == ds.targets


def test_a_worker_never_takes_another_index_for_the_one_that_was_opened(root):
    data = pickle.dumps(ImageFolder(root, index=True))
    change((root / "cat/1.jpg").unlink)
    place = ImageFolder(root, index=True).index_path
    with pytest.raises(IndexFileError, match=rf"'{place}', .*, is another one; .* Open it anew"):
        pickle.loads(data)
    Path(place).unlink()
    with pytest.raises(IndexFileError, match=r"is gone; the folder has changed since then"):
        pickle.loads(data)


def test_a_worker_takes_an_index_made_anew_that_holds_the_same(tmp_path, monkeypatch):
    """Another rank opened the folder later, and noted times that were too recent before."""
    root = make_tree(tmp_path / "data", FILES)
    ds = ImageFolder(root, index=True)
    data, before = pickle.dumps(ds), Path(ds.index_path).read_bytes()
    monkeypatch.setattr(index_module, "SETTLED", 0)
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


# ---- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 3}, "index must be True, False or the path of an index file, got 3"),
        ({"index": None}, "index must be True, False or the path of an index file, got None"),
        ({"index": True, "is_valid_file": str}, "an index cannot tell whether is_valid_file"),
        ({"index_check": "mtime"}, "index_check must be one of 'trust', 'dirs', 'full', got"),
    ],
)
def test_options_that_make_no_sense_are_refused(root, options, message):
    with pytest.raises(InvalidOptionError, match=message):
        ImageFolder(root, **options)


def test_a_path_that_is_a_folder_is_said(root, tmp_path):
    with pytest.raises(IndexFileError, match=r"cannot write an index of .*: Is a directory"):
        ImageFolder(root, index=tmp_path)


# ---- memory

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
def test_four_workers_share_the_memory_of_a_million_files(tmp_path):
    """In an epoch of labels and paths they grow by less than 5 %."""
    root, place = tmp_path / "data", tmp_path / "index"
    (root / "x").mkdir(parents=True)
    names = [f"x/n{i // 1000:08}_{i:08}.JPEG" for i in range(1_000_000)]
    listing = Listing.of(pack(names), np.zeros(len(names), np.int32))
    found = Scan(listing, [], {"x": folder_times(str(root / "x"))})
    save_index([str(place)], about(str(root), Rules()), (["x"], {"x": 0}), found, chosen=True)

    command = [sys.executable, "-c", MEASURE, str(root), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, workers, began, growth = map(int, done.stdout.split())
    assert (count, workers) == (1_000_000, 4)
    assert growth < 0.05 * began
