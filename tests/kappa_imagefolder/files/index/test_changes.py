"""An image folder opened by its index is the folder as it is, or the index is made anew."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from kappa_imagefolder import ImageFolder, NoClassesError
from kappa_imagefolder.files import open_folder as index_module
from kappa_imagefolder.files import scan as scan_module
from support.image_indices import CHECKS, FILES, assert_same, change, index_in
from support.image_trees import make_tree, picture


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
    path = Path(ImageFolder(root, index=True).index_path)
    before = path.stat().st_ino
    for check in CHECKS:
        ImageFolder(root, index=True, index_check=check)
    assert path.stat().st_ino == before


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
    path = Path(ImageFolder(root, index=True).index_path)
    first = path.stat().st_ino
    picture(9).save(root / "dog/9.jpg")
    assert len(ImageFolder(root, index=True)) == 6
    assert path.stat().st_ino != first
    monkeypatch.setattr(scan_module, "SETTLED", 0)  # as if seconds had passed
    time.sleep(0.02)
    ImageFolder(root, index=True)
    second = path.stat().st_ino
    ImageFolder(root, index=True)
    assert path.stat().st_ino == second


def test_storage_that_keeps_no_times_is_scanned(root, monkeypatch):
    for module in (index_module, scan_module):
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
    (path,) = index_in(copied)
    before = path.stat().st_ino
    trusted = ImageFolder(copied, index=True, index_check="trust")
    assert_same(trusted, ImageFolder(copied))
    assert path.stat().st_ino == before
    assert_same(ImageFolder(copied, index=True), ImageFolder(copied))
